"""Times of the file server, by whose clock tasks leave their marks, as times of this manager's clock."""

from __future__ import annotations

from collections.abc import Callable

_MEASURED_FOR = 300.0
"""Seconds for which the difference of the two clocks counts as known: a measurement writes a file."""


class ServerClock:
    """`written_ns` gives the time of a file that is written now (ns, may raise OSError)."""

    def __init__(self, written_ns: Callable[[], int]) -> None:
        self._written_ns = written_ns
        self._ahead, self._at = 0.0, float("-inf")

    def here(self, at_ns: int, now: float) -> float:
        """Return a file's time in epoch seconds of this manager, not after `now`, which is the present there."""
        if now - self._at > _MEASURED_FOR:
            try:
                self._ahead, self._at = self._written_ns() / 1e9 - now, now
            except OSError:
                return now
        return min(now, at_ns / 1e9 - self._ahead)
