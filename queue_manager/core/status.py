"""The statuses of a job and their edges. Imports nothing of ours."""

from __future__ import annotations

from enum import Enum


class Status(str, Enum):
    """Where a job stands. The values are what users read in queue_state.json."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED_OOM = "failed_oom"
    FAILED_OTHER = "failed_other"
    STUCK = "stuck"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


BAD = frozenset({Status.STUCK, Status.BLOCKED, Status.CANCELLED})
"""A job that depends on one of these waits for a person."""

FINAL = BAD | {Status.COMPLETED}
"""Left only when a person requests it, or when the root of a blocked job is retried."""

RETRYING = frozenset({Status.FAILED_OOM, Status.FAILED_OTHER})

EDGES: dict[Status, frozenset[Status]] = {
    # placed | can never run here | a dependency is bad, or a precondition will not hold | a person | its output is
    # there already
    Status.PENDING: frozenset({Status.RUNNING, Status.STUCK, Status.BLOCKED, Status.CANCELLED, Status.COMPLETED}),
    # every verdict; pending again where the attempt did not count
    Status.RUNNING: frozenset(set(Status) - {Status.RUNNING, Status.BLOCKED}),
    Status.COMPLETED: frozenset(),
    # the delay is over | a person cancels, or accepts its result
    Status.FAILED_OOM: frozenset({Status.PENDING, Status.BLOCKED, Status.CANCELLED, Status.COMPLETED}),
    Status.FAILED_OTHER: frozenset({Status.PENDING, Status.BLOCKED, Status.CANCELLED, Status.COMPLETED}),
    # a person retries | a person cancels | a person accepts its result
    Status.STUCK: frozenset({Status.PENDING, Status.CANCELLED, Status.COMPLETED}),
    Status.BLOCKED: frozenset({Status.PENDING, Status.CANCELLED}),
    Status.CANCELLED: frozenset({Status.PENDING, Status.COMPLETED}),
}


class Outcome(str, Enum):
    """How an attempt ended; the failure class of a failed one is a name of core.failures."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    NOT_LAUNCHED = "not_launched"
