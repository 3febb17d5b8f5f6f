"""The port to launchers, which start attempts so that they outlive their manager. Their table is `table`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from queue_manager.adapters.processes import Stat
from queue_manager.core.events import Proc
from queue_manager.core.readings import Unreadable


class Launcher(Protocol):
    """Keeps sessions: each runs one command, whose output goes into a log. Nothing of a session depends on the process
    that started it. What runs in one is found and stopped by its tag, see `processes`, whatever the launcher."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What sessions inherit."""

    def start(
        self,
        session: str,
        argv: Sequence[str],
        log: Path,
        complaint: Path,
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Begin to start a session. Where the returned process ends with another code than 0 before the command has
        begun, the session did not start, and `complaint` may say why. `extra`: more that it inherits, which stands in
        no command line and no file. Raises OSError."""

    def sessions(self) -> dict[str, int] | Unreadable:
        """Process id of the leader of every session of this user, by name."""

    def leader(self, command: Stat) -> Proc:
        """The process that a session ends with, as its command has reported it."""

    def close(self, pid: int, session: str) -> None:
        """Ask a session to end; whether it did is seen by its leader."""

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:
        """Remove what killed sessions have left, of those alone whose names are ours."""
