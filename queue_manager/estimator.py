"""Estimates the end of the run, while the manager has nothing else to do, and at a small part of its time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from queue_manager.adapters import regular
from queue_manager.core import pace
from queue_manager.core.boundary import HealthReading
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import InvalidTransition, QueueState
from queue_manager.core.readings import Cards, Unreadable

if TYPE_CHECKING:
    from queue_manager.core.durations import Earlier
    from queue_manager.core.eta import Eta

_log = logging.getLogger(__name__)

SLICE = 0.005
"""Seconds of work at a time, after which the manager looks whether anything has happened."""
SAVED = 0.1
"""Seconds of work that may be saved up for a time with more news: a run of a few seconds has its estimate when its
first jobs have ended."""
FIRST, OFTEN = 1.0, 0.5
"""Seconds from the manager's begin until the first time, and between two times at least."""
LATE, LATEST = 10.0, 120.0
"""Seconds after which the end is estimated again though nothing has happened, since jobs take longer than was expected:
at first, and at most. Each time that nothing else comes out it is twice as long. It is at once where the estimated end
has passed."""
_MOST = 64 << 20


class Estimator:
    """`eta`: what came out last, None as long as nothing has. `health` gives what is known of running attempts,
    `whole` the phases of which their progress is that of whole jobs. `share`: the part of the time that this may
    take, and by turning how fast it may go on."""

    def __init__(
        self,
        paths: RunPaths,
        state: QueueState,
        cores: int,
        now: float,
        health: Callable[[], Mapping[int, HealthReading]],
        whole: Callable[[], AbstractSet[str]],
        share: pace.Share = pace.OWN_HOST,
    ) -> None:
        self._share = share
        self._rests_until = now
        self._paths, self._state, self._cores = paths, state, cores
        self._health, self._whole = health, whole
        self._steps: Generator[None, None, Eta] | None = None
        self._earlier: Earlier | None = None
        self._seq, self._next, self._late = -1, now + FIRST, LATE
        self._saved, self._paid = SAVED, now
        """Seconds of work that may be done without a pause, at a time; below 0 is what was done too much."""
        self.eta: Eta | None = None

    def due(self, now: float) -> float | None:
        """When there is something to do (epoch seconds); None while there is nothing."""
        if self._steps is not None:
            return max(now, self._rests_until)
        if self._state.finished is not None:
            return None
        if self._seq != self._state.seq:
            return self._next
        if not self._state.live:
            return None
        again = self._next + self._late
        end = None if self.eta is None else self.eta.at
        return again if end is None or end <= self._next else min(again, end)

    def work(self, now: float, cards: Cards | Unreadable | None) -> bool:
        """Do a slice of what is due, if anything is. Whether what came out is worth being published."""
        due, begin, used = self.due(now), time.monotonic(), time.thread_time()
        if due is None or due > now:
            return False
        before = self.eta
        try:
            if self._steps is None:
                self._steps = self._begin(now, cards)
            while time.monotonic() - begin < SLICE:
                next(self._steps)
        except StopIteration as done:
            self.eta, self._steps = done.value, None
        except InvalidTransition:  # a fault of ours, which is no reason to end a manager
            _log.exception("the end of the run cannot be estimated")
            self.eta, self._steps = None, None
        took = time.thread_time() - used
        self._saved = min(SAVED, self._saved + self._share.estimating * max(0.0, now - self._paid)) - took
        self._paid, self._rests_until = now, now + pace.rest(self._share, took)
        if self._steps is not None:
            return False
        self._next = now + max(OFTEN, -self._saved / self._share.estimating)
        is_news = _differs(before, self.eta, now)
        is_known = self.eta is not None and self.eta.at is not None
        self._late = min(LATEST, 2 * self._late) if is_known and not is_news else LATE
        return is_news

    def _begin(self, now: float, cards: Cards | Unreadable | None) -> Generator[None, None, Eta]:
        from queue_manager.core import eta  # here, since a manager that begins has jobs to start first

        if self._earlier is None:
            self._earlier = _read(self._paths)
        if self._seq != self._state.seq:
            self._late = LATE
        self._seq = self._state.seq
        seen = cards.cards if isinstance(cards, Cards) else ()
        return eta.estimate_end(self._state, seen, self._cores, self._earlier, now, self._health(), self._whole())


def _differs(before: Eta | None, found: Eta | None, now: float) -> bool:
    """Whether people would want to know."""
    if before is None or found is None or before.at is None or found.at is None:
        return before != found
    return abs(found.at - before.at) > max(0.5, 0.01 * abs(found.at - now))


def _read(paths: RunPaths) -> Earlier:
    """What jobs took in earlier runs, as whoever began this one wrote it down."""
    from queue_manager.core import durations

    try:
        return durations.decode(regular.read_regular(paths.durations, _MOST))
    except (OSError, ValueError):
        return durations.NOTHING
