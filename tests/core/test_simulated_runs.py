"""Real runs, recorded as data, beside what the simulation makes of them (see tests/recorded_runs.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager import estimator
from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.durations import NOTHING, Earlier
from queue_manager.core.events import Record
from queue_manager.core.health import projected
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Cards
from queue_manager.core.simulate import Machine, begun, simulate
from queue_manager.estimator import Estimator
from queue_manager.health_watch import WHOLE
from tests.core.test_eta import eta
from tests.recorded_runs import SLEEPING, WITH_HEALTH, Recorded, read

CORES = 2
"""Of the machine on which they were recorded."""


def took(records: list[Record]) -> dict[str, float]:
    """Seconds from a job's start to its end, of the attempt that completed."""
    starts: dict[str, float] = {}
    found: dict[str, float] = {}
    for record in records:
        if isinstance(record.event, ev.AttemptStarting):
            starts[record.event.job] = record.at
        elif isinstance(record.event, ev.AttemptEnded):
            found[record.event.job] = record.at - starts[record.event.job]
    return found


def ends(records: list[Record]) -> tuple[float, float]:
    """When a run began and when its last job ended."""
    began = next(record.at for record in records if isinstance(record.event, ev.ManagerStarted))
    return began, max(record.at for record in records if isinstance(record.event, ev.AttemptEnded))


def state_at(run: Recorded, at: float) -> QueueState:
    state = QueueState(run.manifest)
    for record in run.records:
        if record.at <= at:
            state.apply(record)
    return state


@pytest.mark.parametrize("name", sorted({*SLEEPING, "demo", "demo_first"} - {"oom"}))
def test_the_simulated_makespan_is_that_of_the_real_run(name: str) -> None:
    run = read(name)
    measured = took(run.records)
    assert set(measured) == {job.id for job in run.manifest.jobs}
    began, ended = ends(run.records)
    machine = Machine("here", begun(run.manifest, began), run.cards, CORES)
    found = simulate([machine], lambda spec: measured[spec.id], began)
    assert found.left == {}
    assert found.until["here"] - began == pytest.approx(ended - began, rel=0.05)


@pytest.mark.parametrize("name", sorted({*SLEEPING, "demo"}))
@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_the_rest_of_a_real_run_is_simulated_from_where_it_stood(name: str, part: float) -> None:
    run = read(name)
    measured = took(run.records)
    began, ended = ends(run.records)
    now = began + part * (ended - began)
    state = state_at(run, now)
    since = {attempt.job: attempt.starting for attempt in state.live.values()}
    found = simulate([Machine("here", state, run.cards, CORES)], lambda spec: measured[spec.id], now, since)
    assert found.until["here"] - began == pytest.approx(ended - began, rel=0.05)


def test_the_eta_of_the_half_done_demo_is_near_the_truth() -> None:
    before, run = read("demo_first"), read("demo")
    first = took(before.records)
    phases = {phase.name: [first[job.id] for job in run.manifest.jobs if job.phase == phase.name]
              for phase in run.manifest.phases}  # fmt: skip
    earlier = Earlier(first, {name: (sum(each) / len(each), len(each)) for name, each in phases.items()})
    began, ended = ends(run.records)
    now = (began + ended) / 2
    found = eta(state_at(run, now), run.cards, now, earlier)
    assert found.at is not None
    assert found.at - now == pytest.approx(ended - now, rel=0.15)


def known_at(run: Recorded, state: QueueState, at: float) -> tuple[dict[int, HealthReading], set[str]]:
    """What was read of the running jobs' logs by then, and the phases whose jobs ended as their progress had said."""
    starts = {one.event.job: one.at for one in run.records if isinstance(one.event, ev.AttemptStarted)}
    ended = {one.event.job: one.at for one in run.records if isinstance(one.event, ev.AttemptEnded) and one.at <= at}
    health, whole = {}, set()
    for job, reading in run.health:
        projection = projected(reading, starts[job], 1)
        if reading.at <= at and job not in ended:
            health[state.order_of[job]] = reading
        elif job in ended and projection is not None:
            took_it = ended[job] - starts[job]
            if abs(projection - took_it) < WHOLE * took_it:
                whole.add(state.job(job).spec.phase)
    return health, whole


def errors(name: str) -> dict[float, float]:
    """By how much the ETA of a recorded run was wrong, without any earlier run, at some moments: a part of what was
    left."""
    run = read(name)
    began, ended = ends(run.records)
    found = {}
    for part in (0.5, 0.6, 0.7, 0.8, 0.9):
        now = began + part * (ended - began)
        state = state_at(run, now)
        estimate = eta(state, run.cards, now, NOTHING, *known_at(run, state, now))
        assert estimate.at is not None
        found[part] = (estimate.at - now) / (ended - now) - 1
    return found


@pytest.mark.parametrize("name", WITH_HEALTH)
def test_the_eta_of_the_half_done_demo_is_near_the_truth_without_an_earlier_run(name: str) -> None:
    """The jobs of these runs took up to 1.5 times as long as others like them, since the machine had other work."""
    found = errors(name)
    assert abs(found[0.5]) < 0.15, found
    assert sum(map(abs, found.values())) / len(found) < 0.2, found


@pytest.mark.parametrize("name", ["barrier", "packing", "rolling"])
def test_the_eta_of_a_half_done_run_counts_that_the_longer_jobs_are_those_that_are_left(name: str) -> None:
    """Their jobs sleep, and tell no progress; by the mean of those that ended the ETA was wrong by 28 to 54 %."""
    found = errors(name)
    assert abs(found[0.5]) < 0.15, found
    assert sum(map(abs, found.values())) / len(found) < 0.1, found


@pytest.mark.parametrize("name", ["demo_first", "demo", *WITH_HEALTH])
def test_a_manager_knows_the_eta_of_the_demo_as_soon_as_the_first_student_has_ended(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what an estimate of eight jobs costs on a slow machine, and no earlier run."""
    clock = iter(0.005 * n for n in range(100_000))
    monkeypatch.setattr("time.thread_time", lambda: next(clock))
    monkeypatch.setattr(estimator, "SLICE", 60.0)
    run = read(name)
    began, ended = ends(run.records)
    state = QueueState(run.manifest)
    one = Estimator(RunPaths.of(tmp_path), state, CORES, began, dict, set)
    students = {job.id for job in run.manifest.jobs if job.phase == "students"}
    first = min(r.at for r in run.records if isinstance(r.event, ev.AttemptEnded) and r.event.job in students)
    records, now, known = list(run.records), began, None
    while now < ended:
        while records and records[0].at <= now:
            state.apply(records.pop(0))
        due = one.due(now)
        if due is not None and due <= now:
            one.work(now, Cards(run.cards))
        if known is None and one.eta is not None and one.eta.at is not None:
            known = now
        now += 0.05
    assert known is not None
    assert first <= known <= first + 1.0
    assert known - began < 0.6 * (ended - began)
