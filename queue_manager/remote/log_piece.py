"""Read a job's log piece by piece for a reader that asks repeatedly, while the log grows and is moved aside."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from queue_manager.adapters import plain_log

_NAME = re.compile(r"(\d+:\d+):(\d+)")
_LOOKS = 3
_BLOCK = 1 << 16
_MOST_READ = 1 << 26
"""Bytes that are read at most to find the last lines: a progress bar may have written gigabytes without an end."""


class Piece(NamedTuple):
    """Bytes of a log from `begin` on. `file` names it for the next question; None where there is none. `path`: where it
    is now. `size`: of all of it."""

    file: str | None
    path: Path
    begin: int
    size: int
    data: bytes


class Logs(NamedTuple):
    """The logs of one job: that of its newest attempt, and those of earlier ones by number, there or not.

    A log is named by its inode, and by the number of the log before it. By that it is found again where it has been
    written anew without the `\\r` of its terminal, and told from a later one that got its inode then. Who has read a
    part of it goes on with what was there before.
    """

    newest: Path
    earlier: Mapping[int, Path]

    def read(self, before: str | None, begin: int, lines: int | None, most: int) -> Piece:
        """From byte `begin` on of the log that was named `before`, or from the last `lines` lines on. Where that log is
        nowhere any more: the newest one from its beginning."""
        if before is not None:
            found = self._read_on(before, begin, most)
            if found is not None:
                return found
        file = _open(self.newest)
        if file is None:
            return Piece(None, self.newest, 0, 0, b"")
        with file:
            at = 0 if before is not None else begin if lines is None else _last_lines(file, lines)
            return _piece(self._name(self.newest, file), self.newest, file, at, most)

    def _read_on(self, before: str, begin: int, most: int) -> Piece | None:
        named = _NAME.fullmatch(before)
        inode = before if named is None else named.group(1)
        for path in (self.newest, *self.earlier.values()):  # it may be moved on at any moment
            file = _open(path)
            if file is not None:
                with file:
                    if _inode(file) == inode and (named is None or self._name(path, file) == before):
                        return _piece(before, path, file, begin, most)
        return None if named is None else self._read_anew(before, int(named.group(2)), begin, most)

    def _read_anew(self, before: str, number: int, begin: int, most: int) -> Piece | None:
        """What comes after log `number` has been written anew, if it has what was read of it."""
        for _ in range(_LOOKS):
            path = self._after(number)
            file = _open(path)
            if file is not None:
                with file:
                    if path == self._after(number):  # and not that of a later attempt, which has begun just now
                        data, size = plain_log.as_terminal_wrote(file, begin, most)
                        return Piece(before, path, begin, size, data) if size >= begin else None
        return None

    def _name(self, path: Path, file: BinaryIO) -> str:
        own = next((n for n, one in self.earlier.items() if one == path), None)
        return f"{_inode(file)}:{max((n for n in self._there() if own is None or n < own), default=0)}"

    def _after(self, number: int) -> Path:
        n = min((n for n in self._there() if n > number), default=None)
        return self.newest if n is None else self.earlier[n]

    def _there(self) -> Iterator[int]:
        return (n for n, path in self.earlier.items() if path.exists())


def _piece(name: str, path: Path, file: BinaryIO, begin: int, most: int) -> Piece:
    file.seek(begin)
    data = file.read(most)
    return Piece(name, path, begin, os.fstat(file.fileno()).st_size, data)


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


def _inode(file: BinaryIO) -> str:
    info = os.fstat(file.fileno())
    return f"{info.st_dev}:{info.st_ino}"


def _last_lines(file: BinaryIO, lines: int) -> int:
    """Where the last lines of an open file begin. \\r alone ends no line."""
    end = start = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    data = b""
    while start > 0 and data.count(b"\n") <= lines and len(data) < _MOST_READ:
        start = max(0, start - max(_BLOCK, len(data)))
        file.seek(start)
        data = file.read(end - start)
    at = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return start
    return start + at + 1
