"""The lock of a run: flock(2), and for runs whose directory several machines share, a sign of life beside it.

Over NFS flock(2) may not reach beyond one machine. So a manager there also touches `manager.beat` every BEAT seconds,
and whoever takes the run waits until that is stale. It writes a token of its own into the lock; a manager that was
taken for dead, and goes on later, finds another one there and ends before it does anything.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from queue_manager.adapters.clock_skew import written_ns
from queue_manager.adapters.files import PRIVATE, open_file
from queue_manager.adapters.processes import Stat, look_up
from queue_manager.core.layout import STALE_AFTER, beat_of

BEAT = 10.0
"""Seconds between two signs of life."""
_LEFT_BEHIND = 5.0
"""Seconds for which a lock is waited for whose holder has died: much longer than an exec(2) takes."""
Holder = Mapping[str, Any]
"""What a lock says of who has it: `pid`, `host`, `since`; of a job of Slurm also its ID, as `job`."""


class HeldError(Exception):
    """Another manager holds the run; the message says who."""


def nobody_ended(_holder: Holder) -> bool:
    """Know of no holder on another machine that it has ended."""
    return False


class Lock:
    """The run's lock: held while this object lives. Raises HeldError.

    `shared`: other machines have the directory, too. `ended` is asked of a holder on another machine whose sign of life
    is fresh: whether that process is known to have ended. `succeeds`: the holder before was on another machine, and has
    not given the run up by itself.
    """

    def __init__(
        self, path: Path, holder: Holder, shared: bool = False, ended: Callable[[Holder], bool] = nobody_ended
    ) -> None:
        self._path, self._ended = path, ended
        self._token = os.urandom(8).hex() if shared else None
        self._holder = {**holder, **({} if self._token is None else {"token": self._token})}
        self._closed = threading.Event()
        self._beating: threading.Thread | None = None
        self._fd = open_file(path, os.O_RDWR, PRIVATE)
        try:
            before = self._wait()
            self.succeeds = shared and self._check_elsewhere(before)
        except BaseException:
            os.close(self._fd)
            raise
        self._say(self._holder)
        if shared:
            self._beat()
            self._beating = threading.Thread(target=self._go_on_beating, name="heartbeat", daemon=True)
            self._beating.start()

    def _wait(self) -> str:
        """Take the lock. Returns what was written there. Raises HeldError."""
        until = time.monotonic() + _LEFT_BEHIND
        while not self._take():
            text = _text(self._fd)
            # What a manager was about to start as it was killed has the lock until it has become another program.
            if not _has_died(text) or time.monotonic() > until:
                raise HeldError(_describe_holder(text))
            time.sleep(0.01)
        return _text(self._fd)

    def _take(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            raise
        return True

    def _check_elsewhere(self, text: str) -> bool:
        """Whether the lock was left by a manager on another machine. Raises HeldError where that one may live."""
        holder = _parsed(text)
        if holder is None or holder.get("host") in (None, os.uname().nodename):
            return False
        try:
            age = (written_ns(str(self._path.parent)) - beat_of(self._path).stat().st_mtime_ns) / 1e9
        except FileNotFoundError:
            return False
        if age < STALE_AFTER and not self._ended(holder):
            raise HeldError(
                f"{_describe_holder(text)}; it was alive {max(0.0, age):.0f} s ago. If that machine is gone, try again "
                f"in {STALE_AFTER - max(0.0, age):.0f} s"
            )
        return True

    def _say(self, holder: Holder) -> None:
        """Write who has the lock. The new line is whole before the old one's rest is cut off, and only the first line
        counts. A full disk does not stop a manager."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, os.pwrite(self._fd, f"{json.dumps(holder)}\n".encode(), 0))

    def _beat(self) -> None:
        with contextlib.suppress(OSError):
            os.close(open_file(beat_of(self._path), os.O_WRONLY, PRIVATE))
            os.utime(beat_of(self._path))

    def _go_on_beating(self) -> None:
        while not self._closed.wait(BEAT):
            if not self.is_lost():
                self._beat()

    def is_lost(self) -> bool:
        """Whether another manager has taken the run meanwhile. What cannot be read says nothing."""
        if self._token is None:
            return False
        try:
            found = _parsed(self._path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return False
        return found is not None and found.get("token") not in (None, self._token)

    def taken_by(self) -> str:
        """Return who has the run now, in words."""
        with contextlib.suppress(OSError):
            return _describe_holder(self._path.read_text(encoding="utf-8", errors="replace"))
        return "another process"

    def renew(self) -> None:
        """Take the lock at its path again, where that file was removed or replaced; another that holds it keeps it."""
        try:
            if os.path.samestat(os.stat(self._path), os.fstat(self._fd)):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        if self.is_lost():
            return
        with contextlib.suppress(OSError, HeldError):
            again = Lock(self._path, self._holder)
            self._fd, again._fd = again._fd, self._fd
            again.close()

    def close(self) -> None:
        """Give the run up; others need not wait until the sign of life is stale."""
        self._closed.set()
        if self._beating is not None:
            self._beating.join()
            if not self.is_lost():
                # Where the lock was removed, and this one taken beside a manager that lives, that one keeps the run.
                self._say({name: value for name, value in self._holder.items() if name != "token"})
                with contextlib.suppress(OSError):
                    beat_of(self._path).unlink()
        os.close(self._fd)


def _text(fd: int) -> str:
    return os.pread(fd, 1 << 16, 0).decode(errors="replace")


def _parsed(text: str) -> Holder | None:
    """What the first line of a lock says; None if it is no object."""
    try:
        found = json.loads(text.partition("\n")[0])
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _has_died(text: str) -> bool:
    """Whether the holder that a lock names was a process of this host, and is none any more."""
    data = _parsed(text)
    try:
        if data is None or data["host"] != os.uname().nodename:
            return False
        found = look_up(int(data["pid"]))
    except (ValueError, KeyError, TypeError):
        return False
    return found is None or (isinstance(found, Stat) and found.state == "Z")


def _describe_holder(text: str) -> str:
    data = _parsed(text)
    try:
        return "another process" if data is None else f"process {data['pid']} on {data['host']}, since {data['since']}"
    except KeyError:
        return "another process"
