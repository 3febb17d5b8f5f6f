"""Reading a text file of a person's, writing a file whole or not at all, and doing a thing alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from build_manifest import regular_file
from skill.errors import FailedError, UseError

MOST = 4 << 20
"""Bytes of a file that a person writes by hand, at most."""


def read_text(path: Path, most: int = MOST) -> str:
    """The text of a file, its lines ending in \\n. Raises FileNotFoundError, and UseError where it cannot be read: it
    is no regular file, has more than `most` bytes, or is no text."""
    try:
        return regular_file.read_text(path, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UseError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UseError(f"{path} cannot be read: it is no text in UTF-8; save it as UTF-8") from None


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Put text into a file; whoever looks sees the old content or the new. Raises OSError.

    `durable` False: what was written last may be gone after a power cut.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Keep out others who do this in the same folder until it is done; it is made where it is not there. Raises
    OSError."""
    folder.mkdir(exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks keeps nobody out, and stops nobody
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """Keep out all others who take this lock. Raises FailedError, with the words `busy`, where one has it; OSError."""
    fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FailedError(busy) from None
        yield
    finally:
        os.close(fd)
