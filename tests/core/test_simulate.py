"""A run that is simulated ends when the run itself does: the fake machine goes the same way, turn by turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.manifest import JobSpec, Manifest, Phase, Precondition
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Card
from queue_manager.core.requests import Request
from queue_manager.core.simulate import Machine, Simulated, simulate
from tests.core.states import manifest, spec
from tests.fakes import START, FakeHost, FakeManager, Plan, replay

TWO_PHASES = (Phase("t"), Phase("s", ("t",)))
MATCHED = (Phase("t"), Phase("s", ("t",), ("n",)))


def seconds(job: JobSpec) -> float:
    """How long a job takes: 30 to 120 s, different from one to the next."""
    return 30.0 + sum(map(ord, job.id)) * 37 % 91


def mix() -> list[JobSpec]:
    """Jobs of every kind: big and small, shared and alone, urgent and not."""
    jobs = [spec(f"whole{n}", priority=n % 3) for n in range(8)]
    jobs += [spec(f"shared{n}", gpu_mem_mib=5000 + 1000 * (n % 4)) for n in range(16)]
    return [*jobs, *(spec(f"pair{n}", gpus=2) for n in range(3)), *(spec(f"cpu{n}", gpus=0) for n in range(12))]


RUNS: dict[str, tuple[Manifest, int]] = {
    "alone on a card": (manifest(*(spec(f"j{n}") for n in range(23))), 4),
    "packed by memory": (manifest(*(spec(f"j{n}", gpu_mem_mib=7000) for n in range(40))), 2),
    "a mix with priorities": (manifest(*mix()), 3),
    "waves": (manifest(*(spec(f"j{n}", gpus=1 + n % 2) for n in range(12)), wave="barrier"), 3),
    "at most three at once": (manifest(*mix(), max_parallel=3), 8),
    "phase after phase": (
        manifest(*(spec(f"t{n}", "t") for n in range(5)), *(spec(f"s{n}", "s") for n in range(9)), phases=TWO_PHASES),
        4,
    ),
    "students and their teachers": (
        manifest(
            *(spec(f"t{n}", "t", expected_output=f"{n}.pt") for n in range(6)),
            *(spec(f"s{n}", "s", depends_on=(f"t{n % 6}",), gpu_mem_mib=9000) for n in range(30)),
            phases=MATCHED,
        ),
        4,
    ),
}


def bare(made: Manifest, *more: ev.Event, at: float = START) -> QueueState:
    """A state of a run that has just begun."""
    state = QueueState(made)
    begun = (ev.RunStarted("run-1", made.project, "0" * 64), ev.ManagerStarted("fake", 1, "boot-1"))
    for seq, event in enumerate((*begun, *more), 1):
        state.apply(Record(seq, at, event))
    return state


def cards(count: int) -> tuple[Card, ...]:
    return tuple(Card(n, f"GPU-{n}", "Fake", 24_000, 0, 0) for n in range(count))


def alone(made: Manifest, count: int, length: Callable[[JobSpec], float] = seconds) -> Simulated:
    return simulate([Machine("here", bare(made), cards(count), 4)], length, START)


def really(made: Manifest, count: int, stop: float = math.inf) -> tuple[FakeHost, FakeManager]:
    """The run on the fake machine, until it ends or `stop` has come (seconds from its start)."""
    host = FakeHost(count)
    by_id = {job.id: job for job in made.jobs}
    host.plan_of = lambda job, _n: Plan(seconds(by_id[job]), mib=600, linger=0.5)
    manager = FakeManager(host, made)
    while manager.state.finished is None and host.now < START + stop:
        manager.turn()
        at = host.next_event()
        host.advance(0.5 if at is None else min(2.0, max(0.1, at - host.now)))
    assert not host.faults
    return host, manager


@pytest.mark.parametrize("name", RUNS)
def test_a_simulated_run_takes_as_long_as_the_run(name: str) -> None:
    made, count = RUNS[name]
    host, _ = really(made, count)
    found = alone(made, count)
    assert found.left == {}
    assert len(found.ends) == len(made.jobs)
    assert found.until["here"] - START == pytest.approx(host.now - START, rel=0.05)


@pytest.mark.parametrize("name", RUNS)
def test_the_end_of_a_half_done_run_is_reported(name: str) -> None:
    made, count = RUNS[name]
    whole = really(made, count)[0].now
    host, _ = really(made, count, (whole - START) / 2)
    state = replay(made, host.journal)
    assert state.live
    found = simulate([Machine("here", state, cards(count), 4)], seconds, host.now)
    assert found.until["here"] - host.now == pytest.approx(whole - host.now, rel=0.15)


def test_what_runs_is_not_begun_again_and_what_is_late_ends_now() -> None:
    state = bare(manifest(spec("a"), spec("b")), ev.AttemptStarting("a", 1, 1, "s", "boot-1", ("GPU-0",), (0,)))
    simulated = [
        simulate([Machine("here", state, cards(1))], lambda _: 100.0, START + 60),
        simulate([Machine("here", bare(manifest(spec("a"))), cards(1))], lambda _: 100.0, START, {"a": START - 900}),
    ]
    assert simulated[0].ends == {"a": START + 100, "b": START + 200}
    late = bare(manifest(spec("a")), ev.AttemptStarting("a", 1, 1, "s", "boot-1", ("GPU-0",), (0,)))
    assert simulate([Machine("x", late, cards(1))], lambda _: 1.0, START + 9, {"a": START}).ends == {"a": START + 9}


@pytest.mark.parametrize(
    ("made", "used", "ends", "left"),
    [
        (manifest(spec("a", gpus=3)), 0, {}, {"a": "needs 3 "}),
        (manifest(spec("a", gpus=3), spec("b", depends_on=("a",))), 0, {}, {"a": "needs 3 ", "b": "depends on a"}),
        (manifest(spec("a"), spec("c", gpus=0)), 9000, {"c": 100.0}, {"a": "waits for a "}),
        (manifest(spec("a", gpu_mem_mib=9000), spec("b", gpu_mem_mib=9000)), 9000, {"a": 100.0, "b": 100.0}, {}),
        (manifest(spec("a", preconditions=(Precondition("file_exists", "d"),))), 0, {"a": 100.0}, {}),
        (manifest(*(spec(job, timeout=60.0) for job in "abc")), 0, {"a": 60.0, "b": 60.0, "c": 120.0}, {}),
        (manifest(), 0, {}, {}),
    ],
)  # fmt: skip
def test_small_runs(made: Manifest, used: int, ends: dict[str, float], left: dict[str, str]) -> None:
    two = tuple(card.__class__(card.index, card.uuid, "Fake", 24_000, used, 0) for card in cards(2))
    found = simulate([Machine("here", bare(made), two, 4)], lambda _: 100.0, START)
    assert {job: at - START for job, at in found.ends.items()} == ends
    assert list(found.left) == list(left)
    assert all(found.left[job].startswith(words) for job, words in left.items())


def test_a_paused_run_goes_no_further_than_what_runs() -> None:
    state = bare(manifest(spec("a"), spec("b")), ev.AttemptStarting("a", 1, 1, "s", "boot-1"), ev.Paused())
    found = simulate([Machine("here", state, cards(2))], lambda _: 100.0, START)
    assert (found.ends, list(found.left)) == ({"a": START + 100}, ["b"])


def test_a_job_waits_for_what_another_machine_makes() -> None:
    waits: Any = (Precondition("carried", "mark"),)
    first = Machine("one", bare(manifest(spec("t0"), spec("t1"))), cards(1), speed=2.0)
    second = Machine(
        "two",
        bare(manifest(spec("s", preconditions=waits), spec("u"), spec("v"))),
        cards(2),
        awaits={"s": (frozenset({"t0", "t1"}), frozenset({"t0"}))},
    )
    found = simulate([first, second], lambda job: 500.0 if job.id == "v" else 100.0, START)
    assert {job: at - START for job, at in found.ends.items()} == {
        "t0": 50.0, "t1": 100.0, "u": 100.0, "s": 200.0, "v": 500.0,
    }  # fmt: skip
    assert {name: at - START for name, at in found.until.items()} == {"one": 100.0, "two": 500.0}


def test_a_retry_waits_out_its_delay() -> None:
    host = FakeHost(1)
    host.plan_of = lambda _job, _n: Plan(1.0, 1, log=b"CUDA out of memory\n")
    manager = FakeManager(host, manifest(spec("a")))
    host.inbox = [Request("r", "resume")]
    while manager.state.job("a").status.value != "failed_oom":
        manager.turn()
        host.advance(0.5)
    due = manager.state.job("a").due
    assert due is not None
    found = simulate([Machine("here", manager.state, cards(1))], lambda _: 100.0, host.now)
    assert found.ends == {"a": due + 100.0}
