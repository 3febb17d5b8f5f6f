"""Whether a job on Slurm goes on after its time limit, at no cost, because its spec says `requeue_on_timeout`. Pure.

It is to have saved its work, at USR1 or before, and to begin with that. One that saves nothing would begin anew for
ever: so it has to move, to get further than before where its steps are known, and it goes on MOST times at most.
"""

from __future__ import annotations

from queue_manager.core import events as ev
from queue_manager.core import failures
from queue_manager.core.boundary import Ended, HealthReading
from queue_manager.core.failures import Rule
from queue_manager.core.judge import Verdict
from queue_manager.core.launchers import SLURM
from queue_manager.core.state_types import Job
from queue_manager.core.status import Outcome

NAME = "time_limit"
"""Stands in the journal where another failure has its class."""
MOST = 100


def judged(job: Job, launcher: str, verdict: Verdict, ended: Ended, step: int | None) -> Verdict:
    """Return the verdict on an attempt: that the job goes on, or the given one. `step`: how far it came, where that is
    known."""
    if launcher != SLURM or not (job.spec.slurm or {}).get("requeue_on_timeout") or verdict.rule is not Rule.RETRIES:
        return verdict
    # A job that was warned may have ended by itself, with whatever code its author took for that.
    if verdict.failure != failures.TIMEOUT.name and not ended.warned:
        return verdict
    why_not = _why_not(job, ended, step)
    if why_not is not None:
        error = f"{verdict.error}; it does not go on, since {why_not}"
        return verdict._replace(failure=failures.TIMEOUT.name, error=error)
    time = "ended by itself before its time limit" if verdict.failure != failures.TIMEOUT.name else "had its time"
    at = "" if step is None else f" at step {step}"
    return Verdict(Outcome.INTERRUPTED, NAME, error=f"{time}{at}, and goes on (requeue_on_timeout)")


def _why_not(job: Job, ended: Ended, step: int | None) -> str | None:
    if job.time_limits >= MOST:
        return f"it has gone on {MOST} times; if that is right: wavequeue retry {job.spec.id}"
    if step is not None and job.reached is not None and step <= job.reached:
        return (
            f"it came to step {step}, and the attempt before to step {job.reached}: let it save its work at USR1 or "
            "more often, and begin with that"
        )
    if not ended.moved and not ended.warned:
        return "neither its log nor its output changed in the second half of its time"
    return None


def reached(reading: HealthReading | None) -> int | None:
    """Return the step to which an attempt has come; None where that is not known."""
    return None if reading is None else reading.step


def ended(job: Job, event: ev.AttemptEnded) -> None:
    """Count an attempt after which the job goes on."""
    if event.failure == NAME:
        job.time_limits += 1
        job.reached = event.step if event.step is not None else job.reached
