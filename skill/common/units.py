"""Sizes, counts and money in words. Times and durations: queue_manager.core.times; what a person types:
build_manifest.values."""

from __future__ import annotations


def size_text(size: int) -> str:
    """Write a number of bytes for a person: `3.4 MiB`."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def mib_text(mib: int) -> str:
    """Write a large number of MiB for a person, from 10 GiB on in whole GiB: `900 MiB`, `37 GiB`."""
    return f"{mib / 1024:.0f} GiB" if mib >= 10240 else f"{mib} MiB"


def count_text(count: int, what: str) -> str:
    """Write how many there are of something: `1 job`, `2 jobs`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def jobs_text(count: int) -> str:
    """Write a number of jobs for a person: `1 job`."""
    return count_text(count, "job")


def usd(amount: float) -> str:
    """Write an amount in $; small ones in more digits, so that none looks like nothing."""
    if 0 < amount < 0.00005:
        return "less than $0.0001"
    return f"${amount:.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.4f}"
