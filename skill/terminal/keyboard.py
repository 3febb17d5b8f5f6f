"""Keys typed into a terminal, one by one and unechoed; and the terminal as it was, afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import termios
from typing import Any, TextIO

from skill.terminal.keys import Keys

_PAUSE = 0.05
"""Seconds after which an escape is the key and not the begin of a sequence."""
_MOST = 4096


def keyboard_of(stream: TextIO) -> Keyboard | None:
    """The keyboard of a stream; None where it is no terminal, or one whose keys go to somebody else, as for a command
    that was started with &."""
    try:
        fd = stream.fileno()
        return Keyboard(fd) if os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp() else None
    except (OSError, ValueError):
        return None


class Keyboard:
    """A terminal's keys. `begin` changes its settings, `end` sets them back; both may be called again."""

    def __init__(self, fd: int) -> None:
        self._fd, self._keys = fd, Keys()
        self._before: list[Any] | None = None
        self._ended = False

    def begin(self) -> None:
        """Give keys as they are typed. Ctrl-C and Ctrl-Z stay signals."""
        self._before = termios.tcgetattr(self._fd)
        changed = termios.tcgetattr(self._fd)
        changed[3] &= ~(termios.ICANON | termios.ECHO)
        changed[6][termios.VMIN], changed[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, changed)

    def end(self) -> None:
        """Set the terminal back."""
        if self._before is not None:
            with contextlib.suppress(termios.error, OSError):  # the terminal has gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._before = None

    def read(self, seconds: float) -> list[str]:
        """Wait for keys, at most so long. Empty where none came; the terminal's end is EOFError."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        data = os.read(self._fd, _MOST)
        if not data:
            raise EOFError
        found = self._keys.feed(data)
        if not found and not select.select([self._fd], [], [], _PAUSE)[0]:
            return self._keys.pause()
        return found
