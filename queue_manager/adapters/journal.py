"""The journal on disk: append, fsync, replay; and the snapshot, written by a thread so that no launch waits for it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from queue_manager.adapters import files
from queue_manager.adapters.aside import set_aside
from queue_manager.core import events
from queue_manager.core.events import JournalError, Record
from queue_manager.core.journal_lines import is_torn, place, read_line

__all__ = ["Journal", "JournalChangedError", "JournalError", "SnapshotWriter", "fence", "read_journal"]


def read_journal(path: Path) -> tuple[list[Record], int]:
    """Return all complete records, and the length in bytes of the complete part.

    A last line that was cut off by a crash is left out: nothing was done because of it. Raises JournalError for any
    other line that cannot be read, or whose checksum does not match. Lines of earlier versions have no checksum.
    """
    records: list[Record] = []
    good, sealed = 0, False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and is_torn(line):
                break
            try:
                record, sealed = read_line(line, number, sealed)
            except JournalError as error:
                if not file.read(1) and is_torn(line):
                    break
                raise JournalError(f"{path}, {error}") from None
            if record.seq != len(records) + 1:
                raise JournalError(f"{path}, {place(line, number)}: seq is {record.seq}, not {len(records) + 1}")
            records.append(record)
            good += len(line)
    return records, good


def fence(path: Path) -> None:
    """Replace a journal by a copy: what an earlier manager that still has it open writes goes nowhere.
    Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        files.write_whole(path, [path.read_bytes()])


class JournalChangedError(OSError):
    """The file at the journal's path is not what this manager wrote: replaced, truncated, or written to by others."""


class Journal:
    """Append-only. After an OSError nothing of the batch counts, and the same batch may be tried again."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        self._open(path, length)
        self._known = Copy(os.pread(self._fd, length, 0) if length else b"")

    def _open(self, path: Path, length: int) -> None:
        # Appending, so that a file that others cut short meanwhile gets no hole of NULs.
        self._fd = files.open_file(path, os.O_RDWR | os.O_APPEND, files.PRIVATE)
        self._length = length
        os.ftruncate(self._fd, length)
        _sync_directory(path.parent)
        self._stat = os.stat(path)

    def append(self, records: Iterable[Record], urgent: bool) -> None:
        """Write records; with `urgent`, they are on disk when this returns.

        Raises OSError (the disk is full), and JournalChangedError where they would not be at the journal's path: until
        `restore` nothing more is written.
        """
        data = "".join(map(events.encode, records)).encode()
        try:
            written = 0
            while written < len(data):
                written += os.write(self._fd, data[written:])
            if urgent:
                os.fdatasync(self._fd)
            self._check(len(data))  # once it is written: so nothing is done because of it if not
        except JournalChangedError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - len(data))
            raise
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._length)
            raise
        self._length += len(data)
        self._known.add(data)

    def check(self) -> None:
        """See whether the file at the path is still the one that is open, and as long as known.
        Raises JournalChangedError."""
        self._check(0)

    def _check(self, new: int) -> None:
        """`new`: bytes that have just been written beyond those that count."""
        try:
            there = os.stat(self._path)
        except OSError as error:
            raise JournalChangedError(error.errno, f"{self._path} was deleted while the run is active") from None
        if not os.path.samestat(there, self._stat):
            mine = os.fstat(self._fd)
            if not mine.st_nlink or (mine.st_size, mine.st_mtime_ns) != (there.st_size, there.st_mtime_ns):
                raise JournalChangedError(errno.ESTALE, f"{self._path} was replaced by another file")
            self._stat = there  # a file system that numbers its files anew now and then
        if there.st_size != self._length + new:
            now = there.st_size - new
            text = f"{self._path} has {now} bytes, not {self._length}: it was written to by another program"
            raise JournalChangedError(errno.ESTALE, text)

    def restore(self) -> Path | None:
        """Restore all that this manager knows of the journal at its path. Raises OSError.

        A file that is there now is kept beside it, if it holds anything unknown. Returns where.
        """
        known = self._known.whole()
        kept = None
        with contextlib.suppress(FileNotFoundError):
            if not _is_beginning(self._path, known):
                kept = set_aside(self._path)
        files.write_whole(self._path, [known])
        before = self._fd
        self._open(self._path, len(known))
        os.close(before)
        return kept

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
        os.close(self._fd)


class Copy:
    """All that a journal holds, compressed in memory: a tenth of its size."""

    _BLOCK = 1 << 16

    def __init__(self, data: bytes) -> None:
        self._blocks: list[bytes] = []
        self._rest = bytearray()
        self._first: list[bytes] = []
        self._thread: threading.Thread | None = None
        if data:  # beside the loop: zlib lets other threads go on
            self._thread = threading.Thread(target=self._take, args=(data,), name="copy", daemon=True)
            self._thread.start()

    def _take(self, data: bytes) -> None:
        self._first = [zlib.compress(data, 1)]

    def add(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) >= self._BLOCK:
            self._blocks.append(zlib.compress(self._rest, 1))
            self._rest.clear()

    def whole(self) -> bytes:
        if self._thread is not None:
            self._thread.join()
        return b"".join(map(zlib.decompress, [*self._first, *self._blocks])) + bytes(self._rest)


def _is_beginning(path: Path, known: bytes) -> bool:
    """Whether a file is one, and holds nothing but the beginning of what is known."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return False
    with path.open("rb") as file:
        return known.startswith(file.read(len(known) + 1))


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class SnapshotWriter:
    """Writes snapshots in a thread, one after the other: `write` may be called when `ready_at` has come.

    `share`: at most this part of the time goes into writing.
    """

    def __init__(self, path: Path, share: float = 0.03) -> None:
        self._path, self._share = path, share
        self._thread: threading.Thread | None = None
        self._writing = False
        self._not_before = 0.0
        self.error: OSError | None = None

    def ready_at(self) -> float:
        """When the next snapshot may be written (time.monotonic); infinity while one is being written."""
        return float("inf") if self._writing else self._not_before

    def write(self, rows: Callable[[], Iterator[bytes]], done: Callable[[], None]) -> None:
        """Start to write; `done` is called in the thread at the end."""

        def work() -> None:
            begun = time.thread_time()
            try:
                self._write(rows)
            finally:
                self._not_before = time.monotonic() + max(0.2, (time.thread_time() - begun) / self._share)
                self._writing = False  # before `done`: who is woken by it asks at once
                done()

        self._writing = True
        self._thread = threading.Thread(target=work, name="snapshot", daemon=True)
        self._thread.start()

    def finish(self, rows: Callable[[], Iterator[bytes]]) -> None:
        """Write the last snapshot now, after any that is under way."""
        if self._thread is not None:
            self._thread.join()
        self._write(rows)

    def _write(self, rows: Callable[[], Iterator[bytes]]) -> None:
        try:
            files.write_whole(self._path, rows(), mode=files.SHOWN)
            self.error = None
        except OSError as error:
            self.error = error
