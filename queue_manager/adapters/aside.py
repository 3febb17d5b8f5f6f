"""Move files that are damaged, or not ours, aside under a name that says so; never overwrite them."""

from __future__ import annotations

import time
from pathlib import Path

from queue_manager.core import layout


def set_aside(path: Path) -> Path:
    """Rename a file to the first free name that marks it as damaged. Returns that name. Raises OSError."""
    now, n = time.time(), 0
    while True:
        there = layout.damaged(path, now, n)
        if not there.exists() and not there.is_symlink():
            path.replace(there)
            return there
        n += 1
