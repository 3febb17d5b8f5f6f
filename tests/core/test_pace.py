"""When it is looked again: close up, at what jobs do, and at the GPUs."""

from __future__ import annotations

import pytest

from queue_manager.core import pace
from queue_manager.core.boundary import Doing
from queue_manager.core.pace import ActivityPace, CardPace
from tests.skill.story import Story, job, manifest

WORKS, MAY_WAIT, ASKS = Doing(1.0, cpu=1.0), Doing(1.0, reads=True), Doing(1.0, cpu=0.0, reads=True, line="Go on?")


@pytest.mark.parametrize(
    ("now", "launched", "wait"),
    [(100.0, 100.0, 0.02), (100.0, 99.9, 0.1), (100.0, 90.0, 0.25), (100.0, None, 0.25)],
)
def test_a_launch_is_looked_for_at_once_and_then_ever_less_often(
    now: float, launched: float | None, wait: float
) -> None:
    assert pace.close_up(now, launched) - now == pytest.approx(wait)


@pytest.mark.parametrize(("poll", "stale_after", "wait"), [(5.0, 600.0, 30.0), (5.0, 60.0, 5.0), (0.1, 1.0, 0.1)])
def test_idleness_is_judged_by_twenty_looks_at_most(poll: float, stale_after: float, wait: float) -> None:
    assert pace.idle_pace(poll, stale_after) == wait


@pytest.mark.parametrize(
    ("doing", "idle", "left", "wait"),
    [
        ([], 600.0, False, 30.0),
        ([WORKS], 600.0, False, 30.0),
        ([WORKS], 5.0, False, 5.0),
        ([WORKS], 600.0, True, 3.0),
        ([WORKS, MAY_WAIT], 600.0, False, 2.0),
        ([WORKS, ASKS], 600.0, False, 10.0),
    ],
)
def test_jobs_are_looked_at_soon_while_one_may_wait_for_an_answer(
    doing: list[Doing], idle: float, left: bool, wait: float
) -> None:
    found = ActivityPace()
    found.looked(100.0, doing, idle, left)
    assert found.due - 100.0 == wait


def test_what_begins_is_looked_at_soon_and_however_many_begin_not_all_the_time() -> None:
    found = ActivityPace()
    found.looked(100.0, [WORKS], 600.0)
    found.began(101.0)
    assert found.due == 105.0
    found.began(110.0)
    assert found.due == 105.0


def test_gpus_are_read_at_once_for_who_waits_then_ever_less_often() -> None:
    story = Story(manifest(job("a", gpus=1), job("b", gpus=1)))
    found, dues = CardPace(story.state, 0.2), []
    assert found.due(100.0) == 100.0
    for _ in range(4):
        found.turned(True, [], 100.0)
        dues.append(round((found.due(100.0) or 0.0) - 100.0, 3))
    assert dues == [0.1, 0.2, 0.2, 0.2]
    story.start("a", 0)
    story.end("a")
    found.turned(False, story.records[-1:], 101.0)
    assert found.due(101.0) == 101.0
    found.turned(True, [], 101.0)
    assert found.due(101.0) == pytest.approx(101.1)
