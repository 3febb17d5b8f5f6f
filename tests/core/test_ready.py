"""The index of ready jobs on bare states: its order is the jobs', and asking it changes nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Event, Record
from queue_manager.core.model import Need, QueueState
from tests.core.states import check_indexes, manifest, spec

NEED = Need(1, None)


def after(happened: Iterable[Event], **priorities: int) -> QueueState:
    """A state of one job for each priority in which these events, a second apart, have happened."""
    state = QueueState(manifest(*(spec(name, priority=value, retries=9) for name, value in priorities.items())))
    for seq, event in enumerate(happened, 1):
        state.apply(Record(seq, float(seq), event))
        check_indexes(state)
    return state


def line(state: QueueState) -> list[str]:
    return [state.jobs[order].spec.id for _, order, _ in state.ready.in_order(NEED)]


def run(job: str, n: int, due: float | None) -> list[Event]:
    status = "failed_other" if due is not None else "completed"
    return [ev.AttemptStarting(job, n, 1, "s", "boot"), ev.AttemptEnded(job, n, status, due=due)]


@pytest.mark.parametrize(
    ("happened", "left"),
    [
        ([], ["c", "a", "b", "d"]),
        (run("c", 1, None), ["a", "b", "d"]),
        (run("b", 1, None), ["c", "a", "d"]),
        ([ev.JobHeld("c", "why"), ev.JobHeld("a", "why")], ["b", "d"]),
        ([ev.JobHeld("a", "why"), *run("c", 1, None), ev.JobHeld("a", None)], ["a", "b", "d"]),
        ([ev.JobCancelled("c"), ev.JobRetried("c")], ["c", "a", "b", "d"]),
        ([ev.JobCancelled(job) for job in "abcd"], []),
        ([ev.JobsChanged({"d": {"priority": 9}})], ["d", "c", "a", "b"]),
    ],
)
def test_ready_jobs_stand_in_line_by_priority_and_then_by_their_place_in_the_spec(
    happened: list[Event], left: list[str]
) -> None:
    state = after(happened, a=0, b=0, c=5, d=-1)
    assert line(state) == left
    for count in range(5):
        assert [state.jobs[order].spec.id for order in state.ready.first(count)] == left[:count]


def test_those_that_come_first_do_so_whatever_they_need() -> None:
    jobs = [spec("a", gpus=2), spec("b", gpus=0, priority=1), spec("c"), spec("d", gpus=2, priority=1)]
    state = QueueState(manifest(*jobs))
    assert state.ready.first(9) == [1, 3, 0, 2]


def test_retries_are_due_in_the_order_of_their_times_and_once() -> None:
    failed = [*run("a", 1, 30.0), *run("b", 1, 20.0), *run("c", 1, 40.0)]
    state = after(failed, a=0, b=0, c=0)
    assert [job.spec.id for job in state.ready.due_retries(30.0)] == ["b", "a"]
    assert state.ready.next_due() == 20.0
    again = after([*failed, ev.JobRetried("b"), *run("b", 2, 20.0), ev.JobRetried("a")], a=0, b=0, c=0)
    assert [job.spec.id for job in again.ready.due_retries(99.0)] == ["b", "c"]
    assert again.ready.next_due() == 20.0
