"""Small manifests to schedule, and the long way round: what a state's indexes must hold, counted from its jobs."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.model import Attempt, Job, Need, QueueState
from queue_manager.core.status import BAD, RETRYING, Status
from tests.fakes import FakeHost, FakeManager, Plan

MAX_TURNS = 2000


def spec(job: str, phase: str = "main", **fields: Any) -> JobSpec:
    return JobSpec(job, f"run {job}", phase, **fields)


def manifest(*jobs: JobSpec, phases: Iterable[Phase] = (), **fields: Any) -> Manifest:
    """Phases that are not given are made, without dependencies, in the order in which the jobs name them."""
    given = tuple(phases)
    names = dict.fromkeys(job.phase for job in jobs)
    made = tuple(Phase(name) for name in names if name not in {phase.name for phase in given})
    return Manifest("demo", jobs, (*given, *made), **fields)


def world(*jobs: JobSpec, host: FakeHost | None = None, **fields: Any) -> tuple[FakeHost, FakeManager]:
    """A host with two cards (unless given one) and a manager that has just begun on these jobs."""
    host = host or FakeHost()
    return host, FakeManager(host, manifest(*jobs, **fields))


def run_to_end(host: FakeHost, manager: FakeManager, turns: int = MAX_TURNS) -> None:
    """Turn and let time pass until the run has finished."""
    for _ in range(turns):
        manager.turn()
        if manager.state.finished is not None:
            assert host.faults == []
            return
        at = host.next_event()
        host.advance(0.5 if at is None else min(30.0, max(0.1, at - host.now)))
    waiting = [(job.spec.id, job.status.value) for job in manager.state.jobs]
    raise AssertionError(f"the run does not end: {waiting[:10]}")


def until(host: FakeHost, manager: FakeManager, job: str, status: str, turns: int = MAX_TURNS) -> Job:
    """Turn until a job has a status."""
    for _ in range(turns):
        manager.turn()
        found = manager.state.job(job)
        if found.status.value == status:
            return found
        host.advance(0.5)
    raise AssertionError(f"{job} never became {status}; it is {manager.state.job(job).status.value}")


def turns(host: FakeHost, manager: FakeManager, count: int, seconds: float = 1.0) -> list[ev.Event]:
    """So many turns. Returns the events of all of them."""
    events: list[ev.Event] = []
    for _ in range(count):
        events += [record.event for record in manager.turn()[1].records]
        host.advance(seconds)
    return events


def statuses(state: QueueState) -> dict[str, str]:
    return {job.spec.id: job.status.value for job in state.jobs}


def cards_of(state: QueueState) -> dict[str, tuple[int, ...]]:
    """Which cards each live attempt has."""
    return {attempt.job: attempt.indices for attempt in state.live.values()}


def started(events: Iterable[ev.Event]) -> list[str]:
    """Jobs of which an attempt starts in these events, in order."""
    return [event.job for event in events if isinstance(event, ev.AttemptStarting)]


ONCE = Plan(seconds=1.0)
FOREVER = Plan(seconds=float("inf"))


# -- the long way round -----------------------------------------------------------------------------------------------


def dump(state: QueueState) -> dict[str, Any]:
    """All that a state holds, as plain values that can be compared; indexes in a canonical order."""
    return {**facts(state), **indexes(state)}


def facts(state: QueueState) -> dict[str, Any]:
    """All but its indexes."""
    found = _SIMPLE(state)
    found["cards"] = {name: value for name, value in vars(state.cards).items() if name != "holders"}
    found["machine"] = dict(vars(state.machine))
    found["jobs"] = jobs = [_JOB(job) for job in state.jobs]
    for job in jobs:
        if job["attempt"] is not None:
            job["attempt"] = _ATTEMPT(job["attempt"])
    return found


def _reader(*names: str) -> Callable[[object], dict[str, Any]]:
    """What reads these attributes of something, quicker than by a `getattr` of each."""
    read = operator.attrgetter(*names)
    return lambda of: dict(zip(names, read(of)))


_SIMPLE = _reader(
    "manifest", "seq", "run_id", "manifest_sha256", "started", "finished", "paused", "phases", "groups", "order_of",
    "requests", "last_end", "active_at", "results_seq", "pushed_seq", "code", "unread",
)  # fmt: skip
_JOB, _ATTEMPT = _reader(*(name for name in Job.__slots__ if name != "queued")), _reader(*Attempt.__slots__)


def indexes(state: QueueState) -> dict[str, Any]:
    """What the state keeps quick to ask."""
    ready = {need: [job.order for job in state.ready.jobs(need)] for need in state.ready.needs()}
    return {
        "counts": dict(state.tallies.counts),
        "phase counts": {name: dict(tally.counts) for name, tally in state.tallies.phases.items()},
        "tallies": {
            name: (tally.started, tally.ended, tally.oom_retries) for name, tally in state.tallies.phases.items()
        },
        "live": {order: attempt.n for order, attempt in state.live.items()},
        "holders": {card: sorted(attempt.job for attempt in held) for card, held in state.cards.holders.items()},
        "held": dict(state.held),
        "card_jobs": state.tallies.card_jobs,
        "queued": (state.tallies.queued, {name: tally.queued for name, tally in state.tallies.phases.items()}),
        "ready": {need: sorted(orders) for need, orders in ready.items() if orders},
        "next due": state.ready.next_due(),
        "left": dict(state.graph.left),
        "bad": dict(state.graph.bad),
        "met": [state.graph.met(job.order) for job in state.jobs],
        "bad need": [state.graph.bad_need(job.order) is not None for job in state.jobs],
    }


def dependencies(state: QueueState, job: Job) -> list[Job]:
    """All jobs that a job depends on, by its phase, its groups and one by one."""
    phase = next(phase for phase in state.phases if phase.name == job.spec.phase)
    phases = () if phase.match else phase.depends_on
    ids = [other.spec.id for other in state.jobs if other.spec.phase in phases]
    for name in job.spec.depends_on:
        ids += [name] if name in state.order_of else state.groups[name]
    return [state.job(name) for name in ids]


def expected_indexes(state: QueueState) -> dict[str, Any]:
    """The same as `indexes`, counted from the jobs one by one. Of the tallies, only what the jobs still know."""
    jobs = state.jobs
    needed = {job.order: dependencies(state, job) for job in jobs}
    met = [all(one.status is Status.COMPLETED for one in needed[job.order]) for job in jobs]
    ready: dict[object, list[int]] = {}
    for job in jobs:
        if job.status is Status.PENDING and job.held is None and met[job.order]:
            ready.setdefault(job.need, []).append(job.order)
    holders: dict[str, list[str]] = {}
    for job in jobs:
        for card in job.attempt.cards if job.attempt else ():
            holders.setdefault(card, []).append(job.spec.id)
    members: dict[tuple[str, str], list[Job]] = {("phase", phase.name): [] for phase in state.phases}
    for job in jobs:
        members["phase", job.spec.phase].append(job)
    members |= {("group", name): [state.job(one) for one in ids] for name, ids in state.groups.items()}
    waits = [job for job in jobs if job.spec.gpus and (job.status is Status.PENDING or job.status in RETRYING)]
    return {
        "counts": dict(Counter(job.status for job in jobs)),
        "phase counts": {
            phase.name: dict(Counter(job.status for job in jobs if job.spec.phase == phase.name))
            for phase in state.phases
        },
        "live": {job.order: job.attempt.n for job in jobs if job.attempt},
        "holders": {card: sorted(names) for card, names in holders.items()},
        "held": {job.order: job.held for job in jobs if job.held is not None and job.status is Status.PENDING},
        "card_jobs": len(waits),
        "queued": (
            sum(attempt.is_queued for attempt in state.live.values()),
            {
                phase.name: sum(job.attempt.is_queued for job in jobs if job.attempt and job.spec.phase == phase.name)
                for phase in state.phases
            },
        ),
        "ready": ready,
        "next due": min((job.due for job in jobs if job.status in RETRYING and job.due is not None), default=None),
        "left": {node: sum(job.status is not Status.COMPLETED for job in found) for node, found in members.items()},
        "bad": {node: sum(job.status in BAD for job in found) for node, found in members.items()},
        "met": met,
        "bad need": [any(one.status in BAD for one in needed[job.order]) for job in jobs],
    }


def check_indexes(state: QueueState) -> dict[str, Any]:
    """Compare what the state keeps quick with the long way round. Returns the first, see `indexes`."""
    found = indexes(state)
    expected = expected_indexes(state)
    for name, value in expected.items():
        assert found[name] == value, name
    check_ready(state, expected["ready"])
    return found


def check_ready(state: QueueState, expected: Mapping[Need, list[int]]) -> None:
    """The ready jobs and due retries in their order, counted from the jobs; and that asking changes nothing."""
    ready, jobs = state.ready, state.jobs

    def held() -> tuple[object, ...]:
        heaps = {need: list(heap) for need, heap in ready._heaps.items()}
        return heaps, list(ready._delayed), [job.queued for job in jobs]

    before = held()
    lines = {
        need: sorted((-jobs[order].spec.priority, order, need) for order in found) for need, found in expected.items()
    }
    assert {need: list(ready.in_order(need)) for need in ready.needs()} == lines
    assert sorted(ready.heads()) == sorted(line[0] for line in lines.values())
    delayed = sorted((job.due, job.order) for job in jobs if job.status in RETRYING and job.due is not None)
    for due, _ in delayed[:3]:
        assert [job.order for job in ready.due_retries(due)] == [order for at, order in delayed if at <= due]
    assert before == held()
