"""Time limits as sbatch reads and Slurm writes them. Pure."""

from __future__ import annotations

import math
import re

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+))?(?::(\d+))?")
_CLOCK = re.compile(r"(\d+)(?::(\d+))?(?::(\d+))?")
_NONE = frozenset({"unlimited", "infinite", "-1"})


def seconds(text: str) -> float | None:
    """Return a time limit in seconds, infinite where it is none; None if sbatch would refuse it.

    Its forms: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes,
    days-hours:minutes:seconds; and UNLIMITED.
    """
    text = text.strip()
    if text.lower() in _NONE:
        return math.inf
    found = _DAYS.fullmatch(text)
    if found is not None:
        days, hours, minutes, rest = (int(part or 0) for part in found.groups())
        return days * 86400.0 + hours * 3600 + minutes * 60 + rest
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    parts = [int(part) for part in found.groups() if part is not None]
    whole = parts[0] * 60.0 if len(parts) == 1 else sum(part * 60.0**at for at, part in enumerate(reversed(parts)))
    return whole or math.inf  # 0 asks for no limit


def words(limit: float) -> str:
    """Return a time limit in seconds as sbatch reads it: whole minutes, rounded up."""
    return "UNLIMITED" if math.isinf(limit) else str(math.ceil(limit / 60))


def clock(limit: float) -> str:
    """Return a time limit in seconds as Slurm shows it: 4:00:00, 2-00:00:00."""
    if math.isinf(limit):
        return "UNLIMITED"
    days, rest = divmod(round(limit), 86400)
    text = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text
