"""Create every file and directory of a run, each with its own mode whatever the umask is; the umask is for the files of
jobs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

PRIVATE = 0o600
"""Mode of files."""
SHOWN = 0o644
"""Mode of files that people read with `cat`: the state, the summary, logs. Their directory is private."""
DIRECTORY = 0o700
SHOWN_DIRECTORY = 0o755
"""Mode of what a user has in a directory of all users."""
LOG_UMASK = 0o022
"""The umask with which screen has to be started, for it makes the jobs' logs: at mode 0644."""
_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class UnsafeError(Exception):
    """Other users could change what is run here; the message says what to do."""


class Directory(NamedTuple):
    """A directory to be looked at by `mend`. `refuses`: the bits of others' write access that it may not have."""

    path: Path
    refuses: int = _OTHERS


def make_directory(path: Path) -> None:
    """Create a directory and its missing parents, each with mode 0700. Raises OSError."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for one in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody made it at the same moment
            one.mkdir(DIRECTORY)
            one.chmod(DIRECTORY)


def listed(folder: Path, begin: str = "", end: str = "") -> list[Path]:
    """Return what is in a folder and is named so; nothing where it cannot be read. (Path.glob compiles an expression
    first, which takes longer.)"""
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [folder / name for name in names if name.startswith(begin) and name.endswith(end)]


def open_file(path: Path, flags: int, mode: int) -> int:
    """Open a regular file, created with `mode` where it is missing; returns the descriptor. Raises OSError, also where
    something else, such as a FIFO, is in its place: it never waits for another process."""
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


def append_to(path: Path, mode: int = SHOWN) -> BinaryIO:
    """Open a file for appending without a buffer. Raises OSError."""
    return os.fdopen(open_file(path, os.O_WRONLY | os.O_APPEND, mode), "ab", buffering=0)


def write_text(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Write a file that nobody reads yet. Raises OSError."""
    with os.fdopen(open_file(path, os.O_WRONLY | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)


def write_new(path: Path, text: str, mode: int = PRIVATE) -> None:
    """Create a small file that does not exist yet. Raises FileExistsError and OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        os.fchmod(fd, mode)
        file.write(text)


def make_shown_directory(path: Path) -> None:
    """Create one directory that other users may read. Raises FileExistsError and OSError."""
    os.mkdir(path, SHOWN_DIRECTORY)
    os.chmod(path, SHOWN_DIRECTORY)


def write_locked(path: Path, data: bytes) -> int:
    """Write a small file for other users to read, who see the old one or the new one. It is locked (flock) for as long
    as the descriptor that is returned is open: nobody needs to believe more than that. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, SHOWN)
    try:
        os.fchmod(fd, SHOWN)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(temporary))
        os.replace(temporary, path)
    except OSError:
        os.close(fd)
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    return fd


def write_whole(path: Path, chunks: Iterable[bytes], mode: int = PRIVATE, durable: bool = True) -> None:
    """Write a file so that a reader sees the old or the new one, whatever is killed. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_like(path: Path, chunks: Iterable[bytes], model: os.stat_result, durable: bool) -> None:
    """Write a file that nobody reads yet, with the mode and the times of another. Raises OSError."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with open(fd, "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fchmod(fd, model.st_mode & 0o777)
            os.utime(fd, ns=(model.st_atime_ns, model.st_mtime_ns))
            if durable:
                os.fsync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


def make_fifo(path: Path) -> None:
    """Create a FIFO, unless there is one. Raises OSError."""
    if not (path.exists() and stat.S_ISFIFO(path.stat().st_mode)):
        os.mkfifo(path, PRIVATE)
        path.chmod(PRIVATE)


def open_fifo(path: Path) -> int:
    """Create a FIFO and keep it open, so that nobody who opens it waits for the other end. Raises OSError."""
    make_fifo(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def make_link(path: Path, target: Path) -> None:
    """Create a hard link. Raises FileExistsError where the name exists, and OSError."""
    os.link(target, path)


def mend(directories: Sequence[Directory], files: Sequence[tuple[Path, int]]) -> list[str]:
    """Take from other users the right to write into directories, and give files their modes; what is missing is passed.

    Returns what was done or cannot be, in words. Raises UnsafeError where others may write and that cannot be mended.
    """
    changes = []
    for path, refuses in directories:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat().st_mode
            if found & refuses and not found & stat.S_ISVTX:
                changes.append(_close(path, found, found & ~refuses))
    for path, mode in files:
        with contextlib.suppress(FileNotFoundError):
            info = path.lstat()
            # More than its mode is mended; less was somebody's wish.
            if stat.S_ISREG(info.st_mode) and info.st_mode & 0o777 & ~mode:
                changes.append(_close(path, info.st_mode, info.st_mode & mode))
    return changes


def _close(path: Path, found: int, wanted: int) -> str:
    was, now = f"{stat.S_IMODE(found):04o}", f"{stat.S_IMODE(wanted):04o}"
    try:
        path.chmod(stat.S_IMODE(wanted))
    except OSError as error:
        raise UnsafeError(
            f"other users may write into {path} (mode {was}), and so decide what is run here; it cannot be closed "
            f"to them ({error.strerror}): as its owner run chmod {now} {path}, or choose another place"
        ) from None
    if stat.S_IMODE(path.lstat().st_mode) != stat.S_IMODE(wanted):
        return f"{path} has mode {was}, and its file system keeps no modes: who can reach it can change what is run"
    return f"{path} had mode {was}; it is {now} now"


def umask() -> int:
    """Return the umask of this process. No other thread may create files meanwhile."""
    found = os.umask(0o077)
    os.umask(found)
    return found
