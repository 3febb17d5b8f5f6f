"""When an attempt counts as idle, look after look, and what a restart knows of it."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core import idle
from queue_manager.core.events import Work
from queue_manager.core.idle import IdleWatch
from tests.core.states import FOREVER, turns, until, world
from tests.core.states import spec as job

FIRST = Work(100.0, 5.0, 700, 40, 9)


@pytest.mark.parametrize(
    ("after", "works"),
    [
        (Work(200.0, 5.5, 700, 40, 9), False),
        (Work(200.0, 5.51, 700, 40, 9), True),
        (Work(200.0, 5.0, 701, 40, 9), True),
        (Work(200.0, 5.0, 700, 41, 9), True),
        (Work(200.0, 5.0, 700, 40, 10), True),
        (Work(200.0, 4.9, 700, 40, 9), True),
    ],
)
def test_half_a_percent_of_a_core_is_no_work_and_a_lost_count_tells_nothing(after: Work, works: bool) -> None:
    assert idle.works(FIRST, after) is works


@pytest.mark.parametrize(
    ("after", "works"),
    [
        (Work(200.0, 10.0, 700, 0, 0), False),
        (Work(200.0, 10.01, 700, 0, 0), True),
        (Work(200.0, 5.0, 700 + 102400, 0, 0), False),
        (Work(200.0, 5.0, 701 + 102400, 0, 0), True),
    ],
)
def test_what_was_left_running_works_with_a_twentieth_of_a_core_or_a_kib_a_second(after: Work, works: bool) -> None:
    assert idle.left_works(FIRST, after) is works


@pytest.mark.parametrize(
    ("known", "since"),
    [
        (None, 300.0),
        (FIRST, 100.0),
        (FIRST._replace(cpu=-20.0), 300.0),
        (FIRST._replace(cpu=5.1), 300.0),
        (FIRST._replace(written=701), 300.0),
    ],
)
def test_what_was_left_running_is_idle_since_before_a_restart_if_nothing_was_done(
    known: Work | None, since: float
) -> None:
    first, now = FIRST._replace(at=300.0), FIRST._replace(at=301.0)
    assert idle.left_since(known, first, now).at == since


def test_it_is_idle_since_the_look_after_which_it_did_nothing() -> None:
    watch = IdleWatch(None)
    looks = [FIRST, FIRST._replace(at=130.0, written=800), Work(160.0, 5.0, 800, 40, 9), Work(190.0, 5.0, 800, 40, 9)]
    began = []
    for work in looks:
        watch.looked(work, watch.looks_busy(work))
        began.append(watch.began and watch.began.at)
    assert began == [None, None, 130.0, 130.0]
    watch.looked(None, True)
    assert watch.began is None


@pytest.mark.parametrize(("now", "due"), [(126.0, False), (127.0, True)])
def test_it_is_looked_at_in_its_pace(now: float, due: bool) -> None:
    assert IdleWatch(FIRST).is_due(now, 30.0) is due
    assert IdleWatch(None).is_due(now, 30.0)


@pytest.mark.parametrize(("change", "began"), [({}, 100.0), ({"written": 701}, None), ({"cpu": 9.0}, None)])
def test_after_a_restart_it_goes_on_from_what_the_journal_has(change: dict[str, Any], began: float | None) -> None:
    watch, work = IdleWatch(FIRST), FIRST._replace(at=500.0, **change)
    watch.looked(work, watch.looks_busy(work))
    assert (watch.began and watch.began.at) == began


def test_the_journal_is_reported_once_of_each_time_that_it_is_idle() -> None:
    host, manager = world(job("a", expected_output="o"))
    host.plan_of = lambda _job, _n: FOREVER
    until(host, manager, "a", "running")
    host.advance(1.0)
    manager.turn()
    host.idle["a"] = 0.0
    (event,) = (event for event in turns(host, manager, 1, 0.0) if isinstance(event, ev.AttemptIdle))
    again = turns(host, manager, 1, 0.0)
    attempt = manager.state.job("a").attempt
    assert attempt is not None
    assert (again, attempt.idle) == ([], event.work)
