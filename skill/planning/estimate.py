"""How long a run over hosts will take, and in words how that was found. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import Manifest
from queue_manager.core.times import duration
from skill.common.units import count_text, jobs_text
from skill.planning.assign_jobs import MIN_SPEED, Offer, Sharing, at_once, need_of, unservable


class Estimate(NamedTuple):
    """`seconds`: None where nothing is known. `rounds`: how often the busiest host starts as many jobs as it can at
    once. `host`: the one that is done last. `how`: a sentence for people."""

    seconds: float | None
    rounds: int
    host: str | None
    how: str


def estimate(
    manifest: Manifest, offers: Sequence[Offer], sharing: Sharing, known: Mapping[str, tuple[float, int]]
) -> Estimate:
    """About how long the run takes until the last host is done.

    `known`: median seconds of a phase's jobs and how many were measured, see `plan.history`. On one host the phases
    are taken one after the other, each in rounds of as many jobs as fit at once; waiting for others is not counted.
    """
    by_name = {offer.name: offer for offer in offers}
    phase_of = {job.id: (job.phase, need_of(job)) for job in manifest.jobs}
    hosts: list[tuple[float, int, str]] = []
    phases: set[str] = set()
    for host, jobs in sharing.parts.items():
        offer = by_name[host]
        rounds, length = 0, 0.0
        for (phase, need), count in Counter(phase_of[job] for job in jobs).items():
            phases.add(phase)
            if unservable(need, manifest, offer):
                continue
            slots = at_once(need, manifest, offer) if need.gpus else manifest.max_parallel or max(1, offer.cores)
            turns = -(-count // slots)
            rounds += turns
            length += turns * known.get(phase, (0.0, 0))[0] / max(offer.speed, MIN_SPEED)
        hosts.append((length, rounds, host))
    order = [phase.name for phase in manifest.phases if phase.name in phases]
    unknown = [phase for phase in order if phase not in known]
    most = max((rounds for _, rounds, _ in hosts), default=0)
    if not hosts:
        return Estimate(None, 0, None, "unknown: no job has a host")
    if unknown:
        slowest = next(host for _, rounds, host in hosts if rounds == most)
        what = (
            "no run of this project yet" if len(unknown) == len(order) else f"no job of {listed(unknown)} was measured"
        )
        return Estimate(None, most, slowest, f"unknown: {what}; {_rounds(most)} of jobs on {slowest}")
    seconds, rounds, host = max(hosts, key=lambda row: row[0])
    measured = sum(known[phase][1] for phase in order)
    of = f"{jobs_text(measured)} of earlier runs"
    how = f"about {duration(seconds)}, from the median of {of} of each phase; {_rounds(rounds)} of jobs on {host}"
    return Estimate(round(seconds, 1), most, host, how)


def _rounds(count: int) -> str:
    return count_text(count, "round")
