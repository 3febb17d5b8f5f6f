"""Decide whether a running attempt is idle, from one look at it to the next. Pure.

The kernel counts what its processes have done, and the counts only grow. The look since which an attempt is idle is
journaled (`AttemptIdle`); a restarted manager compares its own first look with that one, so the time in between counts
if nothing was done in it.
"""

from __future__ import annotations

from queue_manager.core import events as ev
from queue_manager.core.events import Work
from queue_manager.core.model import Attempt
from queue_manager.core.turn import Turn

WAITS = 0.005
"""CPU cores: threads that only wait still wake now and then; half a percent of a core is not work."""
LEFT_WAITS = 0.05
"""CPU cores below which a process that was left running counts as waiting, or serves a page now and then."""
LEFT_WRITES = 1 << 10
"""Bytes per second above which a process works, such as a download, though it uses hardly any CPU."""


def works(before: Work, after: Work) -> bool:
    """Return whether an attempt used CPU, wrote, or added to its log between two looks. Counts of processes that ended
    since may be lost: a count that fell shows nothing, and nothing is stopped because of it."""
    spent, used = after.at - before.at, after.cpu - before.cpu
    return not 0.0 <= used <= WAITS * spent or after[2:] != before[2:]


def left_works(before: Work, after: Work) -> bool:
    """Return whether a process that the command left running used CPU or wrote between two looks."""
    spent = after.at - before.at
    return after.cpu - before.cpu > LEFT_WAITS * spent or after.written - before.written > LEFT_WRITES * spent


def left_since(known: Work | None, first: Work, now: Work) -> Work:
    """Return since which look all processes that it left running are idle, by the first two looks of a manager (`first`
    and `now`), if they are idle in between. `known`: the look in the journal; it is valid if nothing has worked since,
    and nothing has ended."""
    if known is None or left_works(known, now) or now.cpu < known.cpu or now.written < known.written:
        return first
    return known


class IdleWatch:
    """Watches one attempt. `known`: the look that the journal has of it."""

    def __init__(self, known: Work | None) -> None:
        self.began = known
        """The look since which nothing has been done; None while it works."""
        self._last = self.began

    def is_due(self, now: float, pace: float) -> bool:
        """Return whether about `pace` seconds have passed since the last look."""
        return self._last is None or now - self._last.at >= 0.9 * pace

    def looks_busy(self, work: Work) -> bool:
        """Return whether it has worked since the last look, or that is unknown."""
        return self._last is None or works(self._last, work)

    def looked(self, work: Work | None, busy: bool) -> None:
        """Add a look. `busy`: it works by some sign; `work`: None where it could not be read."""
        if busy or work is None:
            self.began = None
        elif self.began is None:
            self.began = self._last
        self._last = work or self._last


def seconds_idle(turn: Turn, attempt: Attempt, began: Work | None) -> float:
    """Return the seconds for which an attempt has been idle, and journal once since which look."""
    if began is None:
        return 0.0
    if attempt.idle != began:
        turn.emit(ev.AttemptIdle(attempt.job, attempt.n, began))
    return turn.now - began.at
