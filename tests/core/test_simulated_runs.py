"""Real runs, recorded as data, beside what the simulation makes of them (see tests/recorded_runs.py)."""

from __future__ import annotations

import pytest

from queue_manager.core import events as ev
from queue_manager.core.durations import Earlier
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.simulate import Machine, begun, simulate
from tests.core.test_eta import eta
from tests.recorded_runs import SLEEPING, Recorded, read

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
