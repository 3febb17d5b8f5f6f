"""The health of running attempts in a run's state: what is flagged, and how it is shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.health_policy import STOPS
from queue_manager.core.state_types import Flag
from queue_manager.core.times import iso

if TYPE_CHECKING:
    from queue_manager.core.model import QueueState
    from queue_manager.core.state_types import Attempt, Job

FEWEST = 3
"""Steps that tell a pace at least: each of a few may be any part of the time."""
STOPPED_EARLY = "stopped_early"
"""The outcome of a job that its early stop has ended."""


def flagged(state: QueueState, event: ev.HealthFlagged, at: float) -> None:
    """Record a flag of an attempt."""
    _, attempt = state.attempt(event.job, event.n)
    before = attempt.flags.get(event.kind)
    attempt.flags[event.kind] = Flag(event.kind, event.text, event.line, at if before is None else before.since)
    attempt.flagged |= {event.kind}


def cleared(state: QueueState, event: ev.HealthCleared, at: float) -> None:
    """Remove a flag of an attempt."""
    _, attempt = state.attempt(event.job, event.n)
    attempt.flags.pop(event.kind, None)
    attempt.cleared = at


def stopped_for(attempt: Attempt) -> str:
    """Say why an attempt with `then: stop` was ended."""
    flags = sorted((one for one in attempt.flags.values() if one.kind in STOPS), key=lambda one: one.since)
    return "; ".join(f"{one.kind}: {one.text}" + (f" ({one.line})" if one.line else "") for one in flags[:1])


def too_few_steps(job: Job, reading: HealthReading | None) -> str | None:
    """Say that a job ended before its `min_steps`; None if it did not, or has no `min_steps`."""
    least = job.spec.health.get("min_steps") if isinstance(job.spec.health, Mapping) else None
    if least is None:
        return None
    if reading is None or reading.step is None:
        return f"min_steps is {least}, and its log shows no step"
    return f"it ended at step {reading.step}, before min_steps {least}" if reading.step < least else None


def projected(reading: HealthReading, started: float, n: int) -> float | None:
    """What attempt `n` of a job takes in all by its own progress; None where that does not tell. A first one has begun
    with step 0, so that all that it did tells its pace until enough of its steps were seen; a later one may go on."""
    elapsed, step, total = reading.at - started, reading.step, reading.total
    if n == 1 and reading.pace is None and step and total and step <= total:
        return elapsed * total / step if step >= FEWEST else None
    if reading.eta_s is None or not math.isfinite(reading.eta_s):
        return None
    return elapsed + reading.eta_s


def row(job: Job, reading: HealthReading | None) -> dict[str, Any]:
    """Return the fields of a job's row: `health` while it runs, and the outcome of its last attempt."""
    return {"health": None if job.attempt is None else _health(job.attempt, reading), "outcome": job.outcome}


def _health(attempt: Attempt, reading: HealthReading | None) -> dict[str, Any]:
    seen = reading or HealthReading(0.0)
    return {
        "step": seen.step,
        "total": seen.total,
        "rate": _rounded(seen.rate, 6),
        "eta_s": _rounded(seen.eta_s, 6),
        "loss": _rounded(seen.loss, 9),
        "util": _rounded(seen.util, 3),
        "mem_mib": seen.mem_mib,
        "flags": [
            {"kind": one.kind, "text": one.text, "line": one.line, "since": iso(one.since)}
            for one in sorted(attempt.flags.values(), key=lambda one: one.since)
        ],
    }


def _rounded(value: float | None, digits: int) -> float | None:
    """Round a number to so many digits; None for one that JSON cannot express."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")
