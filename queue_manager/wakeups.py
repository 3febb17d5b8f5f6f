"""What wakes the loop of a run: its bell, its own threads, processes that end, and looks that have come due."""

from __future__ import annotations

import contextlib
import os
import selectors
import stat
from collections.abc import Mapping
from pathlib import Path

from queue_manager.adapters.clock import Clock
from queue_manager.core import pace
from queue_manager.core.model import Attempt
from queue_manager.follower import Follower


class Wakeups:
    """Wakes the loop, and knows which attempts it has to look at then."""

    def __init__(self, bell: Path, watch: Follower, clock: Clock) -> None:
        self._watch, self._clock = watch, clock
        self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        watch.selector.register(self._pipe[0], selectors.EVENT_READ, None)
        self.has_bell = self._open_bell(bell)
        self.rung = True
        """Whether requests may have come that have not been read."""
        self._woken: set[int] = set()
        self._soon: dict[int, float] = {}

    def _open_bell(self, path: Path) -> bool:
        try:
            bell = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        if not stat.S_ISFIFO(os.fstat(bell).st_mode):  # a copy of a run directory holds an ordinary file
            os.close(bell)
            return False
        self._watch.selector.register(bell, selectors.EVENT_READ, None)
        return True

    @property
    def fd(self) -> int:
        """A byte written here wakes the loop; fit for signal.set_wakeup_fd."""
        return self._pipe[1]

    def wake(self) -> None:
        """Wake the loop, from any thread."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._pipe[1], b"w")

    def look_at(self, order: int) -> None:
        """Have an attempt looked at in the next turn."""
        self._woken.add(order)

    def take(self, now: float, overdue: set[int]) -> set[int]:
        """The attempts to look at now: those `overdue`, and those that woke the loop or have come due."""
        orders = self._woken | overdue | (self._watch.over() if self.rung else set())
        orders.update(order for order, at in self._soon.items() if at <= now)
        self._woken = set()
        self._soon = {order: at for order, at in self._soon.items() if order not in orders}
        return orders

    def plan(self, now: float, live: Mapping[int, Attempt]) -> None:
        """Plan the next look at attempts that no event announces."""
        for order in self._watch.close_up():
            attempt = live[order]
            at = pace.close_up(now, attempt.starting if attempt.wrapper is None else None)
            self._soon.setdefault(order, at)
        self._soon = {order: at for order, at in self._soon.items() if order in live}

    def due(self) -> list[float]:
        """When planned looks come due."""
        return list(self._soon.values())

    def wait(self, timeout: float) -> bool:
        """Sleep until something wakes the loop, or for `timeout` seconds. Returns whether something did."""
        ready = self._watch.selector.select(timeout)
        for key, _ in ready:
            self._woke(key)
        return bool(ready)

    def _woke(self, key: selectors.SelectorKey) -> None:
        if key.data is None:
            self.rung = True
            with contextlib.suppress(BlockingIOError):
                while len(os.read(key.fd, 65536)) == 65536:
                    pass
        else:
            order: int = key.data
            if self._watch.ended(key.fd, order):
                self._woken.add(order)
            else:
                self._soon[order] = self._clock.now() + pace.HALF_GONE
