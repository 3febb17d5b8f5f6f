"""Open files that others may have placed: regular ones only, and without ever waiting."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path, follow: bool = True) -> BinaryIO:
    """Open a file to read. Raises OSError, also for a FIFO, a device, a socket and a directory; with `follow` False
    for a symbolic link as well."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW))
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return os.fdopen(fd, "rb")
    except OSError:
        os.close(fd)
        raise


def read_regular(path: Path, most: int, follow: bool = True) -> bytes:
    """Read a whole file of at most `most` bytes. Raises OSError, see `open_regular`, also where it is larger."""
    with open_regular(path, follow) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most} bytes", str(path))
    return data
