"""Which GPUs the runs of this host have assigned, of all users, so that no GPU is assigned twice.

Runs of one user coordinate through ~/.wavequeue (see `leases`), those of all users through the directory that they
share. There a lease counts while its file is locked, as its manager does while it lives: the kernel shows locks to all
users and containers alike. After that it counts while a process of its attempt is seen alive, or, where its processes
cannot be seen (another container), for BELIEVED seconds. What remains of a killed manager's attempt then shows by its
memory use. Invalid files are ignored: they can neither block a GPU nor harm a reader.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from types import TracebackType

from queue_manager.adapters import files, processes
from queue_manager.adapters.cards_lock import CardsLock, user
from queue_manager.adapters.leases import LAUNCH_SECONDS, Leases
from queue_manager.adapters.shared_directory import Folder, SharedDirectory
from queue_manager.core import layout, shared_leases
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.readings import Unreadable
from queue_manager.core.shared_leases import MOST_BYTES, PublishedLeases, Row
from queue_manager.core.state_types import Attempt

BELIEVED = 60.0
"""Seconds since its manager last touched it (every 10 s) for which a lease is believed whose processes are not seen."""
FORGOTTEN = 3600.0
"""Seconds after which files of killed managers of this user are removed."""
MOST_LEASES = 256
"""Most files of one user that are read."""
_MAY_BE_SHARED = "another user's run may use the same GPU"


class SharedLeases:
    """The lease of one run among those of all users, and a view of the others. `key`: see layout.run_key.

    `fault`: why others do not see this run's, in words.
    """

    def __init__(self, directory: SharedDirectory, key: str, view: str) -> None:
        self._directory, self._view, self._name = directory, view, layout.shared_lease(key)
        self._sees = os.access("/proc/1/stat", os.R_OK)
        self._fd: int | None = None
        self._written: bytes | None = None
        self._users: dict[int, str | None] = {}
        self.held = True
        self.fault: str | None = None

    def foreign(self, judged: Container[str]) -> list[ForeignLease]:
        """Return what runs of all users have assigned, except this one and those whose files are `judged` already.
        Raises OSError."""
        found: list[ForeignLease] = []
        lost = self._fd is not None
        for folder in self._directory.folders():
            own = folder.uid == self._directory.uid
            for name in _names(folder):
                if own and name == self._name:
                    lost = False
                elif not (own and name in judged):
                    found += self._counting(folder, name, own)
        if lost:
            self._write_again()
        return found

    def _counting(self, folder: Folder, name: str, own: bool) -> Iterator[ForeignLease]:
        fd = folder.open(name, MOST_BYTES)
        if fd is None:
            return
        try:
            published = shared_leases.decode(os.read(fd, MOST_BYTES))
            age = abs(time.time() - os.fstat(fd).st_mtime)  # a time that is yet to come says nothing, either
            lives = is_locked(fd)
            rows = (
                published.rows
                if lives
                else [row for row in published.rows if self._counts(published, row, age, folder.uid)]
            )
        except (OSError, ValueError):
            return
        finally:
            os.close(fd)
        owner = self._users.setdefault(folder.uid, None) or f"a user with uid {folder.uid}"
        for row in rows:
            for card in row.cards:
                yield ForeignLease(card, row.mib, name, owner)
        if own and not lives and not rows and age > FORGOTTEN:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder.fd)

    def _counts(self, published: PublishedLeases, row: Row, age: float, uid: int) -> bool:
        """Return whether a lease counts whose manager does not live, or is not known to."""
        if published.view != self._view or not self._sees:
            return age < BELIEVED
        if row.wrapper is None:
            return age < LAUNCH_SECONDS
        return processes.alive(row.wrapper) is True and processes.owner(row.wrapper.pid) == uid

    def learn_names(self) -> None:
        """Look up the names of users that were met; not under the lock, since it may take its time."""
        for uid, words in self._users.items():
            if words is None:
                self._users[uid] = user(uid)

    def write(self, attempts: Iterable[Attempt]) -> None:
        """Publish what this run has assigned; `fault` says where that fails."""
        mine = [attempt for attempt in attempts if attempt.cards]
        data = shared_leases.encode(self._view, os.getpid(), mine) if mine else b""
        if data == self._written:
            return
        try:
            self._put(data)
        except OSError as error:
            self.fault = f"other users are not informed which GPUs this run uses ({error}): {_MAY_BE_SHARED}"
            return
        self._written, self.held, self.fault = data, bool(mine), None

    def _put(self, data: bytes) -> None:
        """Replace this run's file; no bytes: remove it."""
        if not data:
            folder = self._directory.own(make=False)
            if folder is not None:
                (folder / self._name).unlink(missing_ok=True)
            self._close()
            return
        if len(data) > MOST_BYTES:
            raise OSError(f"they take {len(data)} bytes, of which {MOST_BYTES} are read")
        try:
            fd = files.write_locked(self._path(), data)
        except FileNotFoundError:  # somebody has cleaned up
            self._directory.forget_own()
            fd = files.write_locked(self._path(), data)
        self._close()
        self._fd = fd

    def _path(self) -> Path:
        folder = self._directory.own()
        assert folder is not None
        return folder / self._name

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
        self._fd = None

    def beat(self) -> None:
        """Show that this run still has what it has, also to what removes old files."""
        if self._fd is not None:
            if os.fstat(self._fd).st_nlink:
                os.utime(self._fd)
            else:
                self._write_again()

    def _write_again(self) -> None:
        with contextlib.suppress(OSError):
            if self._written:
                self._directory.forget_own()
                self._put(self._written)

    def close(self) -> None:
        """Remove this run's file, once nothing of it runs. Raises OSError."""
        self._put(b"")


