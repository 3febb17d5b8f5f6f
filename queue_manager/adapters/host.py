"""Facts about the machine: its boot ID, and the cores, memory and disk that this process may use."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters import cgroups
from queue_manager.core.readings import Unreadable

_MIB = 2**20


class Memory(NamedTuple):
    """In MiB: what this process could use at most, and what it could use now."""

    total: int
    available: int


def boot_id() -> str:
    """Names the machine's life: another one means that no process of before can be alive.

    The kernel's boot id together with the start of process 1, since a container that is restarted keeps the first.
    WAVEQUEUE_PROC stands for /proc, as in `vast.container`.
    """
    kernel = _text("/proc/sys/kernel/random/boot_id").strip()
    proc = os.environ.get("WAVEQUEUE_PROC") or "/proc"
    # Where other users' processes are hidden (hidepid) it has to do without: the same at every start.
    return f"{kernel}.{start_ticks(_text(f'{proc}/1/stat'))}"


def start_ticks(stat: str) -> int:
    """When a process began, in clock ticks since the kernel's boot, from the text of /proc/PID/stat; 0: not known."""
    fields = stat.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 else 0


def usable_cores() -> int:
    """Return the cores that this process may use: its affinity, and the quota of its cgroups rounded down; at least
    1."""
    place = cgroups.place("cpu")
    return cores(len(os.sched_getaffinity(0)), None if place is None else cgroups.cpu_quota(place))


def cores(affinity: int, quota: float | None) -> int:
    """Return whole cores from both limits."""
    return affinity if quota is None else max(1, min(affinity, math.floor(quota)))


def memory() -> Memory | Unreadable:
    """Return the memory of the machine, or of the cgroups around this process where they allow less."""
    place = cgroups.place("memory")
    return usable_memory(_text("/proc/meminfo"), [] if place is None else cgroups.memory_limits(place))


def usable_memory(meminfo: str, limits: list[tuple[int, int]]) -> Memory | Unreadable:
    """Return the least of the machine's memory and of the `limits`: (limit, still available) in bytes."""
    rows = {line.partition(":")[0]: line.split() for line in meminfo.splitlines() if line.endswith(" kB")}
    if "MemTotal" not in rows or "MemAvailable" not in rows:
        return Unreadable("/proc/meminfo does not give the machine's memory")
    total, available = (int(rows[name][1]) * 1024 for name in ("MemTotal", "MemAvailable"))
    return Memory(
        min(total, *(limit for limit, _ in limits), total) // _MIB,
        min(available, *(left for _, left in limits), available) // _MIB,
    )


def disk_free_mib(path: Path) -> int | Unreadable:
    """Return the MiB that this user may still write where `path` is or will be; it need not exist yet."""
    there = Path(os.path.abspath(path))
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    try:
        stat = os.statvfs(there)
    except OSError as error:
        return Unreadable(f"{there}: {error.strerror}")
    return stat.f_bavail * stat.f_frsize // _MIB


def no_room(path: Path) -> str | None:
    """Return why there is no room to launch at `path`; None if there is, or it is unknown."""
    try:
        return room_fault(os.statvfs(path), path)
    except OSError:
        return None


def room_fault(stat: os.statvfs_result, path: Path) -> str | None:
    """Why a file system is full: it wants 16 MiB, or 3 % of a small disk, and 64 inodes, or 3 % of few. A file system
    that counts no inodes says that it has none at all."""
    free, total = stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize
    if free < min(16 << 20, total * 3 // 100):
        return f"the disk is full: no room at {path}"
    if stat.f_files and stat.f_favail < min(64, stat.f_files * 3 // 100):
        return f"the disk is full: no room for new files at {path} (no inodes are left)"
    return None


def oom_kills() -> int | None:
    """Return how often the kernel's OOM killer has acted around this process; None: unknown. Cheap; only grows.

    Counted for its cgroups; for the whole machine where they do not count.
    """
    path = _oom_counter()
    return cgroups.table(cgroups.read(path.parent, path.name)).get("oom_kill")


@functools.lru_cache(maxsize=1)
def _oom_counter() -> Path:
    place = cgroups.place("memory")
    return (None if place is None else cgroups.oom_counter(place)) or Path("/proc/vmstat")


def _text(path: str) -> str:
    """A file of /proc; empty where it cannot be read."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""
