"""Read local files that others may have put there: only regular files, without waiting for a writer, and at most so
many bytes.

All that goes wrong is an OSError whose `strerror` says it in words and whose `filename` names the file.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MOST = 64 << 20
"""Bytes of a file that a person writes, at most."""
_KINDS = (
    (stat.S_ISFIFO, "is a named pipe"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
    (stat.S_ISSOCK, "is a socket"),
)


def open_regular(path: str | Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading; a pipe or a device is refused and not waited for.

    `follow` False: nor is a link followed, where a host may have put one. Raises OSError.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "is a symbolic link; put the file itself there", str(path)) from None
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "is a socket or a device, not a regular file", str(path)) from None
        raise
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            what = next((words for is_kind, words in _KINDS if is_kind(mode)), "is something else")
            raise OSError(errno.EINVAL, f"{what}, not a regular file", str(path))
        return os.fdopen(fd, "rb")
    except BaseException:
        os.close(fd)
        raise


def read(path: str | Path, most: int = MOST, *, follow: bool = True) -> bytes:
    """Read all of a regular file, at most `most` bytes. Raises OSError, see `open_regular`."""
    with open_regular(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(most + 1)
        if size > most or len(data) > most:
            words = f"is too large: {max(size, len(data)):,} bytes, and at most {most:,} are read"
            raise OSError(errno.EFBIG, words, str(path))
        return data


def read_text(path: str | Path, most: int = MOST, *, follow: bool = True, errors: str = "strict") -> str:
    """Read it as text in UTF-8, lines ending in \\n. Raises OSError, and UnicodeDecodeError unless `errors` allows
    it."""
    return read(path, most, follow=follow).decode("utf-8", errors).replace("\r\n", "\n").replace("\r", "\n")
