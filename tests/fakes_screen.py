"""A launcher without screen: each session is a process of its own, with a terminal that it copies into the log.

Run as a program, this file is what `screen -dmS` is: it starts a session and ends.
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

if __name__ != "__main__":
    from queue_manager.core.readings import Unreadable


class FakeScreen:
    """Keeps one file for each session in `directory`, named PID.NAME as screen names its sockets."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory, self._environment = directory, environment

    def start(self, session: str, argv: Sequence[str], log: Path, complaint: Path) -> subprocess.Popen[bytes]:
        with complaint.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-S", "-E", __file__, str(self._directory), session, str(log), *argv],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def sessions(self) -> dict[str, int] | Unreadable:
        try:
            names = [path.name.partition(".") for path in self._directory.iterdir()]
        except OSError as error:
            return Unreadable(str(error))
        return {name: int(pid) for pid, _, name in names}

    def quit(self, pid: int, session: str) -> None:
        if (self._directory / f"{pid}.{session}").exists():
            os.kill(pid, signal.SIGTERM)


def _main(directory: Path, session: str, log: str, argv: list[str]) -> None:
    if not directory.is_dir():
        sys.exit(f"no sessions can be kept in {directory}")
    if os.fork():
        os._exit(0)
    os.setsid()
    for fd in (0, 1, 2):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    child, terminal = pty.fork()
    if not child:
        os.execvp(argv[0], argv)
    entry = directory / f"{os.getpid()}.{session}"

    def hang_up(_number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGHUP)
        entry.unlink()
        os._exit(0)

    signal.signal(signal.SIGTERM, hang_up)
    entry.touch()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    with contextlib.suppress(OSError):  # EIO: nobody is left on the terminal
        while data := os.read(terminal, 65536):
            os.write(file, data)
    os.waitpid(child, 0)
    entry.unlink()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
