"""Hard links: whether a file system has them, and taking a name once where it has none."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

_NONE = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def has_links(folder: Path) -> bool:
    """Whether the file system of a folder has hard links. It is believed to where that cannot be tried.

    Raises OSError where it has none, and does not keep a directory from being replaced either: then nothing can be
    claimed once and for all there.
    """
    first, second = (folder / f".probe-{os.getpid()}-{n}" for n in (1, 2))
    try:
        first.touch()
        os.link(first, second)
    except OSError as error:
        if error.errno not in _NONE:
            return True
        reason = error.strerror
    else:
        return True
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                path.unlink()
    if not _keeps_directories(first, second):
        raise OSError(
            errno.EOPNOTSUPP,
            f"the file system has no hard links ({reason}), and lets a directory be replaced by another: no attempt "
            "can be claimed there; put the run on another one",
            str(folder),
        )
    return False


def _keeps_directories(first: Path, second: Path) -> bool:
    """Whether a directory that holds something is not replaced when another is renamed to its name."""
    try:
        for path in (first, second):
            path.mkdir()
            (path / "by").touch()
        with suppress_taken():
            first.rename(second)
            return False
        return True
    finally:
        for path in (first, second):
            with contextlib.suppress(OSError):
                (path / "by").unlink()
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def suppress_taken() -> Iterator[None]:
    """Let a rename of a directory fail where somebody has its new name. Raises OSError for any other reason."""
    try:
        yield
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
