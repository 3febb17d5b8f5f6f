"""Measure how far a file server's clock differs from the run directory's, since times of files are compared across
both."""

from __future__ import annotations

import os
from pathlib import Path

from queue_manager.core.outputs import literal_ends

_NONE_BELOW = 500_000_000
"""Nanoseconds: what two writes one after the other may differ by on one clock."""


class ClockSkew:
    """Measures each file system once, by a file that it makes there and removes."""

    def __init__(self, run_root: Path) -> None:
        self._root = str(run_root)
        self._known: dict[int, int] = {}

    def of(self, pattern: str, cwd: str) -> int:
        """Return the nanoseconds that the clock of a job's outputs is ahead of the run directory's; 0 where both are on
        one file system, or nothing can be written there."""
        folder = _nearest(os.path.join(cwd, literal_ends(pattern)[0]))
        try:
            device, own = os.stat(folder).st_dev, os.stat(self._root).st_dev
        except OSError:
            return 0
        if device not in self._known:
            self._known[device] = 0 if device == own else _difference(folder, self._root)
        return self._known[device]


def _nearest(path: str) -> str:
    """Return the nearest existing directory above a path."""
    folder = os.path.dirname(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    return folder


def _difference(there: str, here: str) -> int:
    try:
        found = written_ns(there) - written_ns(here)
    except OSError:
        return 0
    return found if abs(found) >= _NONE_BELOW else 0


def written_ns(folder: str) -> int:
    """Return the time that a file written in `folder` gets now. Raises OSError."""
    import tempfile  # a run whose outputs lie beside it needs none

    with tempfile.NamedTemporaryFile(prefix=".wavequeue-clock-", dir=folder) as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
        return os.stat(file.name).st_mtime_ns
