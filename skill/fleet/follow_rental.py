"""What `up` does next while a rented machine works: go on pulling, say that it gives nothing, or give it up. Pure.

A machine that gives nothing may only be out of reach, with results on its disk: below the ceiling of cost it is never
ended for that. Its own manager stops it shortly before the ceiling; one that goes on beyond it is destroyed.
"""

from __future__ import annotations

from typing import NamedTuple

from queue_manager.core.times import duration
from skill.common.units import usd

QUIET = 900.0
"""Seconds without a whole pull after which a machine gives nothing: its manager has had its time to end jobs and push
what they wrote by then."""
AGAIN = 1800.0
"""Seconds after which it is said again."""
_LEAST = 600.0
"""Seconds that a pull may take, however near the ceiling is."""
_MARGIN_HOURS = 0.5
"""Hours beyond the ceiling that a machine gets which gives what it has: its results may be on their way."""


class Took(NamedTuple):
    """One pull. `is_last`: another could bring nothing; `is_reached`: all hosts were; `fault`: why not all that they
    have was looked through, None if it was; `refused`: how many files were not taken."""

    is_last: bool
    is_reached: bool
    fault: str | None = None
    refused: int = 0


class RentalStatus(NamedTuple):
    """How a machine stands. `cost` and `ceiling` in $, `dph` in $ per hour; `quiet`: seconds since the last whole pull;
    `fault`: what was in the way of the newest one."""

    cost: float
    ceiling: float
    dph: float
    quiet: float
    fault: str | None


def patience(status: RentalStatus) -> float:
    """Seconds that the next pull may take: no longer than until the ceiling, where the machine is decided on again."""
    left = (status.ceiling - status.cost) / status.dph * 3600 if status.dph > 0 else _LEAST
    return max(_LEAST, left)


def give_up(status: RentalStatus) -> str | None:
    """Why the machine is to be destroyed, results or not; None while it is not."""
    if status.cost < status.ceiling:
        return None
    spent = f"it has cost {usd(status.cost)} of at most {usd(status.ceiling)}"
    if status.fault is not None and status.quiet >= QUIET:
        return f"nothing could be pulled for {duration(status.quiet)} ({status.fault}), and {spent}"
    if status.cost >= status.ceiling + _MARGIN_HOURS * status.dph:
        return f"its manager does not keep to the limit: {spent}"
    return None


def warning(status: RentalStatus) -> str | None:
    """What is to be said of a machine that gives nothing; None of one that does."""
    if status.fault is None or status.quiet < QUIET:
        return None
    return (
        f"nothing could be pulled for {duration(status.quiet)} ({status.fault}). It has cost {usd(status.cost)}; at "
        f"{usd(status.ceiling)} it is destroyed, with what is on it"
    )
