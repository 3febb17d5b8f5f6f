"""The clock of a manager."""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds that never go back or jump while this process lives; rounded to milliseconds, as in the journal."""

    def __init__(self, not_before: float) -> None:
        self._offset = max(time.time(), not_before) - time.monotonic()

    def now(self) -> float:
        return round(self._offset + time.monotonic(), 3)
