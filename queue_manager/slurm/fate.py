"""What Slurm's word about a task means for an attempt that the task has begun. Pure.

Slurm may have started a task a second time, or forgotten it, while its first start runs on. So that a task is over, or
not listed, says of the attempt only that something is to be explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from queue_manager.core.readings import Unreadable
from queue_manager.slurm.commands import LOST, OVER, REST, Listed

_WAITS_AGAIN = frozenset({"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
_ENDED_BY_SIGNAL = frozenset({129, 137, 143})
"""Exit codes of a job that somebody has ended by HUP, KILL or TERM."""


class Fate(Enum):
    """What became of an attempt, by Slurm's word."""

    RUNS = "it runs, or is being cleaned up"
    ENDED = "Slurm has seen its end, or has ended it"
    TAKEN = "the cluster has ended it for reasons of its own, or has lost its node"
    UNKNOWN = "Slurm does not know this start of it"


def fate(row: Listed | None) -> Fate:
    """Return what became of an attempt that a task has begun and that has left no exit record."""
    if row is None or row.state == "COMPLETED":  # the script leaves a record first, so another start has ended
        return Fate.UNKNOWN
    if row.state in LOST or row.state in _WAITS_AGAIN:
        return Fate.TAKEN
    return Fate.ENDED if row.state in OVER else Fate.RUNS


def is_doubtful(code: int, was_told: bool) -> bool:
    """Return whether somebody else may have ended a job with this exit code, so that Slurm is to be asked who.

    `was_told`: its task was told to end. A job may then save its work and end with any code, 0 as well.
    """
    return was_told or code in _ENDED_BY_SIGNAL


def was_taken(row: Listed | None) -> bool:
    """Return whether a job that was ended by somebody was ended by the cluster, and so has no part in it. A task that
    is not listed was ended as one that the controller had forgotten."""
    return row is None or fate(row) is Fate.TAKEN


def is_at_fault(had_all_time: bool, row: Listed | Unreadable | None) -> bool:
    """Return whether an attempt that ended with its pilot has a part in that: it had all of the allocation's time, or
    the allocation ran out of memory. `row`: the pilot's."""
    return had_all_time or (isinstance(row, Listed) and row.state == "OUT_OF_MEMORY")


def was_taken_out(tasks: Mapping[tuple[str, int], Listed], task: tuple[str, int], just_listed: bool) -> bool:
    """Return whether somebody took a task out of the queue, in which it waited. Slurm shows one line for all of an
    array, or none of one while others of its array still wait.

    `just_listed`: it was listed so short a time ago that it would be listed still if it had ended. A controller that
    has forgotten tasks has forgotten whole arrays.
    """
    row = tasks.get(task) or tasks.get((task[0], REST))
    if row is not None:
        return row.state == "CANCELLED" and not row.node
    return just_listed and any(name == task[0] for name, _ in tasks)
