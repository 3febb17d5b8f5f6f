"""Statuses: each edge is one that events can go, and every other one is refused."""

from __future__ import annotations

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Event, Record
from queue_manager.core.model import InvalidTransition, QueueState
from queue_manager.core.status import BAD, EDGES, FINAL, RETRYING, Status
from tests.core.states import check_indexes, manifest, spec

JOB = "a"


def start(state: QueueState) -> list[Event]:
    return [ev.AttemptStarting(JOB, state.job(JOB).n + 1, state.cards.wave + 1, "session", "boot")]


def end(state: QueueState, status: Status) -> list[Event]:
    due = 5.0 if status in RETRYING else None
    return [ev.AttemptEnded(JOB, state.job(JOB).n, status.value, due=due)]


def moves(state: QueueState, new: Status) -> list[Event]:
    """An event that would take the job to `new` from where it is."""
    old = state.job(JOB).status
    if old is Status.RUNNING:
        return end(state, new)
    by_status: dict[Status, list[Event]] = {
        Status.PENDING: [
            ev.RetryDue(JOB)
            if old in RETRYING
            else ev.JobUnblocked(JOB)
            if old is Status.BLOCKED
            else ev.JobRetried(JOB)
        ],
        Status.RUNNING: start(state),
        Status.STUCK: [ev.JobStuck(JOB, "why")],
        Status.BLOCKED: [ev.JobBlocked(JOB, None, "why")],
        Status.CANCELLED: [ev.JobCancelled(JOB)],
        # One that has run is not skipped: a person accepts what it left.
        Status.COMPLETED: [ev.JobAccepted(JOB, "me@here") if state.job(JOB).n else ev.JobSkipped(JOB)],
    }
    return by_status.get(new) or end(state, new)


def apply(state: QueueState, events: list[Event]) -> None:
    for event in events:
        state.apply(Record(state.seq + 1, 10.0 + state.seq, event))


def at(status: Status) -> QueueState:
    """A state whose one job has the status."""
    state = QueueState(manifest(spec(JOB)))
    if status is Status.PENDING:
        return state
    if status in (Status.BLOCKED,):
        apply(state, [ev.JobBlocked(JOB, None, "why")])
        return state
    apply(state, start(state))
    if status is not Status.RUNNING:
        apply(state, end(state, status))
    return state


EVERY = [(old, new) for old in Status for new in Status]


@pytest.mark.parametrize(("old", "new"), [pair for pair in EVERY if pair[1] in EDGES[pair[0]]])
def test_an_edge_can_be_gone(old: Status, new: Status) -> None:
    state = at(old)
    apply(state, moves(state, new))
    assert state.job(JOB).status is new
    check_indexes(state)


@pytest.mark.parametrize(
    ("old", "new"),
    [pair for pair in EVERY if pair[1] not in EDGES[pair[0]] and pair != (Status.BLOCKED, Status.BLOCKED)],
)
def test_any_other_edge_is_refused(old: Status, new: Status) -> None:
    state = at(old)
    with pytest.raises(InvalidTransition, match=JOB):
        apply(state, moves(state, new))


def test_a_blocked_job_may_be_given_another_root() -> None:
    state = at(Status.BLOCKED)
    apply(state, [ev.JobBlocked(JOB, "b", "depends on b, which is stuck")])
    assert (state.job(JOB).blocked_by, state.job(JOB).error) == ("b", "depends on b, which is stuck")
    check_indexes(state)


def test_what_is_bad_is_final_and_what_retries_is_not() -> None:
    assert BAD < FINAL
    assert {Status.COMPLETED} == FINAL - BAD
    assert not RETRYING & FINAL
    assert EDGES[Status.COMPLETED] == frozenset()


def test_an_attempt_number_is_never_used_twice() -> None:
    state = at(Status.PENDING)
    apply(state, [*start(state), ev.AttemptEnded(JOB, 1, "pending", "interrupted", charged=False)])
    with pytest.raises(InvalidTransition, match="attempt 1"):
        apply(state, [ev.AttemptStarting(JOB, 1, 2, "session", "boot")])


def test_an_attempt_that_does_not_live_cannot_end() -> None:
    state = at(Status.RUNNING)
    with pytest.raises(InvalidTransition, match="no live attempt 7"):
        apply(state, [ev.AttemptEnded(JOB, 7, "completed")])


@pytest.mark.parametrize("mib", [(None, None), (None, 9000), (9000, None)])
def test_a_card_of_its_own_is_never_held_by_two(mib: tuple[int | None, int | None]) -> None:
    state = QueueState(manifest(spec("a"), spec("b")))
    apply(state, [ev.AttemptStarting("a", 1, 1, "s", "boot", ("GPU-0",), (0,), mib[0], (0,))])
    with pytest.raises(InvalidTransition, match="GPU-0"):
        apply(state, [ev.AttemptStarting("b", 1, 1, "s", "boot", ("GPU-0",), (0,), mib[1], (0,))])


def test_an_event_about_no_job_of_ours_is_refused() -> None:
    with pytest.raises(InvalidTransition, match="no job 'b'"):
        apply(at(Status.PENDING), [ev.JobCancelled("b")])


def test_only_a_pending_job_can_be_held() -> None:
    with pytest.raises(InvalidTransition, match="cannot be held"):
        apply(at(Status.RUNNING), [ev.JobHeld(JOB, "why")])


def test_a_job_that_is_cancelled_and_retried_while_it_waits_has_one_place_in_the_line() -> None:
    state = QueueState(manifest(spec("a"), spec("b")))
    apply(state, [ev.JobCancelled("b"), ev.JobRetried("b"), ev.JobHeld("b", "why"), ev.JobHeld("b", None)])
    need = state.job("b").need
    assert list(state.ready.in_order(need)) == [(0, 0, need), (0, 1, need)]
