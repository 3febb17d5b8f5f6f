"""How Slurm ended a task, by all that it said of it: in its listing, in the task's own output, in its accounting. Pure.

slurmstepd writes into a task's output why it ends it, before it does. That is there as long as the run's directory is,
where the listing has forgotten a task after minutes.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from queue_manager.core.readings import Unreadable
from queue_manager.slurm.commands import Listed

_CANCELLED = re.compile(r"\*\*\* JOB \S{1,40} ON \S{1,200} CANCELLED AT \S{1,40}(?: DUE TO ([A-Z ]{4,40}))? \*\*\*")
_OOM = re.compile(r"\boom[-_]kill event|exceeded (?:\w{1,10} )?memory limit .{0,100}being killed")


class End(NamedTuple):
    """`oom`: for want of the host's memory; `limit`: at its time limit; `cause`: in words, None where it is unknown."""

    oom: bool = False
    limit: bool = False
    cause: str | None = None


def end(row: Listed | Unreadable | None, output: str) -> End:
    """Return how a task ended. `row`: as it is listed; `output`: what Slurm wrote into the task's own output."""
    state, reason = (row.state, row.reason) if isinstance(row, Listed) else ("", "")
    found = _CANCELLED.findall(output)
    why = found[-1].strip() if found else None
    limit = state == "TIMEOUT" or reason == "TimeLimit" or why == "TIME LIMIT"
    oom = state == "OUT_OF_MEMORY" or _OOM.search(output) is not None
    return End(oom, limit, _cause(state, reason, why))


_STATES = {
    "TIME LIMIT": "TIMEOUT", "PREEMPTION": "PREEMPTED", "NODE FAILURE": "NODE_FAIL", "": "CANCELLED",
}  # fmt: skip


def written(output: str) -> Listed | None:
    """Return how a task ended that is not listed any more, by what Slurm wrote into its output; None where it wrote
    nothing of that."""
    if _OOM.search(output) is not None:
        return Listed(0, "OUT_OF_MEMORY", "", "")
    found = _CANCELLED.findall(output)
    state = _STATES.get(found[-1].strip()) if found else None
    return None if state is None else Listed(0, state, "", "")


def _cause(state: str, reason: str, why: str | None) -> str | None:
    if state.startswith("CANCELLED"):
        return f"cancelled in Slurm {reason}" if reason.startswith("by ") else "cancelled in Slurm"
    if state in ("DEADLINE", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"):
        return f"ended by Slurm ({state})"
    if why is not None:
        return f"ended by Slurm ({why})" if why else "cancelled in Slurm"
    return None
