"""The clock of a manager."""

from __future__ import annotations

import time


class Clock:
    """Epoch seconds that never go back, nor jump while this process lives; whole to the millisecond, as the journal
    keeps them."""

    def __init__(self, not_before: float) -> None:
        self._offset = max(time.time(), not_before) - time.monotonic()

    def now(self) -> float:
        return round(self._offset + time.monotonic(), 3)
