"""Makes every file and directory of ours on this machine, with its mode whatever the umask; reads a text file of a
person's, writes files whole or not at all, and does a thing alone. What is the user's own (a spec, workers.yaml,
results) has the umask's mode.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from build_manifest import regular_file
from skill.common.errors import FailedError, UseError

MOST = 4 << 20
"""Bytes of a file that a person writes by hand, at most."""


def read_text(path: Path, most: int = MOST) -> str:
    """The text of a file, its lines ending in \\n. Raises FileNotFoundError, and UseError where it cannot be read: it
    is not a regular file, has more than `most` bytes, or is not text."""
    try:
        return regular_file.read_text(path, most)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UseError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise UseError(f"{path} cannot be read: it is not UTF-8 text; save it as UTF-8") from None


PRIVATE = 0o600
"""Mode of files."""
SHOWN = 0o644
"""Mode of files that people read with `cat`: summaries and logs. Their directory is private."""
DIRECTORY = 0o700


def make_directory(path: Path) -> None:
    """Make a directory, and those above it that are missing, each at mode 0700. Raises OSError."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody made it at the same moment
            make_new_directory(one)


def make_new_directory(path: Path) -> None:
    """Make a directory at mode 0700. Raises FileExistsError where there is one, and OSError."""
    path.mkdir(DIRECTORY)
    path.chmod(DIRECTORY)


def make_users_directory(path: Path) -> None:
    """Make a directory of the user's, and those above it that are missing. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True)


def open_file(path: Path, flags: int, mode: int = PRIVATE) -> int:
    """Open a regular file and make it where it is missing, at `mode`; the descriptor. Raises OSError, also where
    something else, such as a FIFO, is in its place: no one is waited for at its other end."""
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return _regular(os.open(path, flags), path)
    except FileNotFoundError:
        pass
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        return _regular(os.open(path, flags), path)
    os.fchmod(fd, mode)
    return fd


def _regular(fd: int, path: Path) -> int:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return fd


def append_to(path: Path, mode: int = PRIVATE) -> BinaryIO:
    """A file, to be read and to be written at its end, without a buffer. Raises OSError."""
    return os.fdopen(open_file(path, os.O_RDWR | os.O_APPEND, mode), "a+b", buffering=0)


def make_name(path: Path, directory: Path) -> None:
    """Make a link that leads to a directory. Raises FileExistsError where there is something, and OSError."""
    path.symlink_to(directory, target_is_directory=True)


def write_whole(
    path: Path,
    text: str | bytes,
    *,
    mode: int | None = PRIVATE,
    durable: bool = True,
    errors: str = "strict",
    check: Callable[[], None] | None = None,
) -> None:
    """Put text into a file; whoever looks sees the old content or the new. Raises OSError.

    `mode` None: the file is the user's, and keeps its mode or has the umask's. `durable` False: what was written last
    may be gone after a power cut. `check` is called when only the rename is left; if it raises, the old content stays.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    if mode is None:
        with contextlib.suppress(FileNotFoundError):
            mode = path.stat().st_mode & 0o777
    try:
        with temporary.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(text if isinstance(text, bytes) else text.encode("utf-8", errors))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if check is not None:
            check()
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def try_lock(file: IO[bytes] | int, *, shared: bool = False) -> bool:
    """Take the lock of an open file, if nobody has it. `shared`: others may have it in the same way. It is given back
    when the file is closed. Raises OSError where the file system has no locks."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: IO[bytes] | int) -> None:
    """Take the lock of an open file once nobody has it. It is given back when the file is closed. Raises OSError."""
    fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Keep out others who do this in the same folder until it is done; it is made where it is not there. Raises
    OSError."""
    make_directory(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks keeps nobody out, and stops nobody
            wait_for_lock(fd)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Wait for all others who take this lock, and keep them out. Its directory is made, too. Raises OSError."""
    make_directory(lock.parent)
    fd = open_file(lock, os.O_RDWR)
    try:
        wait_for_lock(fd)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """Keep out all others who take this lock. Its directory is made, too. Raises FailedError, with the words `busy`,
    where one has it; OSError."""
    make_directory(lock.parent)
    fd = open_file(lock, os.O_RDWR)
    try:
        if not try_lock(fd):
            raise FailedError(busy)
        yield
    finally:
        os.close(fd)
