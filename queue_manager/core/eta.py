"""Estimate the end of a run by letting it run against simulated time, from its present state. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import NamedTuple

from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.durations import Durations, Earlier, Going, unknown_words
from queue_manager.core.events import Record
from queue_manager.core.health import projected
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Card
from queue_manager.core.simulate import Machine, Simulation
from queue_manager.core.status import FINAL, Status

_AT_ONCE = 20
"""Events of one step."""


class Eta(NamedTuple):
    """`at`: when the last job ends (epoch seconds), None where unknown. `basis`: what the durations are based on;
    `note`: a condition for the estimate, or why there is none, in words."""

    at: float | None
    basis: tuple[str, ...] = ()
    note: str = ""


def estimate_end(
    state: QueueState,
    cards: Sequence[Card],
    cores: int,
    earlier: Earlier,
    now: float,
    health: Mapping[int, HealthReading],
    whole: AbstractSet[str] = frozenset(),
) -> Generator[None, None, Eta]:
    """Estimate in steps of a few jobs each. `state` as it is at the first step; a copy of it goes its own way, where
    anything is known. `cards` as they were read last; `now` in epoch seconds. A running job ends when its own progress
    says (`health`); in phases other than `whole` that may be the progress of one epoch alone, and so makes it no
    shorter. Outputs of other hosts are taken to be there in time: their managers are not known here."""
    left = [job.spec for job in state.jobs if job.status not in FINAL]
    durations = Durations([job.spec for job in state.jobs], earlier, _took(state), _going(state, health, whole, now))
    basis, unknown = durations.basis(left), durations.unknown(left)
    if unknown:
        return Eta(None, basis, unknown_words(unknown))

    state, note = state.copy(), ""
    if state.manifest.launcher == SLURM:
        slots = len(state.live) - state.tallies.queued
        if not slots:
            return Eta(None, basis, "none of its jobs runs now, and when Slurm starts the next one is not known")
        yield from _queued_again(state, slots, now)
        note = f"if {slots} run at a time, as now"

    def seconds(spec: JobSpec) -> float:
        return durations.seconds(spec) or 0.0

    seen = outside(state, cards)
    in_use = any(card.used_mib >= state.manifest.gpu_free_threshold_mib for card in seen)
    spare = state.copy() if in_use else None
    simulation = Simulation([Machine("", state, seen, cores)], seconds, now)
    yield from simulation.steps()
    found = simulation.result()
    if found.left and spare is not None:
        simulation = Simulation(
            [Machine("", spare, tuple(replace(one, used_mib=0) for one in seen), cores)], seconds, now
        )
        yield from simulation.steps()
        freed = simulation.result()
        if len(freed.left) < len(found.left):
            found, note = freed, _and(note, "once the GPUs that others use are free")
    if any(one.type == "carried" for spec in left for one in spec.preconditions):
        note = _and(note, "if outputs of other hosts arrive in time")
    ids = {spec.id for spec in left}
    never = [(job, why) for job, why in found.left.items() if job in ids]
    if never:
        why = f"{len(never)} job{'' if len(never) == 1 else 's'} that cannot go on now ({never[0][0]}: {never[0][1]})"
        if len(never) == len(left):
            return Eta(None, basis, why)
        note = _and(note, f"without {why}")
    return Eta(max(found.ends.values(), default=now), basis, note)


def _and(note: str, more: str) -> str:
    return f"{note}, {more}" if note else more


def _queued_again(state: QueueState, slots: int, now: float) -> Iterator[None]:
    """Let what waits in Slurm's queue be pending in a copy of a state, and no more jobs run at a time than do now: how
    many more the cluster has room for is not known."""
    for number, order in enumerate(order for order, attempt in list(state.live.items()) if attempt.is_queued):
        job = state.jobs[order]
        ended = ev.AttemptEnded(job.spec.id, job.n, Status.PENDING.value, charged=False)
        state.apply(Record(state.seq + 1, now, ended))
        if number % _AT_ONCE == 0:
            yield
    bound = state.manifest.max_parallel
    state.manifest = state.manifest._replace(max_parallel=slots if bound is None else min(slots, bound))


def _going(
    state: QueueState, health: Mapping[int, HealthReading], whole: AbstractSet[str], now: float
) -> dict[str, Going]:
    """The jobs that run, by their ids."""
    found = {}
    for order, attempt in state.live.items():
        if attempt.is_queued:
            continue
        spec, reading = state.jobs[order].spec, health.get(order)
        started = attempt.starting if attempt.started is None else attempt.started
        own = None if reading is None else projected(reading, started, attempt.n)
        found[spec.id] = Going(now - started, own, spec.phase in whole)
    return found


def _took(state: QueueState) -> dict[str, float]:
    """Return the seconds of each completed job."""
    return {
        job.spec.id: max(0.0, job.attempt_ended - job.started)
        for job in state.jobs
        if job.status is Status.COMPLETED and job.started is not None and job.attempt_ended is not None
    }


def outside(state: QueueState, cards: Sequence[Card]) -> tuple[Card, ...]:
    """Return the GPUs with only what others use of them, where that is known: of a GPU with jobs of this run, what was
    used before the first of them started."""
    found = []
    for card in cards:
        holders, used = state.cards.holders.get(card.uuid, []), card.used_mib
        if holders:
            before = [mib for one in holders for uuid, mib in zip(one.cards, one.used_mib) if uuid == card.uuid]
            used = min([used, *before])
        elif card.uuid in state.cards.settling:
            used = 0
        found.append(replace(card, used_mib=used))
    return tuple(found)
