"""A process that ends itself with SIGKILL at a step that is told it: all places where that can matter are steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

FORK = multiprocessing.get_context("fork")


class Killer:
    """Ends this process with SIGKILL at its n-th step: a write to the disk, a rename, or a message to a worker."""

    def __init__(self, at: int | None) -> None:
        self.steps, self._at = 0, at

    def step(self, _what: object = None) -> None:
        self.steps += 1
        if self.steps == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch_writes(self) -> None:
        """Make every write to the disk a step, and those around every rename. For a process of its own: nothing waits
        for the disk any more."""

        def replace(path: Path, target: Path) -> Path:
            self.step()
            os.replace(path, target)
            self.step()
            return target

        setattr(os, "fsync", self.step)  # noqa: B010
        setattr(Path, "replace", replace)  # noqa: B010
