"""When to check a running job again: often after its launch and while something is wrong, seldom while all is well.
Pure."""

from __future__ import annotations

from typing import NamedTuple

MINUTE = 60.0
EARLY = (1 * MINUTE, 3 * MINUTE, 7 * MINUTE, 15 * MINUTE)
"""Checks after a launch."""
STABILISE = 10 * MINUTE
"""Seconds between checks until the job was healthy twice in a row."""
CRUISE = (30 * MINUTE, 45 * MINUTE, 60 * MINUTE)
ALERT = (2 * MINUTE, 3 * MINUTE, 4 * MINUTE, 5 * MINUTE)
"""Seconds from one check to the next while all is well, and while something is wrong; the last value repeats."""
_HEALTHY = 2


class Cadence(NamedTuple):
    """The checks of one attempt. Times are epoch seconds. `stage`: early, stabilise, cruise or alert; `checks`: number
    of checks in this stage, or for stabilise of those in a row that found it healthy; `due`: time of the next check."""

    launched: float
    due: float
    stage: str = "early"
    checks: int = 0


def launched(at: float) -> Cadence:
    """Return the checks of an attempt that was launched now; they start again with each attempt."""
    return Cadence(at, at + EARLY[0])


def checked(cadence: Cadence, now: float, healthy: bool) -> Cadence:
    """Return what follows after a check."""
    if not healthy:
        count = cadence.checks + 1 if cadence.stage == "alert" else 0
        return _at(cadence, "alert", count, now + ALERT[min(count, len(ALERT) - 1)])
    if cadence.stage == "early":
        left = [at for at in EARLY if cadence.launched + at > now]
        if left:
            return _at(cadence, "early", cadence.checks + 1, cadence.launched + left[0])
        return _at(cadence, "stabilise", 0, now + STABILISE)
    if cadence.stage == "cruise":
        count = min(cadence.checks + 1, len(CRUISE) - 1)
        return _at(cadence, "cruise", count, now + CRUISE[count])
    if cadence.stage == "stabilise" and cadence.checks + 1 >= _HEALTHY:
        return _at(cadence, "cruise", 0, now + CRUISE[0])
    return _at(cadence, "stabilise", cadence.checks + 1 if cadence.stage == "stabilise" else 0, now + STABILISE)


def sustained(since: float, cleared: float | None) -> float:
    """Return when an attempt that has been healthy since then reached `cruise`, healthy twice in a row. `since`: its
    launch; `cleared`: when its last fault ended."""
    first = since + EARLY[-1] + _HEALTHY * STABILISE
    return first if cleared is None else max(first, cleared + _HEALTHY * STABILISE)


def alerted(cadence: Cadence, now: float) -> Cadence:
    """Return what follows after a fault that was reported between two checks: the next check comes at once."""
    return cadence._replace(due=min(cadence.due, now))


def _at(cadence: Cadence, stage: str, count: int, due: float) -> Cadence:
    return Cadence(cadence.launched, due, stage, count)