class HostLeases:
    """The leases of one run and a view of all others on this host. Use as a context: inside it no other run places.

    `fault`: what other users' runs do not see, or do not keep to, in words.
    """

    def __init__(self, home: Leases, shared: SharedLeases | None, lock: CardsLock, unshared: str | None) -> None:
        self._home, self._shared, self._lock, self._unshared = home, shared, lock, unshared
        self._waits: str | None = None
        self.fault: str | None = None

    @classmethod
    def of(cls, home: Leases, directory: SharedDirectory, key: str) -> HostLeases:
        """`directory`: what all users share; where there is none, runs of this user alone agree."""
        lock = CardsLock(directory.paths.cards_lock)
        if directory.fault is not None:
            return cls(home, None, lock, f"{directory.fault}: {_MAY_BE_SHARED}")
        return cls(home, SharedLeases(directory, key, view_of_processes()), lock, None)

    @property
    def held(self) -> bool:
        """Whether files on disk may hold leases of this run."""
        return self._home.held or (self._shared is not None and self._shared.held)

    def __enter__(self) -> HostLeases:
        self._home.__enter__()
        self._waits = None
        if self._shared is not None and self._home.locked:
            self._waits = self._lock.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._home.__exit__(kind, error, trace)
        if self._shared is not None:
            self._shared.learn_names()
            self.fault = self._lock.fault or self.fault or self._shared.fault

    def foreign(self) -> tuple[ForeignLease, ...] | Unreadable:
        """Return what other runs have assigned."""
        home = self._home.foreign()
        self.fault = self._unshared
        if isinstance(home, Unreadable) or self._shared is None:
            return home
        if self._waits is not None:
            return Unreadable(self._waits)
        try:
            judged = {layout.shared_lease(key) for key in self._home.judged}
            return (*home, *self._shared.foreign(judged))
        except OSError as error:
            self.fault = f"other users' leases cannot be read ({error}): {_MAY_BE_SHARED}"
            return home

    def owners(self) -> tuple[str, ...]:
        """Who has cards by runs of other homes now, in words, as far as that can be read."""
        with self:
            found = self.foreign()
        return () if isinstance(found, Unreadable) else tuple(sorted({one.owner for one in found if one.owner}))

    def write(self, attempts: Iterable[Attempt]) -> None:
        """Publish what this run has assigned. Raises OSError."""
        mine = list(attempts)
        if self._shared is not None:
            self._shared.write(mine)
        self._home.write(mine)

    def beat(self) -> None:
        """Show now and then that this run goes on."""
        if self._shared is not None:
            self._shared.beat()

    def close(self) -> None:
        """Remove this run's files, once nothing of it runs. Raises OSError."""
        if self._shared is not None:
            self._shared.close()
        self._home.close()


def is_locked(fd: int) -> bool:
    """Return whether another process holds a file's lock. Raises OSError where the file system has none."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def view_of_processes() -> str:
    """Names the kernel's life and the pid namespace: where it is the same, a pid means the same process."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            return f"{file.read().strip()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return f"none/{os.getpid()}"


def _names(folder: Folder) -> list[str]:
    try:
        found = [name for name in folder.names() if layout.is_shared_lease(name)]
    except OSError:
        return []
    return found[:MOST_LEASES]
