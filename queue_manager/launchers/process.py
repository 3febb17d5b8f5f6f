"""The launcher `process`: start attempts as separate processes, without screen. The attempt's command leads its
session.

There is no terminal: the output goes straight into the log, and nobody can attach. The session's name is the first word
of its leader's command line, where `ps` shows it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from queue_manager.adapters.files import append_to
from queue_manager.adapters.processes import Stat, leaders, words_of
from queue_manager.core.events import Proc
from queue_manager.core.layout import SESSION_PREFIX
from queue_manager.core.readings import Unreadable


class Process:
    """The launcher of a run. `environment` is what jobs inherit."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)

    def start(
        self,
        session: str,
        argv: Sequence[str],
        log: Path,
        complaint: Path,  # noqa: ARG002
        extra: Mapping[str, str] = MappingProxyType({}),
    ) -> subprocess.Popen[bytes]:
        """Start a session; the returned process is its leader. Raises OSError where that cannot be."""
        with append_to(log) as file:
            os.set_blocking(file.fileno(), True)
            return subprocess.Popen(
                [session, *argv[1:]],
                executable=argv[0],
                env={**self.environment, **extra},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def sessions(self) -> dict[str, int] | Unreadable:
        """Process id of every session of this user, by name."""
        found = leaders(os.geteuid())
        if isinstance(found, Unreadable):
            return found
        names = {pid: words_of(pid)[:1] for pid in found}
        return {name: pid for pid, words in names.items() for name in words if name.startswith(SESSION_PREFIX)}

    def leader(self, command: Stat) -> Proc:
        """The command itself."""
        return command.proc

    def close(self, pid: int, session: str) -> None:
        """Tell all processes of a session that it hangs up."""
        if words_of(pid)[:1] == [session]:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGHUP)

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:
        """Nothing is left of a session that was killed."""
