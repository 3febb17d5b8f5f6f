"""Requests to the managers of a run on hosts: which host gets which, and what became of them."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from build_manifest.faults import listed
from queue_manager.core.events import JobsChanged
from queue_manager.core.manifest import graph_faults
from queue_manager.core.requests import Request
from skill.common.errors import UseError
from skill.runs import assignment, directory
from skill.runs.access import Outcome, Share
from skill.runs.assignment import LOST
from skill.runs.directory import Document
from skill.runs.requests import Asked

if TYPE_CHECKING:
    from skill.runs.remote import RemoteRun, Why

_LOOK = 35.0
"""Seconds for a host to say how it stands after it was asked something."""


def going(document: Document) -> list[str]:
    """The hosts whose managers have not finished, as far as is known."""
    hosts = document["meta"]["hosts"]
    return [row["name"] for row in hosts if row["manager"] != "finished" and row["state"] != LOST]


def by_host(document: Document, request: Request, *, finished: bool) -> dict[str, Request]:
    """A request about jobs, for each host that has some of them. `finished`: also where the manager has finished."""
    over = {row["name"] for row in document["meta"]["hosts"] if row["manager"] == "finished" and not finished}
    wanted = set(request.jobs)
    jobs: dict[str, list[str]] = {}
    for row in document["jobs"]:
        if row["id"] in wanted and row["host"] not in over:
            jobs.setdefault(row["host"], []).append(row["id"])
    return {
        host: request._replace(
            jobs=tuple(ids), changes={name: fields for name, fields in request.changes.items() if name in ids}
        )
        for host, ids in jobs.items()
    }


def send(there: RemoteRun, document: Document, request: Request, *, start: bool) -> list[Outcome]:
    """Send a request to all hosts that it is for. Raises OSError."""
    if request.verb == "update":
        return update(there, document, request)
    if request.verb in ("pause", "resume"):
        requests = dict.fromkeys(going(document), request)
    else:
        requests = by_host(document, request, finished=request.verb != "cancel")
    found = ask(there, document, requests, start=start) if requests else []
    _note_changes(there, found, request)  # what is accepted may be another output
    return found


def ask(there: RemoteRun, document: Document, requests: Mapping[str, Request], *, start: bool) -> list[Outcome]:
    """Ask all these hosts at once. `start`: where no manager lives, start one. What fails on one stops no other."""
    found, started = _ask(there, document, requests, start=start)
    # If a host is lost, what was last read of it says what runs elsewhere.
    moves = any(request.verb in ("cancel", "retry") for request in requests.values())
    return _outcomes(there, found, started, found if moves else started)


def _ask(
    there: RemoteRun, document: Document, requests: Mapping[str, Request], *, start: bool
) -> tuple[dict[str, Asked | Why], list[str]]:
    """What all these hosts answer, and on which a manager was started."""
    found = there.ask(requests)
    started: list[str] = []
    if start:
        gone = [name for name, one in found.items() if isinstance(one, Asked) and one == Asked(None, alive=False)]
        pids = there.start(gone, document["meta"]["poll"]) if gone else {}
        started = [name for name, pid in pids.items() if isinstance(pid, int)]
        found |= {name: pid for name, pid in pids.items() if not isinstance(pid, int)}
        found |= there.ask({name: requests[name] for name in started})
    return found, started


def _outcomes(
    there: RemoteRun, found: Mapping[str, Asked | Why], started: Sequence[str], looked: Collection[str]
) -> list[Outcome]:
    """What became of requests, once the hosts in `looked` have been looked at again."""
    if looked:
        there.each(there.look_at, _LOOK, looked)
    conditions = there.document()["meta"]["conditions"] if started else []
    return [
        Outcome(name, found[name], name in started, directory.start_notices(conditions, name))
        for name in there.names
        if name in found
    ]


def add(there: RemoteRun, document: Document, request: Request, share: Share) -> list[Outcome]:
    """Share new jobs out among the hosts of a run, and note which host has which. Raises UseError and FailedError."""
    before = there.manifest
    names = {phase.name for phase in before.phases}
    whole = before._replace(
        phases=(*before.phases, *(phase for phase in request.phases if phase.name not in names)),
        groups={**before.groups, **request.groups},
        jobs=(*before.jobs, *request.specs),
    )
    faults = graph_faults(whole.phases, whole.groups, whole.jobs)
    if faults:
        raise UseError(f"nothing was added: {listed(faults)}")
    given = share(whole, request.specs, there.owner(), document)
    requests = {
        name: request._replace(phases=part.phases, groups=part.groups, specs=part.specs) for name, part in given.items()
    }
    found, started = _ask(there, document, requests, start=True)
    with assignment.changed(there.run) as now:
        for name, one in found.items():
            if isinstance(one, Asked) and one.answer is not None and one.answer.ok:
                part = now.assigned.part(name)
                ids = [spec.id for spec in given[name].specs if spec.id not in part.jobs]
                now.assigned = now.assigned.with_part(part._replace(jobs=(*part.jobs, *ids)))
                directory.note_added(there.run, given[name], time.time())
    there.refresh()
    return _outcomes(there, found, started, found)  # what was added is known here from now on


def update(there: RemoteRun, document: Document, request: Request) -> list[Outcome]:
    """Change jobs on the hosts that have them, and note what was changed. Raises OSError."""
    owner = there.owner()
    by_host: dict[str, dict[str, Mapping[str, Any]]] = {}
    for job, fields in request.changes.items():
        if job in owner:
            by_host.setdefault(owner[job], {})[job] = fields
    found = ask(there, document, {name: request._replace(changes=own) for name, own in by_host.items()}, start=True)
    _note_changes(there, found, request)
    return found


def _note_changes(there: RemoteRun, found: Iterable[Outcome], request: Request) -> None:
    changed = {
        job
        for outcome in found
        if isinstance(outcome.asked, Asked) and outcome.asked.answer is not None and outcome.asked.answer.ok
        for job in outcome.asked.answer.jobs
    }
    noted = {job: fields for job, fields in request.changes.items() if job in changed}
    if noted:
        directory.note_added(there.run, JobsChanged(noted), time.time())
