"""Apply the requests of people to the state of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core.manifest import graph_faults
from queue_manager.core.model import Job, QueueState
from queue_manager.core.requests import Request
from queue_manager.core.status import RETRYING, Status
from queue_manager.core.turn import Turn


def carry_out(state: QueueState, request: Request, turn: Turn) -> ev.RequestTaken:
    """Carry out a request as events of this turn. Returns the event that records it with its answer."""
    if request.verb == "pause":
        turn.emit(ev.Paused())
        return _done(request, "paused: running jobs continue, no new jobs start")
    if request.verb == "resume":
        turn.emit(ev.Resumed())
        return _done(request, "resumed")
    if request.verb == "add":
        return _add(state, request, turn)
    if request.verb == "update":
        return _update(state, request, turn)
    unknown = [job for job in request.jobs if job not in state.order_of]
    if unknown:
        return ev.RequestTaken(request.id, False, f"there is no job {', '.join(unknown[:5])}; nothing was changed")
    jobs = [state.job(job_id) for job_id in dict.fromkeys(request.jobs)]  # one that is named twice is changed once
    if request.verb == "accept":
        return _accept(jobs, request, turn)
    act = {"cancel": _cancel, "retry": _retry, "skip": _skip}[request.verb]
    changed, refused = [], []
    for job in jobs:
        fault = act(job, turn)
        if fault is None:
            changed.append(job.spec.id)
        else:
            refused.append(f"{job.spec.id} {fault}")
    word = {"cancel": "cancelled", "retry": "retried", "skip": "completed from existing outputs"}[request.verb]
    text = f"{word}: {len(changed)} job{'' if len(changed) == 1 else 's'}"
    if refused:
        text += f"; unchanged: {'; '.join(refused[:5])}" + (
            f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        )
    return ev.RequestTaken(request.id, bool(changed) or not refused, text, tuple(changed))


def _done(request: Request, text: str) -> ev.RequestTaken:
    return ev.RequestTaken(request.id, True, text)


def _cancel(job: Job, turn: Turn) -> str | None:
    if job.status is Status.COMPLETED:
        return "has completed"
    if job.status is Status.CANCELLED:
        return "is already cancelled"
    if job.attempt is not None:
        turn.stop(job, job.attempt, "cancelled")
        return None
    was_bad = job.status in (Status.STUCK, Status.BLOCKED)
    turn.emit(ev.JobCancelled(job.spec.id))
    if not was_bad:
        turn.spread(job)
    return None


def _retry(job: Job, turn: Turn) -> str | None:
    if job.status is Status.BLOCKED and job.blocked_by is not None:
        return f"is blocked by {job.blocked_by}: retry that job"
    if job.status in (Status.STUCK, Status.CANCELLED, Status.BLOCKED):
        turn.emit(ev.JobRetried(job.spec.id))
        if not turn.block_if_bad(job):
            turn.release(job)
        return None
    if job.status in RETRYING:
        turn.emit(ev.JobRetried(job.spec.id))
        return None
    return f"is {job.status.value}"


def _skip(job: Job, turn: Turn) -> str | None:
    if job.status is not Status.PENDING or job.n:
        return f"is {job.status.value}" if job.status is not Status.PENDING else "has run"
    turn.emit(ev.JobSkipped(job.spec.id))
    return None


def _accept(jobs: list[Job], request: Request, turn: Turn) -> ev.RequestTaken:
    refused = [f"{job.spec.id} {fault}" for job in jobs if (fault := _not_acceptable(job)) is not None]
    refused += [turn.seen.missing[request.id]] if request.id in turn.seen.missing else []
    if refused:
        return ev.RequestTaken(request.id, False, f"nothing was accepted: {'; '.join(refused[:5])}")
    changes = {name: fields for name, fields in request.changes.items() if name in request.jobs}
    if changes:
        turn.emit(ev.JobsChanged(changes))
    for job in jobs:
        turn.emit(ev.JobAccepted(job.spec.id, request.by, request.reason))
        turn.release(job)
    text = f"accepted as {'it is' if len(jobs) == 1 else 'they are'}: {len(jobs)} job{'' if len(jobs) == 1 else 's'}"
    return ev.RequestTaken(request.id, True, text, tuple(job.spec.id for job in jobs))


def _not_acceptable(job: Job) -> str | None:
    """Return why a job's result cannot be accepted; None if it can."""
    if job.status is Status.COMPLETED:
        return "has completed"
    if job.attempt is not None:
        return "is running: wait for its end, or cancel it first"
    if not job.n:
        return f"is {job.status.value} and has not run, so it has no result"
    if job.status in (Status.PENDING, Status.BLOCKED):
        return f"is {job.status.value} and will run: cancel it first"
    return None


def _update(state: QueueState, request: Request, turn: Turn) -> ev.RequestTaken:
    unknown = [job for job in request.changes if job not in state.order_of]
    if unknown:
        return ev.RequestTaken(request.id, False, f"there is no job {', '.join(unknown[:5])}; nothing was changed")
    changes: dict[str, Mapping[str, Any]] = {}
    completed = []
    for name, fields in request.changes.items():
        job = state.job(name)
        new = {field: value for field, value in fields.items() if getattr(job.spec, field) != value}
        if job.status is Status.COMPLETED and new:
            completed.append(name)
        elif new:
            changes[name] = new
    if changes:
        turn.emit(ev.JobsChanged(changes))
    text = f"changed: {len(changes)} job{'' if len(changes) == 1 else 's'}"
    if completed:
        have = "has" if len(completed) == 1 else "have"
        text += f"; unchanged, since {have} completed: {', '.join(completed[:5])}"
        text += f" and {len(completed) - 5} more" if len(completed) > 5 else ""
    return ev.RequestTaken(request.id, bool(changes) or not completed, text, tuple(changes))


def _add(state: QueueState, request: Request, turn: Turn) -> ev.RequestTaken:
    known = {phase.name: phase for phase in state.phases}
    faults = [f"job {spec.id} already exists" for spec in request.specs if spec.id in state.order_of]
    faults += [
        f"phase {phase.name} already exists with different dependencies"
        for phase in request.phases
        if phase.name in known and known[phase.name] != phase
    ]
    groups = {**state.groups, **request.groups}
    faults += [
        f"group {name} already exists with different jobs" for name, ids in state.groups.items() if groups[name] != ids
    ]
    if not faults:
        phases = [*state.phases, *(phase for phase in request.phases if phase.name not in known)]
        faults = graph_faults(phases, groups, [*(job.spec for job in state.jobs), *request.specs])
    if faults:
        return ev.RequestTaken(request.id, False, f"nothing was added: {'; '.join(faults[:10])}")
    turn.emit(ev.JobsAdded(request.phases, dict(request.groups), request.specs))
    for spec in request.specs:
        turn.block_if_bad(state.job(spec.id))
    count = len(request.specs)
    ids = tuple(spec.id for spec in request.specs)
    return ev.RequestTaken(request.id, True, f"added: {count} job{'' if count == 1 else 's'}", ids)
