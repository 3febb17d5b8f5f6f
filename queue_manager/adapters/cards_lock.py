"""The lock under which the runs of all users of a host assign GPUs, one at a time.

Any user can hold it for any time, so nobody waits for it forever: after BOUND seconds it is bypassed, and that is
reported. Leases are read and written all the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import time
from collections.abc import Callable
from pathlib import Path

from queue_manager.adapters.files import SHOWN, open_file

BOUND = 60.0
"""Seconds. A run that works holds the lock for milliseconds."""
PATIENCE = 2.0
"""Seconds that a turn waits for it, once; a holder that kept it that long is checked again at each turn."""
_PAUSE = 0.002


class CardsLock:
    """One manager's view of the lock. `fault`: why GPUs are assigned without it."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._fd: int | None = None
        self._refused_since: float | None = None
        self.held = False
        self.fault: str | None = None

    def take(self) -> str | None:
        """Take the lock, or bypass it where it cannot be had. Returns who has it where neither is possible."""
        began = self._clock()
        try:
            while not self._try():
                now = self._clock()
                if self._refused_since is not None or now - began > PATIENCE:
                    return self._refused(now)
                time.sleep(_PAUSE)
        except OSError as error:
            self._close()
            reason = "is a symbolic link" if error.errno == errno.ELOOP else f"cannot be used ({error.strerror})"
            self.fault = f"{self._path} {reason}: GPUs are assigned without the lock that all users share; remove it"
            return None
        self._refused_since = self.fault = None
        return None

    def _refused(self, now: float) -> str | None:
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since < BOUND:
            return f"{self._path} is held by {self._holder()}, which makes no progress"
        if self.fault is None:
            held = f"{self._path} has been held for over a minute by {self._holder()}, which makes no progress"
            self.fault = f"{held}: GPUs are assigned without the lock that all users share"
        return None

    def _try(self) -> bool:
        """Try once. A lock file that its owner has replaced is no longer the shared one, and is opened again."""
        for _ in range(8):
            if self._fd is None:
                # Not made by O_CREAT where it is there: kernels refuse that for what others made in a sticky directory.
                self._fd = open_file(self._path, os.O_RDONLY | os.O_NOFOLLOW, SHOWN)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._is_current():
                    return False
            else:
                if self._is_current():
                    self.held = True
                    return True
            self._close()
        raise OSError(errno.EBUSY, "it is replaced again and again", str(self._path))

    def _is_current(self) -> bool:
        assert self._fd is not None
        mine = os.fstat(self._fd)
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def release(self) -> None:
        if self.held and self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        self.held = False

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self.held = None, False

    def _holder(self) -> str:
        assert self._fd is not None
        found = os.fstat(self._fd)
        try:
            with open("/proc/locks", encoding="utf-8", errors="replace") as file:
                pid = parse_holder(file.read(), found.st_dev, found.st_ino)
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return "another process"
        return f"process {pid} of {user(uid)}"


def parse_holder(text: str, device: int, inode: int) -> int:
    """Read from /proc/locks the process that holds the flock of a file; 0 where it is unknown."""
    where = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == where and fields[4].isdigit():
            return int(fields[4])
    return 0


def user(uid: int) -> str:
    """Name a user. May ask a directory service, and take its time."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"a user with uid {uid}"
    return f"user {name} (uid {uid})"
