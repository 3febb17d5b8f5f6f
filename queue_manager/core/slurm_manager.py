"""What a manager that runs as a job of Slurm asks for: `manager` in the `slurm` settings at the top of a spec. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from queue_manager.core import slurm_needs

AS_JOB = "--as-slurm-job"
"""The manager's option, by which it knows that it is one."""
KEYS = ("partition", "account", "qos", "time", "mem", "constraint", "extra")
_EXAMPLE = "{partition: cpu, time: 1-00:00:00}"
_LEAST = 10
"""Minutes: it hands over two minutes before its limit."""
_OURS = ("--signal", "--begin", "-b", "--ntasks", "-n")


def fault(value: Any) -> str | None:
    """Return what is wrong with the settings, and what to write instead; None if they are right."""
    if not isinstance(value, Mapping):
        return f"slurm.manager must be a mapping, such as {_EXAMPLE}"
    unknown = next((key for key in value if key not in KEYS), None)
    if unknown is not None:
        return f"slurm.manager has no key {unknown!r}; it has: {', '.join(KEYS)}"
    words = slurm_needs.fault(value)
    if words is not None:
        return words.replace("slurm.", "slurm.manager.", 1)
    own = next((word for word in value.get("extra", ()) if word.split("=")[0] in _OURS), None)
    if own is not None:
        return f"slurm.manager.extra has {own}, which wavequeue sets itself"
    limit = minutes(str(value["time"])) if "time" in value else None
    if limit is not None and limit < _LEAST:
        return f"slurm.manager.time {value['time']!r} is less than {_LEAST} minutes; write it as 1-00:00:00 for a day"
    return None


def is_manager(value: Any) -> bool:
    """Return whether a manifest may have these settings."""
    return fault(value) is None


def minutes(text: str) -> float | None:
    """Return a time as sbatch reads it, in minutes; None if it is none, or without limit."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return None
    days, *parts = found.groups()
    first, second, third = (int(part or 0) for part in parts)
    if days is not None:
        return int(days) * 1440 + first * 60 + second + third / 60
    return first + second / 60 if parts[2] is None else first * 60 + second + third / 60
