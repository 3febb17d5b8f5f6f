"""Whether a running attempt does nothing any more, from one look at it to the next. Pure.

What its processes have done so far is counted by the kernel and only grows. So the look at which an attempt was idle
first is journaled (`AttemptIdle`), and a manager that is started again compares its own first look with that one: the
time in between counts where nothing was done in it.
"""

from __future__ import annotations

from queue_manager.core import events as ev
from queue_manager.core.events import Work
from queue_manager.core.model import Attempt
from queue_manager.core.turn import Turn

WAITS = 0.005
"""Cores: threads that only wait still wake now and then; half a percent of a core is no work."""
LEFT_WAITS = 0.05
"""Cores: what was left running and only waits, or serves a page now and then, uses less."""
LEFT_WRITES = 1 << 10
"""Bytes a second: what writes so much, as a download or a log does, works though it uses hardly any CPU."""


def works(before: Work, after: Work) -> bool:
    """Whether an attempt has used CPU, written, or added to its log between two looks. What is counted of processes
    that have ended since may be lost: a count that fell tells nothing, and nothing is ended because of it."""
    spent, used = after.at - before.at, after.cpu - before.cpu
    return not 0.0 <= used <= WAITS * spent or after[2:] != before[2:]


def left_works(before: Work, after: Work) -> bool:
    """Whether a process that its command left running has used CPU or written between two looks."""
    spent = after.at - before.at
    return after.cpu - before.cpu > LEFT_WAITS * spent or after.written - before.written > LEFT_WRITES * spent


def left_since(known: Work | None, first: Work, now: Work) -> Work:
    """Since which look all that it left running is idle, by the first two looks of a manager (`first` and `now`), if it
    is idle in between. `known`: the look that the journal has; it holds if nothing has worked since, and nothing has
    ended."""
    if known is None or left_works(known, now) or now.cpu < known.cpu or now.written < known.written:
        return first
    return known


class IdleWatch:
    """One attempt, look after look. `known`: the look that the journal has of it."""

    def __init__(self, known: Work | None) -> None:
        self.began = known
        """The look since which nothing has been done; None while it works."""
        self._last = self.began

    def is_due(self, now: float, pace: float) -> bool:
        """Whether `pace` seconds, or nearly, have passed since the last look."""
        return self._last is None or now - self._last.at >= 0.9 * pace

    def looks_busy(self, work: Work) -> bool:
        """Whether it has worked since the last look, or it is unknown."""
        return self._last is None or works(self._last, work)

    def looked(self, work: Work | None, busy: bool) -> None:
        """Take in a look. `busy`: it works by any sign; `work`: None where that could not be read."""
        if busy or work is None:
            self.began = None
        elif self.began is None:
            self.began = self._last
        self._last = work or self._last


def seconds_idle(turn: Turn, attempt: Attempt, began: Work | None) -> float:
    """Seconds for which an attempt has been idle; the journal is told once of the look since which it is."""
    if began is None:
        return 0.0
    if attempt.idle != began:
        turn.emit(ev.AttemptIdle(attempt.job, attempt.n, began))
    return turn.now - began.at
