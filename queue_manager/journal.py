"""The journal on disk: append, fsync, replay. And the snapshot, written by a thread so that no launch waits for it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from queue_manager import files
from queue_manager.core import events
from queue_manager.core.events import JournalError, Record

__all__ = ["Journal", "JournalError", "SnapshotWriter", "read_journal"]


def read_journal(path: Path) -> tuple[list[Record], int]:
    """All whole records, and the length in bytes up to which the file is whole.

    A last line that was cut off by a crash is left out: nothing was done because of it. Raises JournalError for any
    other line that cannot be read.
    """
    records: list[Record] = []
    good = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                break
            try:
                record = events.decode(line.decode())
            except (JournalError, UnicodeDecodeError) as error:
                if not file.read(1) and not _is_json(line):
                    break
                raise JournalError(f"{path}, line {number}: {error}") from None
            if record.seq != len(records) + 1:
                raise JournalError(f"{path}, line {number}: seq is {record.seq}, not {len(records) + 1}")
            records.append(record)
            good += len(line)
    return records, good


def _is_json(line: bytes) -> bool:
    """Whether a line is whole, though perhaps not ours."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


class Journal:
    """Append-only. After an OSError nothing of the batch counts, and the same batch may be tried again."""

    def __init__(self, path: Path, length: int) -> None:
        self._fd = files.open_file(path, os.O_WRONLY, files.PRIVATE)
        self._length = length
        os.ftruncate(self._fd, length)
        _sync_directory(path.parent)

    def append(self, records: Iterable[Record], urgent: bool) -> None:
        """Write records; with `urgent`, they are on disk when this returns. Raises OSError (the disk is full)."""
        data = "".join(map(events.encode, records)).encode()
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._length + written)
            if urgent:
                os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._length)
            raise
        self._length += len(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
        os.close(self._fd)


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
