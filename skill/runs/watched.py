"""The state of a run for as long as it is watched."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Protocol

from build_manifest import regular_file
from skill.runs import digest, local_manager, logs
from skill.runs.digest import Digest, Row
from skill.runs.directory import MOST_STATE, Document, Run, parse_state

_ALIVE_EVERY = 1.0
"""Seconds between looks whether the manager is there."""
_COST = 10
"""A state file is read again only after so many times the time that reading it took: a large run stays cheap."""


class Followed(Protocol):
    """What is shown of a run: on this machine `Watched`, on hosts `host_poller.WatchedHosts`. `close` it.

    `busy`: somebody here is about to make it go on, so that it is not over.
    """

    run: Run
    busy: bool
    document: Document
    digest: Digest

    @property
    def alive(self) -> bool: ...

    @property
    def over(self) -> bool: ...

    def look(self, *, at_once: bool = False) -> bool: ...

    def tail(self, row: Row) -> str: ...

    def close(self) -> None: ...


class Watched:
    """The state of a run, read again when its file has changed."""

    busy = False

    def __init__(self, run: Run, document: Document) -> None:
        self.run, self.document = run, document
        self.digest: Digest = digest.digest(document)
        self.alive = self._held = True
        self._seen: tuple[int, int] | None = None
        self._not_before = self._alive_at = 0.0

    def look(self, *, at_once: bool = False) -> bool:
        """Bring it up to date. Returns whether the document is a new one."""
        is_new = self._read(at_once)
        self.alive = local_manager.goes_on(self.run, self.document, self._held)
        if not self.alive:
            local_manager.note_gone(self.document)
        return is_new

    def _read(self, at_once: bool) -> bool:
        begin = time.monotonic()
        if begin >= self._alive_at or at_once:
            self._held = local_manager.is_alive(self.run)
            self._alive_at = begin + _ALIVE_EVERY
        try:
            info = os.stat(self.run.paths.state)
            if (info.st_mtime_ns, info.st_ino) == self._seen or (begin < self._not_before and not at_once):
                return False
            document = parse_state(regular_file.read(self.run.paths.state, MOST_STATE, follow=False))
        except (OSError, ValueError):
            return False  # it is gone for a moment only, or the disk is; what was read stays
        self._seen = (info.st_mtime_ns, info.st_ino)
        self.document, self.digest = document, digest.digest(document)
        self._not_before = begin + _COST * (time.monotonic() - begin)
        return True

    @property
    def over(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.document["meta"]["manager"] != "running" or not self.alive

    def tail(self, row: Row) -> str:
        """The last line in the log of a running job."""
        return logs.last_line(Path(row["log"]))

    def close(self) -> None:
        """Nothing is open."""
