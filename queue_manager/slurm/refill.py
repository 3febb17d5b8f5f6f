"""How many attempts are handed to Slurm in one turn. Pure.

The first job begins soon where the first array is small, since each attempt is written to disk before. Later many go
as one array: a task that is submitted one by one as others end costs the controller and the manager as much as a
thousand, and begins no sooner behind those that wait.
"""

from __future__ import annotations

FIRST = 100
"""Attempts of the first array; of a later one as many as Slurm has by then, twice over."""


def allowed(room: int, size: int, live: int, queued: int) -> int:
    """Return how many may be handed over now. `room`: so many would fit in; `size`: of the window; `live`: attempts
    that Slurm has, `queued` of which wait there."""
    if size >= FIRST and room < size // 8 and queued >= size // 4:
        return 0
    return min(room, max(FIRST, 2 * live))
