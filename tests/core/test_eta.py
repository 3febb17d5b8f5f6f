"""When a run will have ended, estimated from a state in the middle of it, which is left as it was."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import pytest

from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.durations import NOTHING, Earlier
from queue_manager.core.eta import Eta, estimate_end, outside
from queue_manager.core.events import Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, OomRetry, Precondition
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Card, Cards
from tests.core.states import manifest, spec
from tests.core.test_published_format import _run as published
from tests.core.test_simulate import RUNS, bare, cards, really, seconds
from tests.fakes import START, FakeHost, FakeManager, Plan, replay


def eta(
    state: QueueState,
    there: tuple[Card, ...],
    now: float,
    earlier: Earlier = NOTHING,
    health: Mapping[int, HealthReading] | None = None,
    whole: AbstractSet[str] = frozenset(),
) -> Eta:
    """What `estimate_end` comes to in the end."""
    steps = estimate_end(state, there, 4, earlier, now, health or {}, whole)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Eta = done.value
            return found


@pytest.mark.parametrize("name", RUNS)
def test_the_end_of_a_half_done_run_is_estimated_from_what_earlier_runs_took(name: str) -> None:
    made, count = RUNS[name]
    whole = really(made, count)[0].now
    host, manager = really(made, count, (whole - START) / 2)
    earlier = Earlier({job.id: seconds(job) for job in made.jobs}, {phase.name: (75.0, 1) for phase in made.phases})
    before = state_text(manager.state)
    read = host.read_cards()
    assert isinstance(read, Cards)
    found = eta(manager.state, read.cards, host.now, earlier)
    assert found.at is not None
    assert found.at - host.now == pytest.approx(whole - host.now, rel=0.15)
    assert state_text(manager.state) == before == state_text(replay(made, host.journal)), "nothing of it has moved"


def state_text(state: QueueState) -> str:
    jobs = [{name: str(getattr(job, name)) for name in job.__slots__ if name != "attempt"} for job in state.jobs]
    lives = {order: (one.n, one.starting, one.stopping) for order, one in state.live.items()}
    book, machine = state.cards, state.machine
    holders = {card: [one.job for one in held] for card, held in book.holders.items()}
    parts = [holders, sorted(book.served), book.settling, book.failures, machine.conditions, machine.teardown]
    tallies = [state.tallies.counts, {name: one.counts for name, one in state.tallies.phases.items()}]
    return str([jobs, lives, parts, tallies, state.seq, state.finished, sorted(state.held), sorted(state.unread)])


def begun(*jobs: JobSpec, at: float = START) -> QueueState:
    return bare(manifest(*jobs), ev.AttemptStarting(jobs[0].id, 1, 1, "s", "boot-1", ("GPU-0",), (0,)), at=at)


def test_what_has_completed_here_tells_and_what_nothing_tells_is_unknown() -> None:
    ended = ev.AttemptEnded("a", 1, "completed", exit_code=0)
    state = begun(spec("a"), spec("b"), spec("c"))
    assert eta(state, cards(1), START + 5) == Eta(
        None, (), "no job of main has completed yet, and est_minutes is not given"
    )
    guessed = begun(*(spec(job, est_minutes=2.0) for job in "ab"))
    assert eta(guessed, cards(1), START + 5) == Eta(START + 240, ("est_minutes for main",))
    done = begun(spec("a"), spec("b"), spec("c"))
    done.apply(Record(done.seq + 1, START + 100, ended))
    assert eta(done, cards(1), START + 100) == Eta(START + 300, ("1 completed job of main",))


@pytest.mark.parametrize(("left", "end"), [(None, 120), (30.0, 120), (200.0, 290), (float("inf"), 120)])
def test_a_running_job_ends_no_sooner_than_its_own_progress_says(left: float | None, end: float) -> None:
    state = begun(spec("a", est_minutes=1), spec("b", est_minutes=1))
    found = eta(state, cards(1), START + 40, health={0: HealthReading(START + 30, eta_s=left), 1: HealthReading(START)})
    assert found.at == START + end


def test_cards_that_others_use_a_paused_run_and_jobs_that_cannot_go_on_are_reported() -> None:
    jobs = [spec("a", est_minutes=1), spec("b", est_minutes=1)]
    busy = tuple(Card(n, f"GPU-{n}", "Fake", 24_000, 20_000, 0) for n in range(1))
    assert eta(bare(manifest(*jobs)), busy, START) == Eta(
        START + 120, ("est_minutes for main",), "once the GPUs that others use are free"
    )
    wide = bare(manifest(*jobs, spec("wide", gpus=3, est_minutes=1)))
    found = eta(wide, cards(1), START)
    assert (found.at, found.note[:46]) == (START + 120, "without 1 job that cannot go on now (wide: nee")
    paused = bare(manifest(*jobs), ev.Paused())
    assert eta(paused, cards(1), START).note.startswith("2 jobs that cannot go on now (a: the run is paused")


def test_what_waits_in_slurms_queue_does_not_run() -> None:
    """Of nine jobs of 60 s two run, and as many at a time go on; the first of them began 30 s ago."""
    state = QueueState(manifest(*(spec(f"j{n}", gpus=0) for n in range(9)), launcher=SLURM))
    events: list[ev.Event] = [ev.RunStarted("run", "demo", "sha")]
    events += (ev.AttemptStarting(f"j{n}", 1, 1, "", SLURM) for n in range(7))
    for seq, event in enumerate(events, 1):
        state.apply(Record(seq, START, event))
    earlier = Earlier({f"j{n}": 60.0 for n in range(9)})
    found = eta(state, (), START, earlier)
    assert (found.at, found.note.partition(",")[0]) == (None, "none of its jobs runs now")
    for n, at in ((0, START + 10.0), (1, START + 40.0)):
        proc = ev.Proc(1, 1)
        state.apply(Record(state.seq + 1, START + 40.0, ev.AttemptStarted(f"j{n}", 1, proc, proc, began=at)))
    found = eta(state, (), START + 40.0, earlier)
    assert found.at == pytest.approx(START + 10.0 + 5 * 60.0, abs=1.0)
    assert found.note == "if 2 run at a time, as now"
    assert state.tallies.queued == 5


def test_a_held_job_and_one_that_waits_for_its_retry_go_on() -> None:
    held = bare(
        manifest(spec("a", est_minutes=1, preconditions=(Precondition("file_exists", "d"),))),
        ev.JobHeld("a", "d is not there"),
    )
    assert eta(held, cards(1), START).at == START + 60
    away = bare(manifest(spec("a", est_minutes=1, preconditions=(Precondition("carried", "mark"),))))
    assert eta(away, cards(1), START) == Eta(
        START + 60, ("est_minutes for main",), "if outputs of other hosts arrive in time"
    )
    host = FakeHost(1)
    host.plan_of = lambda _job, _n: Plan(1.0, 1, log=b"CUDA out of memory\n")
    manager = FakeManager(host, manifest(spec("a", est_minutes=1), oom_retry=OomRetry(40.0, 3)))
    while manager.state.job("a").status.value != "failed_oom":
        manager.turn()
        host.advance(0.5)
    due = manager.state.job("a").due
    assert due is not None
    assert eta(manager.state, cards(1), host.now).at == due + 60.0


def test_memory_of_the_run_s_own_jobs_is_not_that_of_others() -> None:
    state = bare(
        manifest(spec("a", gpu_mem_mib=9000), spec("b")),
        ev.AttemptStarting("a", 1, 1, "s", "boot-1", ("GPU-0",), (0,), 9000, (700,)),
        ev.AttemptStarting("b", 1, 1, "s2", "boot-1", ("GPU-1",), (1,), None, (0,)),
        ev.AttemptEnded("b", 1, "completed", exit_code=0, used_mib=(5000,)),
    )
    there = tuple(Card(n, f"GPU-{n}", "Fake", 24_000, used, 0) for n, used in enumerate((8000, 5000, 300)))
    assert [card.used_mib for card in outside(state, there)] == [700, 0, 300]


def test_the_published_document_has_it() -> None:
    assert '"eta": null' in published()[0]
