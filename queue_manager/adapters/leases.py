"""Which GPUs this user's runs on this host have assigned, so that no two runs assign the same one. Runs of other users
are the subject of `host_leases`, which contains this.

Each run has one file, rewritten under a common lock, in which the placing run also reads the others'. A lease counts
while the manager that wrote it lives, or a process of its attempt does; a restart of the host ends them all.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from queue_manager.adapters import agent_status, processes
from queue_manager.adapters.files import PRIVATE, listed, make_directory, open_file, write_whole
from queue_manager.core import agents
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths, tag
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable

LOCK_SECONDS = 2.0
"""A manager holds the lock for milliseconds; one that was stopped in the middle must not stop the others."""
LAUNCH_SECONDS = 10.0
"""What a manager had just started when it was killed may take so long to show itself."""


class Leases:
    """The leases of one run, and a view of all others. Use as a context: inside it no other run places.

    `key`: by which the processes of its attempts are found, see layout.run_key.
    """

    def __init__(self, host: HostPaths, run_id: str, key: str, boot: str, me: Proc) -> None:
        self._host, self._run_id, self._key, self._boot, self._me = host, run_id, key, boot, me
        make_directory(host.leases)
        self._path = host.leases / f"{run_id}.json"
        self._lock: int | None = None
        self._unlocked: str | None = "the lock of the GPUs is not taken"
        self._written: str | None = None
        self.held = True
        """Whether the file on disk may hold leases."""
        self.judged: set[str] = set()
        """Keys of the runs whose files were read last, and whose processes could be looked at."""

    @property
    def locked(self) -> bool:
        """Whether this run holds the lock, so that no other run of this user assigns GPUs."""
        return self._unlocked is None

    def __enter__(self) -> Leases:
        path, patience = self._host.cards_lock, time.monotonic() + LOCK_SECONDS
        try:
            self._lock = open_file(path, os.O_RDWR, PRIVATE)
            while not _try_lock(self._lock):
                if time.monotonic() > patience:
                    self._unlocked = f"{path} is held by another manager that makes no progress"
                    return self
                time.sleep(0.002)
            self._unlocked = None
        except OSError as error:
            self._unlocked = f"{path}: {error.strerror}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock, self._unlocked = None, "the lock of the GPUs is not taken"

    def foreign(self) -> tuple[ForeignLease, ...] | Unreadable:
        """What other runs have given away, and what agents were promised."""
        if self._unlocked is not None:
            return Unreadable(self._unlocked)
        found: list[ForeignLease] = []
        self.judged.clear()
        for path in listed(self._host.leases, end=".json"):
            if path == self._path:
                continue
            try:
                data = json.loads(path.read_text())
                if data["boot"] == self._boot:
                    self.judged.add(str(data.get("key")))
                    found += _counting(data, time.time() - path.stat().st_mtime)
                elif not data["leases"]:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                return Unreadable(f"{path}: {error!r}")
        promised = agent_status.read(self._host)
        if isinstance(promised, Unreadable):
            return promised
        return (*found, *agents.leases(promised, time.time(), self._run_id))

    def write(self, attempts: Iterable[Attempt]) -> None:
        """Publish what this run has assigned. Raises OSError."""
        leases = [
            {
                "cards": attempt.cards,
                "mib": attempt.mib,
                "job": attempt.job,
                "n": attempt.n,
                "wrapper": attempt.wrapper,
            }
            for attempt in attempts
            if attempt.cards
        ]
        data = {"run_id": self._run_id, "key": self._key, "boot": self._boot, "manager": self._me, "leases": leases}
        text = json.dumps(data)
        if text != self._written:
            write_whole(self._path, [text.encode()], durable=False)
            self._written = text
            self.held = bool(leases)

    def close(self) -> None:
        """Remove this run's file, once nothing of it runs."""
        self._path.unlink(missing_ok=True)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _counting(data: Mapping[str, Any], age: float) -> list[ForeignLease]:
    """The leases of one file that count; `age`: seconds since it was written."""
    run_id = str(data["run_id"])
    key = str(data.get("key", run_id))
    manager_lives = processes.alive(Proc(*data["manager"])) is not False
    found = []
    tags: dict[str, list[Proc]] | Unreadable | None = None
    for lease in data["leases"]:
        counts = manager_lives
        if not counts:
            wrapper = lease["wrapper"]
            counts = processes.alive(Proc(*wrapper)) is not False if wrapper else age < LAUNCH_SECONDS
        if not counts:
            if tags is None:
                tags = processes.TagScan(key).tagged()
            counts = isinstance(tags, Unreadable) or tag(key, lease["job"], lease["n"]) in tags
        if counts:
            found += [ForeignLease(card, lease["mib"], run_id) for card in lease["cards"]]
    return found
