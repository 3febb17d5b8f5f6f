"""Which tasks are kept from starting while a run is paused, and let start when it goes on."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.core.readings import Unreadable
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.followed import Followed


def to_change(
    rows: Iterable[tuple[Followed, Listed | Unreadable | None, tuple[str, int] | None]], paused: bool
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return the tasks to hold, and those to release, each once. `rows`: attempts that have not begun, with what Slurm
    lists of them, and their tasks. What the listing shows counts, so that what was not done is done later."""
    hold, release = [], []
    for one, row, task in rows:
        if task is None or not isinstance(row, Listed) or row.state != "PENDING":
            continue
        is_held = row.reason.startswith("JobHeld")
        if paused and not is_held:
            one.held = True
            hold.append(task)
        elif not paused and one.held:
            one.held = is_held
            if is_held:
                release.append(task)
    return list(dict.fromkeys(hold)), list(dict.fromkeys(release))
