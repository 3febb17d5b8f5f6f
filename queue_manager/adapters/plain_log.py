"""Takes out of a log what the terminal added: a program writes `\\n`, of which its terminal makes `\\r\\n`.

The terminal itself has to go on doing so: `screen` shows a person who attaches what it sends, and without the `\\r`
each line would begin where the last one ended. So a log is written anew once its attempt has ended, beside the old one,
which it replaces in one step. Every other `\\r` is the program's own, as of a progress bar, and stays.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from queue_manager.adapters.files import listed, write_like
from queue_manager.adapters.regular import open_regular

_BLOCK = 1 << 20
_END = ".plain"
_ROOM = 16 << 20
"""Bytes that have to stay free on the disk, or as many as the log has."""


class Made(NamedTuple):
    """A log that was written anew at `path`, and what the old one was like when it was read."""

    path: Path
    source: os.stat_result

    def replaces(self, old: Path) -> bool:
        """Put it into the place of the old log, if that is there and still the same."""
        try:
            there = old.lstat()
        except OSError:
            return False
        if not os.path.samestat(there, self.source) or there.st_size != self.source.st_size:
            return False
        self.path.replace(old)
        return True


def make(log: Path, durable: bool, stop: Callable[[], bool]) -> Made | None:
    """Write a log anew beside itself, with its mode and times; None where it holds nothing that a terminal added, or
    `stop` says so. `durable`: on disk before it may replace the old one. Raises OSError."""
    beside = log.with_name(f".{log.name}{_END}")
    with open_regular(log, follow=False) as old:
        if not any(b"\r\n" in block for block in _blocks(old)):
            return None
        old.seek(0)
        source, disk = os.fstat(old.fileno()), os.fstatvfs(old.fileno())
        if disk.f_bavail * disk.f_frsize - source.st_size < max(_ROOM, source.st_size):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(log))
        try:
            write_like(beside, _plain(old, stop), source, durable)
        except InterruptedError:
            return None
    return Made(beside, source)


def _plain(old: BinaryIO, stop: Callable[[], bool]) -> Iterator[bytes]:
    for block in _blocks(old):
        if stop():
            raise InterruptedError
        yield block.replace(b"\r\n", b"\n")


def discard(made: Path) -> None:
    """Remove a log that was written anew, and replaced nothing."""
    with contextlib.suppress(OSError):
        made.unlink()


def discard_all(directory: Path) -> None:
    """Remove what managers that were killed were writing."""
    for path in listed(directory, ".", _END):
        discard(path)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """A file in blocks, none of which ends between a `\\r` and what follows it."""
    rest = b""
    while block := file.read(_BLOCK):
        block = rest + block
        rest = b"\r" if block.endswith(b"\r") else b""
        yield block[: len(block) - len(rest)]
    if rest:
        yield rest


def as_terminal_wrote(file: BinaryIO, begin: int, most: int) -> tuple[bytes, int]:
    """A log that was written anew as it was before: at most so many bytes from byte `begin` of that, and its size.
    So who has read a part of the old one reads on."""
    at, parts = 0, []
    file.seek(0)
    while block := file.read(_BLOCK):
        old = block.replace(b"\n", b"\r\n")
        if at < begin + most and begin < at + len(old):
            parts.append(old[max(0, begin - at) : begin + most - at])
        at += len(old)
    return b"".join(parts), at
