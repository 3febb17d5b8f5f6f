"""Sizes and counts in words."""

from __future__ import annotations


def size_text(size: int) -> str:
    """Write a number of bytes for a person: `3.4 MiB`."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def jobs_text(count: int) -> str:
    """Write a number of jobs for a person: `1 job`."""
    return "1 job" if count == 1 else f"{count} jobs"
