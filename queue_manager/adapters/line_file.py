"""A file of JSON lines about events of the journal, each once: alerts.jsonl, metrics.jsonl."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from queue_manager.adapters.files import append_to
from queue_manager.adapters.regular import open_regular
from queue_manager.core import alerts

_log = logging.getLogger(__name__)
_TAIL = 1 << 20


class LineFile:
    """Appends lines; what cannot be written is kept and tried again with the next lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._due: list[str] = []

    def last_seq(self) -> int:
        """Return the event of the last complete line; 0 if there is none. Half a line that a power cut left is removed,
        so that the next one is complete."""
        try:
            with open_regular(self._path) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                tail = file.read(_TAIL)
            whole = tail.rfind(b"\n") + 1
            if whole < len(tail):
                os.truncate(self._path, size - len(tail) + whole)
        except OSError:
            return 0
        return alerts.last_seq(tail[:whole].decode(errors="replace"))

    def add(self, lines: Iterable[str]) -> None:
        """Append lines, each with its end."""
        self._due += lines
        if not self._due:
            return
        data = "".join(self._due).encode(errors="replace")
        try:
            with append_to(self._path) as file:
                whole = file.seek(0, os.SEEK_END)
                if file.write(data) < len(data):
                    os.ftruncate(file.fileno(), whole)  # half a line would spoil the next one
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            _log.error("%s: %s", self._path.name, error)
            return
        self._due.clear()
