"""The directory of a run: how large it is, and taking it away."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from queue_manager.core.layout import HostPaths
from skill.runs import directory
from skill.runs.directory import Run


def size(run: Run) -> int:
    """Return the bytes of all files in the directory of a run."""
    total = 0
    for folder, _, names in os.walk(run.root):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def remove(run: Run, home: Path) -> None:
    """Remove the directory of a run and its names among the runs of this machine. It is no run any more before its
    first file goes, so that one that is cut off leaves nothing that looks like one. Raises OSError."""
    places = HostPaths.of(home)
    shared = [places.runs, *(place / places.runs.name for place in places.others.glob("*")), places.submitted]
    for folder in shared:
        name = folder / run.id
        with contextlib.suppress(OSError):
            if name.is_symlink() and name.resolve() == run.root:
                name.unlink()
    shutil.rmtree(run.root.rename(directory.staged(run.root)))
