"""Reads what a growing log has gained since it was read last: a bounded number of bytes, whatever is in it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters.regular import open_regular
from queue_manager.core.log_text import plain_lines

MOST = 256 << 10
"""Bytes that are read of one log at once; of more the last ones."""
TAIL = 8 << 10
HEAD = 64 << 10
"""Of a log that is larger when it is first read, so much of its beginning as well: settings and headings are there."""


def ends_with(path: Path, words: re.Pattern[bytes]) -> bool:
    """Whether some words are in the last TAIL bytes of a log; False where it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return words.search(file.read(TAIL)) is not None
    except OSError:
        return False


class News(NamedTuple):
    """New lines. `gap`: some before the last ones were passed over. `grew`: anything was written at all."""

    lines: list[str]
    gap: bool = False
    grew: bool = False


class LogReader:
    """One log. It may be made later, cut off, or replaced by another file; then it is read from its beginning."""

    KEPT = ("_file", "_offset", "_rest", "_in_line")
    """What a later reader goes on from; see core.kept."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._rest = b""
        self._in_line = False
        """Whether what is read next goes on in a line that was passed over."""

    def read(self, most: int = MOST) -> News:
        """Read what is new, at most `most` bytes and a beginning. Of what cannot be read there is nothing new."""
        try:
            status = os.stat(self._path)
            if (status.st_dev, status.st_ino) == self._file and status.st_size == self._offset:
                return News(self._unended())
            with open_regular(self._path) as file:
                status = os.fstat(file.fileno())
                if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                    self._file, self._offset, self._rest, self._in_line = (status.st_dev, status.st_ino), 0, b"", False
                size, lines, gap = status.st_size, list[str](), False
                if size - self._offset > most + HEAD:
                    if self._offset == 0:
                        lines += self._lines(file.read(HEAD))
                    file.seek(size - most)
                    self._offset, self._rest, self._in_line, gap = size - most, b"", True, True
                else:
                    file.seek(self._offset)
                data = file.read(min(most + HEAD, size - self._offset))
        except OSError:
            return News([])
        self._offset += len(data)
        return News(lines + self._lines(data), gap, bool(data))

    def _lines(self, data: bytes) -> list[str]:
        """The lines that are whole and not empty. A `\\r` ends one as well."""
        if self._in_line:
            cut = min((at for at in (data.find(b"\n"), data.find(b"\r")) if at >= 0), default=-1)
            if cut < 0:
                return []
            data, self._in_line = data[cut + 1 :], False
        data = self._rest + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        self._rest = data[end:]
        if len(self._rest) > HEAD:
            self._rest, self._in_line = b"", True
        return [line for line in plain_lines(data[:end]) if line]

    def _unended(self) -> list[str]:
        """A last line without an end, once nothing was added to it for a while: a bar that is drawn seldom."""
        rest, self._rest = self._rest, b""
        return [line for line in plain_lines(rest) if line]
