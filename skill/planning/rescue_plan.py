"""Decide what happens to the jobs of a host that is given up, and how long a host must be silent before it may be.
Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from queue_manager.core.manifest import Manifest
from queue_manager.core.overview import MOST_PENDING
from queue_manager.core.status import Status
from skill.planning.assign_jobs import Offer
from skill.runs.assignment import LOST, Assigned, Batch, Part
from skill.runs.dependencies import Dependencies
from skill.runs.digest import FINAL, Row
from skill.runs.directory import Document

GAP = 60.0
"""Seconds without a look at the hosts after which nothing is concluded from the looks before."""


class Moving(NamedTuple):
    """The jobs of a host that is given up, in the order of its part.

    `moved`: they run elsewhere; `again`: those of them that had completed, but what they wrote is not here. `done`:
    they had completed, and nothing of them is missing. `cancelled`: they were cancelled, or wait for one that was, and
    stay so. `unknown`: ids of which nothing more is known here.
    """

    moved: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    cancelled: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def statuses(part: Part, documents: Iterable[Document]) -> dict[str, str]:
    """Return the last known status of each job of a host, by all that was ever read of it."""
    found: dict[str, str] = {}
    for document in sorted(documents, key=lambda one: one["meta"]["seq"]):
        rows = {row["id"]: row["status"] for row in document["jobs"]}
        if (
            document.get("overview")
            and document["jobs_total"] == len(part.jobs)
            and document["counts"].get(Status.PENDING.value, 0) <= MOST_PENDING
        ):
            # All that it leaves out are completed ones.
            rows = {**dict.fromkeys(part.jobs, Status.COMPLETED.value), **rows}
        found.update({job: status for job, status in rows.items() if found.get(job) != Status.COMPLETED.value})
    return found


def moving(manifest: Manifest, part: Part, known: Mapping[str, str], home: Collection[str]) -> Moving:
    """Decide about the jobs of a part. `known`: their statuses; `home`: jobs whose outputs are here."""
    dependencies = Dependencies(manifest)
    own = [job for job in part.own() if job in dependencies.jobs]
    done: set[str] = set()
    again: set[str] = set()
    cancelled: set[str] = set()
    for job in own:
        status = known.get(job)
        if status == Status.CANCELLED.value:
            cancelled.add(job)
        elif status == Status.COMPLETED.value:
            (done if dependencies.jobs[job].expected_output is None or job in home else again).add(job)
    before = -1
    while cancelled and len(cancelled) > before:
        before = len(cancelled)
        hopeless: dict[tuple[str, str], bool] = {}
        for job in own:
            if job not in done and job not in cancelled:
                for need in dependencies.needs(job):
                    key = need.kind, need.name
                    if key not in hopeless:
                        hopeless[key] = not cancelled.isdisjoint(need.ids)
                    if hopeless[key]:
                        cancelled.add(job)
    return Moving(
        tuple(job for job in own if job not in done and job not in cancelled),
        tuple(job for job in own if job in again and job not in cancelled),
        tuple(job for job in own if job in done),
        tuple(job for job in own if job in cancelled),
        tuple(job for job in part.own() if job not in dependencies.jobs),
    )


def weighed(offers: Sequence[Offer], hosts: Sequence[Row], count: int) -> list[Offer]:
    """The offers as they are for `count` jobs more: who has much to do yet counts as slower. `hosts`: `meta.hosts`."""
    left = {row["name"]: sum(n for name, n in row["counts"].items() if name not in FINAL) for row in hosts}
    return [offer._replace(speed=offer.speed * count / (count + left.get(offer.name, 0))) for offer in offers]


def noted(
    found: Assigned,
    lost: str,
    moved: Sequence[str],
    shares: Mapping[str, Sequence[str]],
    fresh: Mapping[str, Part],
    *,
    state: str = LOST,
    rungs: Mapping[str, int] = {},
) -> Assigned:
    """Return hosts.json after jobs were taken from a host: one that was given up, or one that keeps its others and its
    `state`. `shares`: who gets which jobs; `fresh`: the parts of hosts that had none; `rungs`: see assignment.Part.

    A host that has a part already gets a batch, whose id is the same however often this is done.
    """
    part = found.part(lost)
    kind = "rescue" if state == LOST else "recover"
    found = found.with_part(part._replace(state=state, moved=(*part.moved, *moved), revoked=False))
    for host, jobs in shares.items():
        come_to = {**part.rungs, **rungs}
        come_to = {job: come_to[job] for job in jobs if job in come_to}
        if host in fresh:
            found = found.with_part(fresh[host]._replace(rungs=come_to))
            continue
        taker = found.part(host)
        name = sha256(f"{found.run_id}\0{lost}".encode()).hexdigest()[:12]
        batch = Batch(f"{kind}-{name}-{len(taker.batches) + 1}", tuple(jobs))
        found = found.with_part(
            taker._replace(jobs=(*taker.jobs, *jobs), batches=(*taker.batches, batch), rungs={**taker.rungs, **come_to})
        )
    return found


class Silence(NamedTuple):
    """Since when each host has been silent while another one of the run answered. `at`: when that was looked at last.

    Times in seconds, of a clock that stands still while this machine sleeps.
    """

    since: Mapping[str, float] = {}
    at: float | None = None

    def next(self, hosts: Sequence[Row], now: float) -> Silence:
        """The same after a look. `hosts`: `meta.hosts`. Where none answers our own network is cut: all begins anew."""
        answers = any(row["reachable"] or row["answered"] for row in hosts if row["state"] != LOST)
        if not answers or (self.at is not None and now - self.at > GAP):
            return Silence({}, now)
        silent = [row["name"] for row in hosts if row["reason"] is not None and not row["answered"]]
        lost = {row["name"] for row in hosts if row["state"] == LOST}
        return Silence({name: self.since.get(name, now) for name in silent if name not in lost}, now)

    def due(self, after: float) -> list[str]:
        """The hosts that have been silent for so many seconds."""
        return [name for name, since in self.since.items() if self.at is not None and self.at - since >= after]
