"""When a running job is looked at again, against a clock that jumps from one check to the next."""

from __future__ import annotations

from collections.abc import Callable

from queue_manager.core import cadence
from queue_manager.core.cadence import Cadence

_LAUNCH = 1_000_000.0


def _checks(count: int, healthy: Callable[[float], bool] = lambda _minute: True) -> list[float]:
    """The minutes after the launch at which the checks are. `healthy`: what a check at this minute finds."""
    plan, found = cadence.launched(_LAUNCH), []
    for _ in range(count):
        minute = (plan.due - _LAUNCH) / 60
        found.append(minute)
        plan = cadence.checked(plan, plan.due, healthy(minute))
    return found


def test_checks_of_a_healthy_job_come_at_exactly_these_minutes() -> None:
    assert _checks(10) == [1, 3, 7, 15, 25, 35, 65, 110, 170, 230]


def test_a_fault_is_followed_closely_until_it_has_gone_and_then_the_job_has_to_be_healthy_twice_again() -> None:
    # Found at 110; gone at the check of 119.
    found = _checks(14, lambda minute: not 110 <= minute < 119)
    assert found == [1, 3, 7, 15, 25, 35, 65, 110, 112, 115, 119, 129, 139, 169]


def test_a_fault_that_stays_is_looked_at_every_five_minutes_in_the_end() -> None:
    assert _checks(8, lambda minute: minute < 3) == [1, 3, 5, 8, 12, 17, 22, 27]


def test_one_unhealthy_check_resets_the_count_of_healthy_ones() -> None:
    assert _checks(9, lambda minute: minute != 35) == [1, 3, 7, 15, 25, 35, 37, 47, 57]


def test_a_launch_begins_anew() -> None:
    plan = cadence.launched(_LAUNCH)
    for _ in range(8):
        plan = cadence.checked(plan, plan.due, True)
    assert cadence.launched(plan.due).due == plan.due + 60


def test_a_check_that_came_late_is_not_made_up_for() -> None:
    late = cadence.checked(cadence.launched(_LAUNCH), _LAUNCH + 4 * 60, True)
    assert late.due == _LAUNCH + 7 * 60


def test_a_fault_between_two_checks_does_not_wait() -> None:
    cruising = Cadence(_LAUNCH, _LAUNCH + 9000, "cruise", 2)
    assert cadence.alerted(cruising, _LAUNCH + 7000).due == _LAUNCH + 7000
    found = cadence.checked(cadence.alerted(cruising, _LAUNCH + 7000), _LAUNCH + 7000, False)
    assert (found.stage, found.due) == ("alert", _LAUNCH + 7120)
