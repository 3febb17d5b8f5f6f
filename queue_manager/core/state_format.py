"""Rules about state documents that their readers share. Pure, and light to import."""

from __future__ import annotations

from collections.abc import Mapping

from queue_manager.core.status import RETRYING, Status

FORMAT = "wavequeue-state"
VERSION = 1


def phase_status(counts: Mapping[Status, int]) -> str:
    """Return a phase's status from those of its jobs: active ones come first, then those that need a person."""
    if set(counts) <= {Status.COMPLETED}:
        return "completed"
    if Status.RUNNING in counts or RETRYING & set(counts):
        return "running"
    if Status.PENDING in counts:
        return "running" if Status.COMPLETED in counts else "pending"
    for status in (Status.STUCK, Status.BLOCKED, Status.CANCELLED):
        if status in counts:
            return str(status.value)
    return "pending"
