"""Read the cgroups of this process, versions 1 and 2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

UNLIMITED = 2**60
"""Version 1 writes a limit near 2**63 where there is none."""


class Place(NamedTuple):
    """A controller's directories for this process: its own first, then its visible parents.

    `version` is 1 or 2. Directories may not exist: a container may see fewer than its paths name.
    """

    version: int
    directories: tuple[Path, ...]


def locate(controller: str, cgroup: str, mountinfo: str) -> Place | None:
    """Find a controller (cpu, memory) in the texts of /proc/self/cgroup and /proc/self/mountinfo; None: none.

    A host may have both versions mounted; a controller is then in one of them only, and version 1 names it.
    """
    paths = {}
    for line in cgroup.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        paths.update(dict.fromkeys(controllers.split(","), path))
    for version, kind in ((1, "cgroup"), (2, "cgroup2")):
        own = paths.get(controller if version == 1 else "")
        if own is None:
            continue
        for line in mountinfo.splitlines():
            before, _, after = line.partition(" - ")
            fields, what = before.split(), after.split()
            if len(fields) < 5 or len(what) < 3 or what[0] != kind:
                continue
            if version == 2 or controller in what[2].split(","):
                return Place(version, _upwards(own, _plain(fields[3]), _plain(fields[4])))
    return None


def place(controller: str) -> Place | None:
    """Find a controller for this process; None where there is none, or /proc does not say."""
    try:
        proc = Path("/proc/self")
        return locate(controller, (proc / "cgroup").read_text(), (proc / "mountinfo").read_text())
    except OSError:
        return None


def _upwards(own: str, root: str, point: str) -> tuple[Path, ...]:
    """`own` is a path in the tree, of which the part below `root` is mounted at `point`."""
    inside = own == root or own.startswith(root.rstrip("/") + "/")
    # In a container the path may be the host's, of which nothing is mounted but the container's own part.
    below = [part for part in own[len(root) :].split("/") if part] if inside else []
    return tuple(Path(point, *below[:depth]) for depth in range(len(below), -1, -1))


def _plain(path: str) -> str:
    """mountinfo writes spaces and the like as octal escapes."""
    return path if "\\" not in path else re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def read(directory: Path, name: str) -> str | None:
    """Return a file's text; None where it is missing or cannot be read."""
    try:
        return (directory / name).read_text()
    except OSError:
        return None


def number(text: str | None) -> int | None:
    """Read a file that holds one number; None for `max`, or where there is none."""
    text = (text or "").strip()
    return int(text) if text[text.startswith("-") :].isdecimal() else None


def table(text: str | None) -> dict[str, int]:
    """Read a file of lines `key number`."""
    rows = (line.split() for line in (text or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def cpu_quota(found: Place) -> float | None:
    """Return the cores of the tightest quota; None where there is none."""
    quotas = []
    for directory in found.directories:
        if found.version == 2:
            quota, _, period = (read(directory, "cpu.max") or "").strip().partition(" ")
        else:
            quota, period = read(directory, "cpu.cfs_quota_us") or "", read(directory, "cpu.cfs_period_us") or ""
        allowed, each = number(quota), number(period)
        if allowed is not None and allowed > 0 and each:
            quotas.append(allowed / each)
    return min(quotas, default=None)


def memory_limits(found: Place) -> list[tuple[int, int]]:
    """Return (limit, still available) in bytes for each limit. Cached file pages that can be freed count as
    available."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    limit_name, usage_name, cached_name = names[found.version]
    limits = []
    for directory in found.directories:
        limit, usage = number(read(directory, limit_name)), number(read(directory, usage_name))
        if limit is not None and usage is not None and limit < UNLIMITED:
            cached = table(read(directory, "memory.stat")).get(cached_name, 0)
            limits.append((limit, max(0, limit - max(0, usage - cached))))
    return limits


def oom_counter(found: Place) -> Path | None:
    """Return the file that counts the kernel's OOM kills around this process; None where there is none.

    Version 2 counts in every group what happens below it, so the highest visible group also counts jobs that an earlier
    manager started from another session. Version 1 counts in each group alone.
    """
    names = [directory / "memory.events" for directory in reversed(found.directories)]
    if found.version == 1:
        names = [found.directories[0] / "memory.oom_control"]
    return next((path for path in names if "oom_kill" in table(read(path.parent, path.name))), None)
