"""The ladder of a job's `recover`: which rung follows on a failure, and what came of those that were taken. Pure.

A failure of a class takes the lowest rung that this class has not taken yet; none is skipped. What `oom_retry` and
`retries` allow comes first. A step is journaled before the end of the attempt that it answers: a manager that is
killed between the two finds it when it starts again, and takes no second one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queue_manager.core import events as ev
from queue_manager.core.failures import UNHEALTHY
from queue_manager.core.judge import Verdict
from queue_manager.core.manifest import JobSpec
from queue_manager.core.recover_policy import ARGS, IN_ALL, OTHER_HOST, PER_RUNG, RUN, Rung, ladder, to_json, words
from queue_manager.core.state_types import Recovery, Step
from queue_manager.core.status import Outcome, Status
from queue_manager.core.times import iso

if TYPE_CHECKING:
    from queue_manager.core.state_types import Attempt, Job
    from queue_manager.core.turn import Turn

RECOVERED = "recovered"
"""The outcome of a job that completed after a step of its ladder."""
_CAUSE = 300
"""Characters of a cause that are kept with its step."""
_TIMED_OUT = 124
"""Exit code of timeout(1) where it had to end the command."""


# -- decided --------------------------------------------------------------------------------------------------------


def climb(turn: Turn, job: Job, attempt: Attempt, verdict: Verdict) -> Rung | None:
    """Take the next rung for an attempt that failed, if there is one. None: nothing is left to try, or asked for."""
    rungs = ladder(job.spec.recover)
    if not rungs or verdict.outcome is not Outcome.FAILED or verdict.failure in (None, UNHEALTHY.name):
        return None
    steps = job.recovery.steps
    if not (steps and steps[-1].n == attempt.n):
        failure = verdict.failure or ""
        at = next_rung(job, failure)
        if at is None:
            return None
        cause = (verdict.error or "")[:_CAUSE]
        turn.emit(ev.RecoveryChosen(job.spec.id, attempt.n, failure, at, words(rungs[at]), cause))
    return rungs[job.recovery.steps[-1].rung]


def next_rung(job: Job, failure: str) -> int | None:
    """The rung that a failure of this class takes; None at the end of the ladder, or where it was used up."""
    steps, at = job.recovery.steps, job.recovery.levels.get(failure, 0)
    if at >= len(ladder(job.spec.recover)) or len(steps) >= IN_ALL:
        return None
    return at if sum(one.rung == at for one in steps) < PER_RUNG else None


def ran(turn: Turn, job: Job, attempt: Attempt, code: int | None) -> None:
    """Record how the command of a rung ended that ran before this attempt."""
    if code is not None and prelude(job) is not None and job.recovery.steps[-1].n < attempt.n:
        turn.emit(ev.RecoveryRan(job.spec.id, attempt.n, code))


def spent(job: Job, error: str | None) -> str | None:
    """Why a job is stuck, where a ladder could not help it: what was tried comes before the root cause."""
    if not job.recovery.steps:
        return error
    tried = ", ".join(dict.fromkeys(one.action for one in job.recovery.steps))
    return f"recover could not help (tried {tried}): {error}"


def changed(job: Job) -> str | None:
    """That a job did not run with the settings of its spec, in words."""
    rung = _settings(job)
    if rung is None:
        return None
    rungs = ladder(job.spec.recover)
    first = {one.arg: one for one in reversed(rungs[: rungs.index(rung) + 1]) if one.kind == ARGS}
    last = {one.arg: one for one in rungs[: rungs.index(rung) + 1] if one.kind == ARGS}
    return ", ".join(words(one._replace(was=first[name].was)) for name, one in last.items())


# -- what the next attempt does ---------------------------------------------------------------------------------------


def spec_of(job: Job) -> JobSpec:
    """A job's spec, with the command that its ladder has come to."""
    rung = _settings(job)
    return job.spec if rung is None else job.spec._replace(cmd=rung.command)


def moved(spec: JobSpec, rung: int) -> JobSpec:
    """A job's spec on the host to which this rung moves it: with what those below it changed, and those above it."""
    rungs = ladder(spec.recover)
    changes = [one.command for one in rungs[:rung] if one.kind == ARGS]
    return spec._replace(cmd=changes[-1] if changes else spec.cmd, recover=to_json(rungs[rung + 1 :]))


