"""When Slurm sends USR1 to a job that is to end soon, so that it may save its work. Pure.

What ends it is Slurm's time limit or our own timeout, whichever comes first. Slurm counts back from its own limit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

NOTICE = 60.0
"""Seconds before the end. Slurm may be up to a minute early."""
_MOST = 65535
"""The most seconds that sbatch --signal takes."""
_TIME = re.compile(r"(?:(?P<d>\d+)-(?P<h>\d+)(?::(?P<m>\d+)(?::(?P<s>\d+))?)?|(?P<parts>\d+(?::\d+){0,2}))")


def seconds(time: Any) -> float | None:
    """Return a time limit as sbatch reads it (`30`, `90:00`, `4:00:00`, `1-12`, in seconds); None if it is none."""
    found = _TIME.fullmatch(str(time))
    if found is None:
        return None
    if found["parts"] is None:
        days, hours, minutes, rest = (int(found[name] or 0) for name in "dhms")
        return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    parts = [int(part) for part in found["parts"].split(":")]
    return float(parts[0] * 60 if len(parts) == 1 else sum(part * 60**n for n, part in enumerate(reversed(parts))))


def notice(options: Sequence[str], timeout: float | None) -> tuple[str, ...]:
    """Return the option of sbatch for it. `options`: those that it gets beside, which may have a --signal of the
    user's; `timeout`: our own, in seconds."""
    if any(option.startswith("--signal") for option in options):
        return ()
    times = [option.partition("=")[2] for option in options if option.startswith("--time=")]
    limit = seconds(times[-1]) if times else None
    if not limit:  # 0: there is none
        return (f"--signal=B:USR1@{NOTICE:.0f}",)
    end = min(limit, timeout or limit)
    ahead = limit - end + min(NOTICE, end / 2)
    return (f"--signal=B:USR1@{min(_MOST, math.ceil(ahead))}",)
