"""Try on a host what every run needs beside python and screen, in its home. Leaves nothing there."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOM_MIB = 32
"""So much is asked for in the home: a quota shows only to who asks."""
SHARED = "/dev/shm"


def describe(home: Path, shared: str = SHARED) -> dict[str, Any]:
    """What was tried. `home`: what prevents a run that is kept in the home, a text each; empty if nothing does.
    `shm_mib`: the size of the shared memory, null where it is unknown."""
    folder = home / ".wavequeue"
    return {"home": home_faults(folder if folder.is_dir() else home), "shm_mib": size_mib(shared)}


def home_faults(folder: Path) -> list[str]:
    """What blocks a run whose files and runtime lie below `folder`, a text each."""
    try:
        tried = (_room(folder), _programs(folder))
    except OSError as error:
        return [f"nothing can be written into {folder}: {error.strerror}"]
    return [text for text in tried if text is not None]


@contextmanager
def _nameless(folder: Path) -> Iterator[int]:
    """Open a new file whose name is gone again, which ends with this block. (tempfile takes long to load.)"""
    path = folder / f".needs-{os.urandom(8).hex()}"  # hosts may share this folder
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        path.unlink()
        yield fd
    finally:
        os.close(fd)


def _room(folder: Path) -> str | None:
    with _nameless(folder) as fd:
        try:
            os.posix_fallocate(fd, 0, ROOM_MIB << 20)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                return f"its home has no room for {ROOM_MIB} MiB: {error.strerror}; free some there, or get more"
    return None


def _programs(folder: Path) -> str | None:
    """Whether libraries can be loaded from there, which a mount with noexec forbids."""
    with _nameless(folder) as fd:
        os.write(fd, b"\0" * mmap.PAGESIZE)
        try:
            mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC).close()
        except PermissionError:
            return (
                "its home is mounted noexec, so that the libraries of the manager cannot be loaded from there; have it "
                "mounted with exec, or use an account whose home is"
            )
        except OSError:
            return None
    return None


def size_mib(folder: str) -> int | None:
    """The size of a file system in MiB; None where it is unknown."""
    try:
        found = os.statvfs(folder)
        return found.f_blocks * found.f_frsize >> 20
    except OSError:
        return None
