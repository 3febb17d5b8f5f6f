"""When to ask Slurm what it has of a run: rarer and rarer while nothing changes. Pure.

A busy login node has many users, and each look costs the controller some milliseconds. What waits for an answer (a
submission, a job that was told to end, a pause) has Slurm asked at once, beside this.
"""

from __future__ import annotations

SLOWEST = 4
"""How many times as rarely as usual Slurm is asked at most, while nothing changes: with the usual poll each 120 s. It
lists what has ended for 300 s by default (MinJobAge)."""


class LookPace:
    """`usual`: seconds between two looks while tasks begin and end. Times are epoch seconds."""

    def __init__(self, usual: float) -> None:
        self.usual = usual
        self._factor = 1
        self._at = float("-inf")
        self._has_changed = True

    def changed(self) -> None:
        """Take note that something has begun, ended, or stands otherwise in the queue."""
        self._factor, self._has_changed = 1, True

    def is_due(self, now: float, slower: int) -> bool:
        """Return whether it is time to look; then the next look is planned. `slower`: how many times as rarely as usual
        a controller that does not answer is asked."""
        if now - self._at < self.usual * max(self._factor, slower):
            return False
        self._factor = 1 if self._has_changed else min(SLOWEST, 2 * self._factor)
        self._at, self._has_changed = now, False
        return True
