"""Decide by the evidence about one running attempt: started, asked to end, ended, and how."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import health, health_rules, idle, leftovers, recovery, slurm_memory, time_limit
from queue_manager.core.failures import Rule
from queue_manager.core.judge import Verdict, judge
from queue_manager.core.launchers import SLURM
from queue_manager.core.model import Attempt, Job
from queue_manager.core.readings import Unreadable
from queue_manager.core.recover_policy import OTHER_HOST
from queue_manager.core.slurm_needs import Ooms
from queue_manager.core.status import Outcome, Status
from queue_manager.core.turn import Turn

LAUNCH_GRACE = 30.0
"""Seconds for a wrapper to claim its attempt."""
BIRTH_GRACE = 5.0
"""Seconds from the claim for the job's own process to report itself."""
SESSION_GRACE = 2.0
"""Seconds for a session to close after its process has ended."""
CLOSED_GRACE = 2.0
"""Seconds that a job may outlive its session, which somebody has closed: its output is lost now."""
RETRY_DELAY = 5.0
"""Seconds before a failure that is not OOM is retried."""
DISK_DELAY = 60.0
DISK_RETRIES = 3

_SHUTDOWN_CODES = (129, 143)
"""SIGHUP and SIGTERM, which a host sends to everything before it shuts down."""

_CANCELLED = Verdict(Outcome.CANCELLED, error="cancelled by a person")
_INTERRUPTED = Verdict(Outcome.INTERRUPTED, "interrupted", error="interrupted: the host or the manager went down")
_NOT_LAUNCHED = Verdict(Outcome.NOT_LAUNCHED, "not_launched")
_REFUSED = Verdict(Outcome.FAILED, "refused", Rule.PERSON)


class EvidenceClass(Enum):
    """A class of evidence about a running attempt; each has its row in `_STEPS`."""

    CUT_OFF = "the host was restarted before the attempt ended"
    UNKNOWN = "it is unknown whether it has started"
    REVOKED = "the manager revoked it before it started"
    UNCLAIMED = "no wrapper has claimed it yet"
    BEGUN = "it has started; it is unknown whether it is still running"
    RUNNING = "its wrapper is running"
    GONE = "its wrapper has ended"


def classify(attempt: Attempt, seen: b.Evidence, boot: str) -> EvidenceClass:
    """Return the class of the evidence. `boot`: the host's current boot ID."""
    if attempt.boot != boot and seen.exit is None:
        return EvidenceClass.CUT_OFF
    if isinstance(seen.claim, Unreadable):
        return EvidenceClass.UNKNOWN
    if isinstance(seen.claim, b.Revoked):
        return EvidenceClass.REVOKED
    if seen.claim is None:
        return EvidenceClass.UNCLAIMED
    if isinstance(seen.alive, Unreadable):
        return EvidenceClass.BEGUN
    return EvidenceClass.RUNNING if seen.alive else EvidenceClass.GONE


