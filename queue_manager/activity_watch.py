"""Watch what running attempts do: CPU, bytes written, the log's last words, the terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from queue_manager.adapters import processes, terminal_reads
from queue_manager.adapters.processes import Activity
from queue_manager.adapters.regular import open_regular
from queue_manager.core import activity
from queue_manager.core.boundary import Doing
from queue_manager.core.events import Proc
from queue_manager.core.readings import Unreadable

_TAIL = 4096


class ActivityWatch:
    """Watches one attempt."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self.doing: Doing | None = None

    def look(self, procs: Sequence[Proc] | Unreadable, leader: Proc, log: Path, now: float) -> Activity | Unreadable:
        """Look at what it does. `leader`: its process that has the terminal. Returns its work so far."""
        done = procs if isinstance(procs, Unreadable) else processes.activity(procs)
        cpu = None
        if not isinstance(done, Unreadable):
            if self._last is not None and now > self._last[0]:
                cpu = max(0.0, done.cpu - self._last[1]) / (now - self._last[0])
            self._last = (now, done.cpu)
        _, changed_ns = log_mark(log)
        reads = False if isinstance(procs, Unreadable) else terminal_reads.reads(procs, leader)
        line, is_open = activity.last_words(log_tail(log)) if reads is not False else ("", False)
        self.doing = Doing(now, changed_ns / 1e9 if changed_ns else None, cpu, reads, line, is_open)
        return done


def log_mark(path: Path) -> tuple[int, int]:
    """Return a log's size and the time of its last change, in ns since the epoch; zeros where unknown."""
    try:
        status = os.stat(path)
    except OSError:
        return (0, 0)
    return (status.st_size, status.st_mtime_ns)


def last_output(log: Path, now: float, before: Doing | None) -> Doing:
    """Return what a log shows of an attempt whose processes cannot be seen. `now` in epoch seconds; `before`: what the
    look before has found, since when a log that has not changed is not read again."""
    _, changed_ns = log_mark(log)
    changed = changed_ns / 1e9 if changed_ns else None
    if before is not None and before.output_at == changed:
        return replace(before, at=now)
    line, is_open = activity.last_words(log_tail(log))
    return Doing(now, changed, None, False, line, is_open)


def log_tail(path: Path) -> str:
    """Return the end of a log, as text; empty where it cannot be read."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            return file.read(_TAIL).decode("utf-8", "replace")
    except OSError:
        return ""