def prelude(job: Job) -> Rung | None:
    """What runs before the job's command in its next attempt, or in this one."""
    steps = job.recovery.steps
    if not steps or steps[-1].ended:
        return None
    rung = ladder(job.spec.recover)[steps[-1].rung]
    return rung if rung.kind == RUN else None


def _settings(job: Job) -> Rung | None:
    """The highest rung so far that changed a setting: those below it are in its command."""
    rungs = ladder(job.spec.recover) if job.recovery.steps else ()
    taken = [one.rung for one in job.recovery.steps if rungs[one.rung].kind == ARGS]
    return rungs[max(taken)] if taken else None


# -- applied ----------------------------------------------------------------------------------------------------------


def fault(job: Job, event: ev.RecoveryChosen) -> str | None:
    """Why a step cannot follow on those before it, in words."""
    if event.n > job.n:
        return f"it answers attempt {event.n}, and the last one is {job.n}"
    at = next_rung(job, event.failure)
    return None if event.rung == at else f"rung {event.rung} cannot follow for {event.failure}: that is {at}"


def chosen(job: Job, event: ev.RecoveryChosen, at: float) -> None:
    """Record a step."""
    step = Step(at, event.n, event.failure, event.rung, event.action, event.cause)
    levels = {**job.recovery.levels, event.failure: event.rung + 1}
    job.recovery = Recovery(levels, (*job.recovery.steps, step))


def command_ran(job: Job, event: ev.RecoveryRan, at: float) -> None:
    """Record how the command of the last step ended."""
    if event.code == 0:
        result = "its command succeeded"
    elif event.code == _TIMED_OUT:
        result = "its command did not end in time"
    else:
        result = f"its command failed with exit code {event.code}"
    _note(job, event.n, at, command=result)


def sustained(job: Job, n: int, at: float) -> None:
    """Record that an attempt has been healthy for long: the ladder begins anew, what was changed stays."""
    _note(job, n, at, f"attempt {n} is healthy")
    job.recovery = job.recovery._replace(levels={})


def attempt_ended(job: Job, event: ev.AttemptEnded, status: Status, at: float) -> None:
    """Record how the attempt after a step ended. One that does not count is followed by another one for it."""
    if not event.charged:
        return
    how = status.value if status in (Status.COMPLETED, Status.CANCELLED) else f"failed: {event.failure}"
    _note(job, event.n, at, f"attempt {event.n} {how}", ended=True)


def _note(job: Job, n: int, at: float, effect: str = "", command: str = "", ended: bool = False) -> None:
    """Note what is known by attempt `n` of the effect of the step before it."""
    steps = job.recovery.steps
    place = next((place for place in reversed(range(len(steps))) if steps[place].n < n), None)
    if place is None or steps[place].ended:
        return
    last = steps[place]
    step = last._replace(command=command or last.command, effect=effect or last.effect, effect_at=at, ended=ended)
    job.recovery = job.recovery._replace(steps=(*steps[:place], step, *steps[place + 1 :]))


# -- shown ------------------------------------------------------------------------------------------------------------


def row(job: Job) -> dict[str, Any]:
    """The fields of a job's row: `recovery`, None where no step was taken."""
    if not job.recovery.steps:
        return {"recovery": None}
    rungs = ladder(job.spec.recover)
    last = rungs[job.recovery.steps[-1].rung]
    steps = [
        {
            "at": iso(one.at),
            "attempt": one.n,
            "failure": one.failure,
            "cause": one.cause,
            "rung": one.rung,
            "action": one.action,
            "effect": "; ".join(filter(None, (one.command, one.effect))) or None,
            "effect_at": iso(one.effect_at),
        }
        for one in job.recovery.steps
    ]
    rung = _settings(job)
    return {
        "recovery": {
            "steps": steps,
            "changed": changed(job),
            "command": None if rung is None else rung.command,
            "wants_host": job.status is Status.STUCK and last.kind == OTHER_HOST,
        }
    }
