"""A command on a terminal of its own: what it shows there, and keys typed into it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.e2e.runs import PATIENCE

_ROWS, _WIDTH = 24, 80


class Terminal:
    """The command on a terminal of its own; `kind`: what TERM says."""

    def __init__(
        self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], kind: str = "xterm-256color"
    ) -> None:
        self.text = ""
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _WIDTH, 0, 0))
        # At Ctrl-C the kernel sends the signal, then throws away what is unread: also what was printed on the signal.
        settings = termios.tcgetattr(slave)
        settings[3] |= termios.NOFLSH
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        variables = {**environment, "TERM": kind, "PYTHONIOENCODING": "utf-8"}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            variables.pop(name, None)

        # setsid gives it this terminal as its own, so that Ctrl-C typed there reaches it. The shell stays until all
        # has been read: when the first process of a terminal ends, the kernel throws away what nobody has read yet.
        stays = 'trap : INT; "$@"; printf "\\nended with %s.\\n" $?; read -r _'
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "sh", "-c", stays, "sh", *command],
            cwd=cwd,
            env=variables,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def wait_for(self, what: str) -> None:
        """Read until the terminal has shown `what`."""
        until = time.monotonic() + PATIENCE
        while what not in self.text:
            assert time.monotonic() < until, f"waited for {what!r}:\n{self.text[-3000:]}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self.text += self._read()

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        self.wait_for("\nended with ")
        while (found := re.search(r"\nended with (\d+)\.", self.text)) is None:
            self.text += self._read()
        os.write(self._fd, b"\n")
        self.process.wait(PATIENCE)
        os.close(self._fd)
        return int(found.group(1))

    def _read(self) -> str:
        try:
            return os.read(self._fd, 65536).decode(errors="replace")
        except OSError as error:
            raise AssertionError(f"no process has the terminal any more ({error}):\n{self.text[-3000:]}") from None