def follow(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    """Update one running attempt by the evidence about it."""
    kind = classify(attempt, seen, turn.seen.boot)
    if kind in (EvidenceClass.BEGUN, EvidenceClass.RUNNING, EvidenceClass.GONE) and not _begin(
        turn, job, attempt, seen
    ):
        return
    step = _STEPS[kind]
    if step is not None:
        step(turn, job, attempt, seen)


def _cut_off(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    if seen.claim is None:  # the earlier log is put aside with it, whose place the next attempt's takes
        turn.actions.append(b.Revoke(job.order))
    else:
        _end(turn, job, attempt, seen, _INTERRUPTED)


def _revoked(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    if attempt.stop_reason == "cancelled":
        _end(turn, job, attempt, seen, _CANCELLED)
    elif seen.cancelled:
        _end(turn, job, attempt, seen, _CANCELLED._replace(error=seen.launch_error))
    elif seen.inherited or attempt.stop_reason == "bound":
        _end(turn, job, attempt, seen, _INTERRUPTED)
    elif seen.put_off or seen.never:
        verdict = _REFUSED if seen.never else _INTERRUPTED
        asks_for_more = " (it asks for more, since it ran out of memory)" if seen.never and job.oom_attempts else ""
        _end(turn, job, attempt, seen, verdict._replace(error=f"not started: {seen.launch_error}{asks_for_more}"))
    else:
        turn.launch_error = seen.launch_error or "no wrapper claimed the attempt"
        _end(turn, job, attempt, seen, _NOT_LAUNCHED)


def _unclaimed(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    late = seen.queued is None and turn.now - attempt.starting > LAUNCH_GRACE
    if seen.launch_error or late or attempt.stopping is not None or (seen.inherited and seen.quiet):
        turn.actions.append(b.Revoke(job.order))


def _begin(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> bool:
    """Record that a claimed attempt has started. Returns whether it has: its own process may not exist yet."""
    if attempt.wrapper is not None:
        return True
    assert isinstance(seen.claim, b.Claim)
    if seen.proc is None and seen.alive and turn.now - attempt.starting < BIRTH_GRACE:
        return False
    wrapper, leader, at = seen.claim.wrapper, seen.claim.leader, seen.place
    where = ("", (), None) if at is None else (at.node, at.indices, max(attempt.starting, at.since))
    turn.emit(ev.AttemptStarted(job.spec.id, attempt.n, wrapper, leader, seen.proc, *where))
    if attempt.stopping is not None:  # told to end before it had begun
        turn.actions.append(b.Stop(job.order, kill=False))
    return True


def _running(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    timeout, started = job.spec.timeout, attempt.started
    if attempt.stopping is not None:
        if turn.now - attempt.stopping >= turn.state.manifest.grace_of(job.spec):
            turn.actions.append(b.Stop(job.order, kill=True))
    elif timeout is not None and started is not None and turn.now - started >= timeout:
        turn.stop(job, attempt, "timeout")
    elif seen.closed_for >= CLOSED_GRACE:
        turn.stop(job, attempt, "closed")
    elif idle.seconds_idle(turn, attempt, seen.idle) >= turn.state.manifest.stale_after:
        turn.stop(job, attempt, "stale")


def _gone(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence) -> None:
    """The job's process has ended; the attempt ends when nothing of it is left."""
    if seen.ended is not None:
        asked_to_end = attempt.stop_reason not in (None, "leftovers")
        if seen.exit is None and seen.inherited and not asked_to_end:
            _end(turn, job, attempt, seen, _INTERRUPTED)
        else:
            grace, flags = turn.state.manifest.grace_of(job.spec), health.stopped_for(attempt)
            verdict = judge(job.spec, attempt.stop_reason, leftovers.exit_of(attempt, seen), seen.ended, grace, flags)
            verdict = leftovers.with_leftovers(verdict, attempt)
            if attempt.stop_reason in (None, "timeout"):
                step = time_limit.reached(turn.seen.health.get(job.order))
                verdict = time_limit.judged(job, turn.state.manifest.launcher, verdict, seen.ended, step)
            ended_by_shutdown = seen.exit is not None and seen.exit.code in _SHUTDOWN_CODES
            if attempt.boot != turn.seen.boot and verdict.failure == "exit_code" and ended_by_shutdown:
                verdict = _INTERRUPTED
            _end(turn, job, attempt, seen, verdict)
        return
    if isinstance(seen.leftovers, Unreadable) or isinstance(seen.leader, Unreadable):
        return
    if seen.leftovers:
        if attempt.stopping is None:
            leftovers.follow(turn, job, attempt, seen)
        elif turn.now - attempt.stopping >= turn.state.manifest.grace_of(job.spec):
            turn.actions.append(b.Stop(job.order, kill=True))
    elif seen.leader and seen.gone_for >= SESSION_GRACE:
        turn.actions.append(b.QuitSession(job.order))


def _end(turn: Turn, job: Job, attempt: Attempt, seen: b.Evidence, verdict: Verdict) -> None:
    if verdict.outcome is Outcome.INTERRUPTED and attempt.stop_reason == "cancelled":
        verdict = _CANCELLED
    # A request of this turn may have told it to end: there is nothing left to signal.
    turn.actions = [one for one in turn.actions if isinstance(one, b.Reply) or one.order != job.order]
    if seen.ended is not None:
        recovery.ran(turn, job, attempt, seen.ended.recovered)
    status, due = _next_status(turn, job, verdict)
    error = verdict.error
    if verdict.outcome is Outcome.NOT_LAUNCHED:
        error = f"not launched: {turn.launch_error}"
    outcome, warning = None, verdict.warning
    if verdict.outcome is Outcome.SUCCEEDED and attempt.stop_reason == "early_stop":
        outcome = health.STOPPED_EARLY
    elif verdict.outcome is Outcome.SUCCEEDED and warning is None:
        warning = health.too_few_steps(job, turn.seen.health.get(job.order))
    if verdict.outcome is Outcome.SUCCEEDED:
        doubts = health_rules.doubts(job, attempt, turn.seen.health.get(job.order))
        warning = "; ".join(filter(None, (doubts, warning))) or None
    if verdict.outcome is Outcome.SUCCEEDED and job.recovery.steps and job.recovery.steps[0].n < attempt.n:
        outcome = outcome or recovery.RECOVERED
        settings = recovery.changed(job)
        warning = warning if settings is None else "; ".join(filter(None, (f"recovered with {settings}", warning)))
    used = tuple(turn.seen.before.get(card, 0) for card in attempt.cards)
    code = seen.exit.code if seen.exit else None
    charged = verdict.outcome not in (Outcome.INTERRUPTED, Outcome.NOT_LAUNCHED) and verdict.rule is not Rule.PERSON
    memory = None if verdict.memory is None else verdict.memory.value
    if verdict.memory is not None and turn.state.manifest.launcher == SLURM:
        ooms = Ooms(job.host_ooms, job.gpu_ooms)
        after = slurm_memory.after(job.spec.slurm or {}, verdict.memory, ooms, status is Status.STUCK)
        error = slurm_memory.describe(error, after)
        if after.is_final:
            status, due = Status.STUCK, None
    if verdict.rule is Rule.CARD and len(attempt.cards) == 1:
        charged, status, due = False, Status.PENDING, None
    elif status is Status.STUCK:
        rung = recovery.climb(turn, job, attempt, verdict)
        if rung is None:
            error = recovery.spent(job, error)
        elif rung.kind == OTHER_HOST:
            error = f"recover: it is to run on another host: {error}"
        else:
            status, due = _retried(turn, verdict)
    turn.emit(
        ev.AttemptEnded(
            job.spec.id,
            attempt.n,
            status.value,
            verdict.failure,
            code,
            error,
            warning,
            due,
            charged,
            used,
            outcome,
            seen.ended.environment if seen.ended is not None else None,
            memory,
            None if seen.over is None else max(job.started or 0.0, seen.over),
            time_limit.reached(turn.seen.health.get(job.order)) if verdict.failure == time_limit.NAME else None,
        )
    )
    if verdict.rule is Rule.CARD and len(attempt.cards) == 1:
        turn.emit(ev.CardQuarantined(attempt.cards[0], f"job {job.spec.id}: {verdict.error}"))
    if status in (Status.STUCK, Status.CANCELLED):
        turn.spread(job)
    elif status is not Status.COMPLETED:
        turn.block_if_bad(job)  # jobs may have been added to its phase's dependencies while it ran


def _next_status(turn: Turn, job: Job, verdict: Verdict) -> tuple[Status, float | None]:
    if verdict.outcome is Outcome.SUCCEEDED:
        return Status.COMPLETED, None
    if verdict.outcome is Outcome.CANCELLED:
        return Status.CANCELLED, None
    if verdict.outcome in (Outcome.INTERRUPTED, Outcome.NOT_LAUNCHED):
        return Status.PENDING, None
    if verdict.rule is Rule.PERSON:
        return Status.STUCK, None
    if verdict.rule is Rule.OOM:
        spent = job.oom_attempts + 1 >= turn.state.manifest.oom_retry.max_attempts
    else:
        least = DISK_RETRIES if verdict.rule is Rule.DISK else 0
        spent = job.other_failures + 1 > max(job.spec.retries, least)
    return (Status.STUCK, None) if spent else _retried(turn, verdict)


def _retried(turn: Turn, verdict: Verdict) -> tuple[Status, float]:
    """Return the status of a failed job that waits for its retry, and when that is due."""
    if verdict.rule is Rule.OOM:
        return Status.FAILED_OOM, turn.now + turn.state.manifest.oom_retry.delay
    return Status.FAILED_OTHER, turn.now + (DISK_DELAY if verdict.rule is Rule.DISK else RETRY_DELAY)


_STEPS: dict[EvidenceClass, Callable[[Turn, Job, Attempt, b.Evidence], None] | None] = {
    EvidenceClass.CUT_OFF: _cut_off,
    EvidenceClass.UNKNOWN: None,
    EvidenceClass.REVOKED: _revoked,
    EvidenceClass.UNCLAIMED: _unclaimed,
    EvidenceClass.BEGUN: None,
    EvidenceClass.RUNNING: _running,
    EvidenceClass.GONE: _gone,
}
