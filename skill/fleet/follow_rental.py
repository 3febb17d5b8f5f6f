"""What `up` does with a rented machine from which nothing can be pulled. Pure.

Such a machine may only be unreachable, with results on its disk, so below the cost limit it is never ended for that.
Its own manager stops it shortly before the limit; one that still runs beyond it is destroyed.
"""

from __future__ import annotations

from typing import NamedTuple

from queue_manager.core.times import duration
from skill.common.units import usd

QUIET = 900.0
"""Seconds without a complete pull after which a machine counts as unreachable. Its manager has had time by then to end
jobs and push their results."""
AGAIN = 1800.0
"""Seconds between two warnings."""
_LEAST = 600.0
"""Least seconds for a pull, however near the cost limit is."""
_MARGIN_HOURS = 0.5
"""Hours beyond the cost limit for a machine that can still be pulled: its results may be on their way."""


class Took(NamedTuple):
    """One pull. `is_last`: another pull could bring nothing; `is_reached`: all hosts were reached; `fault`: why the
    pull was incomplete, None if it was complete; `refused`: number of files that were refused."""

    is_last: bool
    is_reached: bool
    fault: str | None = None
    refused: int = 0


class RentalStatus(NamedTuple):
    """The status of a machine. `cost` and `cost_limit` in $, `dph` in $ per hour; `quiet`: seconds since the last
    complete pull; `fault`: why the newest pull was incomplete."""

    cost: float
    cost_limit: float
    dph: float
    quiet: float
    fault: str | None


def patience(status: RentalStatus) -> float:
    """Return the seconds that the next pull may take: at most until the cost limit is reached."""
    left = (status.cost_limit - status.cost) / status.dph * 3600 if status.dph > 0 else _LEAST
    return max(_LEAST, left)


def give_up(status: RentalStatus) -> str | None:
    """Return why the machine has to be destroyed, with or without its results; None while it has not."""
    if status.cost < status.cost_limit:
        return None
    spent = f"it has cost {usd(status.cost)} of at most {usd(status.cost_limit)}"
    if status.fault is not None and status.quiet >= QUIET:
        return f"nothing could be pulled for {duration(status.quiet)} ({status.fault}), and {spent}"
    if status.cost >= status.cost_limit + _MARGIN_HOURS * status.dph:
        return f"its manager exceeds the limit: {spent}"
    return None


def warning(status: RentalStatus) -> str | None:
    """Return the warning about a machine that cannot be pulled; None for others."""
    if status.fault is None or status.quiet < QUIET:
        return None
    return (
        f"nothing could be pulled for {duration(status.quiet)} ({status.fault}). It has cost {usd(status.cost)}; at "
        f"{usd(status.cost_limit)} it is destroyed, with what is on it"
    )
