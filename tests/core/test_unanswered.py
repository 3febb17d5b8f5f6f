"""Alerts that nobody answers: flags of running jobs, and stuck jobs, older than the longest time between two checks."""

from __future__ import annotations

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.unanswered import LEFT, words
from tests.core.states import FOREVER, spec, until, world
from tests.fakes import FakeManager, Plan, with_plans


def apply(manager: FakeManager, at: float, *events: ev.Event) -> None:
    for event in events:
        manager.state.apply(Record(manager.state.seq + 1, at, event))


def test_a_flag_is_an_alert_once_it_was_left_for_long_until_something_is_done() -> None:
    host, manager = world(spec("a"), spec("b"))
    host.plan_of = with_plans({}, FOREVER)
    until(host, manager, "b", "running")
    at = host.now
    apply(manager, at, ev.HealthFlagged("a", 1, "nan", "the loss is nan", "loss nan"))
    assert words(manager.state, at + LEFT) is None
    found = words(manager.state, at + LEFT + 1)
    assert found is not None
    assert found.startswith("nothing was done for 5 min about job a: nan since 00:00Z; ")
    assert words(manager.state, at + 9 * LEFT) == found, "it is said once"
    apply(manager, at + LEFT + 2, ev.HealthFlagged("b", 1, "stalled", "no new step"))
    assert words(manager.state, at + 3 * LEFT) == found.replace("; why", ", job b: stalled since 00:05Z; why")
    apply(manager, at + 3 * LEFT, ev.AttemptStopping("a", 1, "cancelled"), ev.HealthCleared("b", 1, "stalled"))
    assert words(manager.state, at + 4 * LEFT) is None


def test_a_stuck_job_is_one_until_it_is_retried() -> None:
    host, manager = world(*(spec(f"j{n}") for n in range(8)))
    host.plan_of = with_plans({}, Plan(code=3))
    for n in range(8):
        until(host, manager, f"j{n}", "stuck")
    ended = manager.state.job("j7").ended or 0.0
    found = words(manager.state, ended + LEFT + 60)
    assert found is not None
    assert "job j0: stuck since" in found
    assert " and more; why" in found
    apply(manager, ended + 1, *(ev.JobRetried(f"j{n}") for n in range(8)))
    assert words(manager.state, ended + LEFT + 60) is None
