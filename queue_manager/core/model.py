"""The state of a run: the result of applying its events. Nothing else changes it, and replaying them gives it again.

It has four parts beside the jobs: `cards` (what is known of the GPUs and reserved on them), `machine` (manager,
conditions, end of the machine), `tallies` (numbers of jobs) and `ready` (what may start, and when). What can be
computed from the state is not an event. Where it has to be quick, `apply` keeps it beside the state, and tests compare
it with a full computation. Queries change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core import health, job_metrics, recovery, time_limit
from queue_manager.core.card_book import CardBook
from queue_manager.core.events import Record
from queue_manager.core.graph import Graph
from queue_manager.core.machine_state import MachineState
from queue_manager.core.manifest import Manifest, Phase
from queue_manager.core.memory import Memory
from queue_manager.core.ready import ReadyIndex
from queue_manager.core.state_types import NO_RECOVERY, Attempt, Bound, Job, Need, PhaseTally, Settling, Teardown
from queue_manager.core.status import EDGES, RETRYING, Status
from queue_manager.core.tallies import Tallies

__all__ = [
    "Attempt", "Bound", "InvalidTransition", "Job", "Need", "PhaseTally", "QueueState", "Settling", "Teardown",
]  # fmt: skip


class InvalidTransition(RuntimeError):
    """An event that is impossible in this state: an internal error. Contains the job's story."""


class QueueState:
    """The state of one run. Read anything; change it only through `apply`."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.seq = self._applied = 0
        self.run_id = ""
        self.manifest_sha256 = ""
        self.started: float | None = None
        self.finished: float | None = None
        self.paused = False
        self.phases: list[Phase] = list(manifest.phases)
        self.groups = dict(manifest.groups)
        self.jobs: list[Job] = [Job(order, spec) for order, spec in enumerate(manifest.jobs)]
        self.order_of = {job.spec.id: job.order for job in self.jobs}
        self.requests: dict[str, ev.RequestTaken] = {}
        self.last_end: float = 0.0
        self.active_at: float = 0.0
        self.results_seq = 0
        self.pushed_seq = 0
        self.code: str | None = None
        self.cards = CardBook()
        self.machine = MachineState()
        self.tallies = Tallies()
        self.unread: set[int] = set()
        """Completed jobs whose metrics have not been read."""
        self.touched: set[int] = set(range(len(self.jobs)))
        """Jobs changed since the snapshot last looked; not part of the state."""
        self._rebuild()

    # -- derived, kept by apply ------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        self.graph = Graph(self.phases, self.groups, [job.spec for job in self.jobs], [job.status for job in self.jobs])
        self.live: dict[int, Attempt] = {job.order: job.attempt for job in self.jobs if job.attempt}
        self.cards.hold(self.live.values())
        self.tallies.recount(self.phases, self.jobs)
        pending = (job for job in self.jobs if job.status is Status.PENDING)
        self.held: dict[int, str] = {job.order: job.held for job in pending if job.held is not None}
        self.ready = ReadyIndex(self.jobs, self.graph)

    def copy(self) -> QueueState:
        """Return an independent copy."""
        made = copy(self)
        made.jobs = [copy(job) for job in self.jobs]
        for order, attempt in self.live.items():
            made.jobs[order].attempt = twin = copy(attempt)
            twin.flags = dict(attempt.flags)
        made.phases, made.groups, made.requests = list(self.phases), dict(self.groups), dict(self.requests)
        made.cards, made.machine, made.tallies = self.cards.copy(), self.machine.copy(), self.tallies.copy()
        made.unread, made.touched = set(self.unread), set()
        made._rebuild()
        return made

    @property
    def idle_since(self) -> float:
        """When the last job ended, a manager started, or a person made a request (epoch seconds)."""
        return max(self.last_end, self.active_at)

    # -- events -----------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        """Apply one event. Raises InvalidTransition if it is impossible in this state."""
        self._applied = record.seq
        _APPLY[type(record.event)](self, record.event, record.at)
        self.seq = record.seq
        if isinstance(record.event, (ev.AttemptEnded, ev.CompleteRan, ev.JobSkipped, ev.JobAccepted)):
            self.results_seq = record.seq

    def _move(self, job: Job, status: Status) -> None:
        if job.attempt is not None:
            raise InvalidTransition(f"job {job.spec.id!r} cannot become {status.value}: attempt {job.n} has not ended")
        if status not in EDGES[job.status]:
            raise InvalidTransition(f"job {job.spec.id!r} cannot go from {job.status.value} to {status.value}")
        self.tallies.move(job, status)
        job.status = status
        job_metrics.moved(self, job)
        job.held = None
        self.held.pop(job.order, None)
        for order in self.graph.move(job.order, status):
            self.ready.arrived(self.jobs[order])
            self.touched.add(order)  # by its waiting reason alone
        self.ready.left(job)
        self.ready.arrived(job)
        self.change(job)

    def change(self, job: Job) -> None:
        """Note that the event that is being applied changes a job."""
        job.seq = self._applied
        self.touched.add(job.order)

    def attempt(self, job_id: str, n: int) -> tuple[Job, Attempt]:
        """Return a live attempt whose job is about to change. Raises InvalidTransition."""
        job = self.job(job_id)
        if job.attempt is None or job.attempt.n != n:
            raise InvalidTransition(f"job {job_id!r} has no live attempt {n}")
        self.change(job)
        return job, job.attempt

    def job(self, job_id: str) -> Job:
        """Return a job. Raises InvalidTransition: unknown ids from outside are rejected before."""
        order = self.order_of.get(job_id)
        if order is None:
            raise InvalidTransition(f"there is no job {job_id!r}")
        return self.jobs[order]

    def _run_started(self, event: ev.RunStarted, at: float) -> None:
        self.run_id, self.manifest_sha256, self.started = event.run_id, event.manifest_sha256, at

    def _manager_started(self, event: ev.ManagerStarted, at: float) -> None:
        self.machine.manager_started(event, at)
        self.active_at = at

    def _attempt_starting(self, event: ev.AttemptStarting, at: float) -> None:
        job = self.job(event.job)
        if job.attempt is not None or event.n != job.n + 1:
            raise InvalidTransition(f"attempt {event.n} of job {event.job!r} cannot start after {job.n}")
        conflict = self.cards.conflict(event.cards, event.mib)
        if conflict is not None:
            raise InvalidTransition(f"job {event.job!r} cannot start: {conflict}")
        self._move(job, Status.RUNNING)
        attempt = Attempt(event, at)
        job.attempt, job.n, job.attempts = attempt, event.n, job.attempts + 1
        job.started, job.wave, job.session = at, event.wave, event.session
        job.ended = job.attempt_ended = job.environment = None
        job.indices, job.last_cards = event.indices, event.cards
        self.tallies.ran(job, self.code)
        job.pid = job.leader_pid = job.due = job.exit_code = job.error = job.warning = job.failure = None
        job.outcome = job.memory = job.node = None
        self.live[job.order] = attempt
        self.cards.give(attempt)
        if attempt.is_queued:
            self.tallies.queue(job, 1)
        else:
            self.tallies.started(job, at)
        self.finished = self.machine.teardown = None

    def _attempt_started(self, event: ev.AttemptStarted, at: float) -> None:
        job, attempt = self.attempt(event.job, event.n)
        began = at if event.began is None else event.began
        if attempt.is_queued:
            self.tallies.queue(job, -1)
            self.tallies.started(job, began)
            attempt.indices = job.indices = event.indices
            job.node = event.node or None
        attempt.wrapper, attempt.leader, attempt.proc, attempt.started = event.wrapper, event.leader, event.proc, began
        job.started, job.leader_pid = began, event.leader.pid
        job.pid = event.proc.pid if event.proc else event.wrapper.pid
        self.machine.launched()

    def _attempt_stopping(self, event: ev.AttemptStopping, at: float) -> None:
        _, attempt = self.attempt(event.job, event.n)
        # A person's cancel overrides an earlier reason; no other reason overrides a cancel.
        attempt.stop_reason = event.reason
        attempt.stopping = at if attempt.stopping is None else attempt.stopping

    def _leftovers_found(self, event: ev.LeftoversFound, _at: float) -> None:
        job, attempt = self.attempt(event.job, event.n)
        attempt.left, attempt.idle = event, None  # it was its command that was idle
        job.warning = f"its command has ended; {'ends' if event.fate == 'end' else 'waits for'} {event.text}"

    def _attempt_idle(self, event: ev.AttemptIdle, _at: float) -> None:
        self.attempt(event.job, event.n)[1].idle = event.work

    def _attempt_ended(self, event: ev.AttemptEnded, at: float) -> None:
        job, attempt = self.attempt(event.job, event.n)
        status = Status(event.status)
        if attempt.is_queued:
            self.tallies.queue(job, -1)
            job.started = None
        job.attempt = None
        del self.live[job.order]
        self.cards.take_back(attempt, at, event.used_mib or (0,) * len(attempt.cards))
        job.exit_code, job.error, job.warning, job.failure = (
            event.exit_code,
            event.error,
            event.warning,
            event.failure,
        )
        over = at if event.over is None else event.over
        job.ended, job.attempt_ended, job.due, self.last_end, job.outcome = over, over, event.due, at, event.outcome
        job.environment, job.memory = event.environment, event.memory
        recovery.attempt_ended(job, event, status, at)
        self.tallies.ended(job, over, event.charged and event.failure == "oom" and status is Status.FAILED_OOM)
        if not event.charged:
            job.attempts -= 1
            if event.failure == "not_launched":
                self.machine.not_launched(at)
            time_limit.ended(job, event)
        elif event.failure == "oom":
            job.oom_attempts += 1
            job.host_ooms += event.memory != Memory.GPU
            job.gpu_ooms += event.memory != Memory.HOST
        elif status is Status.COMPLETED:
            job.other_failures += event.failure is not None
            self.cards.completed(attempt.cards)
        elif event.failure is not None:
            job.other_failures += 1
            self.cards.failed(attempt.cards, event.job)
        self._move(job, status)
        if status in RETRYING and event.due is not None:
            self.ready.delayed(job, event.due)

    def _recovery_chosen(self, event: ev.RecoveryChosen, at: float) -> None:
        job = self.job(event.job)
        fault = recovery.fault(job, event)
        if fault is not None:
            raise InvalidTransition(f"job {event.job!r} cannot take a step of its ladder: {fault}")
        recovery.chosen(job, event, at)
        self.change(job)

    def _recovery_ran(self, event: ev.RecoveryRan, at: float) -> None:
        recovery.command_ran(self.attempt(event.job, event.n)[0], event, at)

    def _recovery_sustained(self, event: ev.RecoverySustained, at: float) -> None:
        job = self.job(event.job)
        recovery.sustained(job, event.n, at)
        self.change(job)

    def _retry_due(self, event: ev.RetryDue, _at: float) -> None:
        self._move(self.job(event.job), Status.PENDING)

    def _job_held(self, event: ev.JobHeld, _at: float) -> None:
        job = self.job(event.job)
        if job.status is not Status.PENDING:
            raise InvalidTransition(f"job {event.job!r} is {job.status.value} and cannot be held")
        job.held = event.reason
        if event.reason is None:
            self.held.pop(job.order, None)
        else:
            self.held[job.order] = event.reason
        self.ready.left(job)
        self.ready.arrived(job)
        self.change(job)

    def _job_stuck(self, event: ev.JobStuck, at: float) -> None:
        job = self.job(event.job)
        self._move(job, Status.STUCK)
        job.error, job.ended = event.error, at

    def _job_blocked(self, event: ev.JobBlocked, _at: float) -> None:
        job = self.job(event.job)
        if job.status is not Status.BLOCKED:
            self._move(job, Status.BLOCKED)
        self.change(job)
        job.error, job.blocked_by, job.due = event.error, event.by, None

    def _job_unblocked(self, event: ev.JobUnblocked, _at: float) -> None:
        job = self.job(event.job)
        self._move(job, Status.PENDING)
        job.error = job.blocked_by = None
        self.finished = None

    def _job_cancelled(self, event: ev.JobCancelled, at: float) -> None:
        job = self.job(event.job)
        self._move(job, Status.CANCELLED)
        job.ended, job.due, job.blocked_by, job.error = at, None, None, "cancelled by a person"

    def _job_retried(self, event: ev.JobRetried, _at: float) -> None:
        job = self.job(event.job)
        self._move(job, Status.PENDING)
        job.attempts = job.oom_attempts = job.other_failures = job.host_ooms = job.gpu_ooms = 0
        job.due = job.ended = job.error = job.warning = job.failure = job.exit_code = job.blocked_by = None
        job.outcome, job.memory, job.recovery = None, None, NO_RECOVERY
        job.time_limits, job.reached = 0, None
        self.finished = self.machine.teardown = None

    def _jobs_added(self, event: ev.JobsAdded, _at: float) -> None:
        known = {phase.name for phase in self.phases}
        self.phases += [phase for phase in event.phases if phase.name not in known]
        self.groups.update(event.groups)
        for spec in event.specs:
            job = Job(len(self.jobs), spec)
            self.order_of[spec.id] = job.order
            self.jobs.append(job)
            self.change(job)
        self.finished = self.machine.teardown = None
        self._rebuild()

    def _jobs_changed(self, event: ev.JobsChanged, _at: float) -> None:
        for name, fields in event.changes.items():
            job = self.job(name)
            job.spec = job.spec._replace(**fields)
            self.change(job)
        if any("priority" in fields for fields in event.changes.values()):
            self.ready = ReadyIndex(self.jobs, self.graph)

    def _job_skipped(self, event: ev.JobSkipped, at: float) -> None:
        job = self.job(event.job)
        if job.n:
            raise InvalidTransition(f"job {event.job!r} has run, and cannot be skipped")
        self._move(job, Status.COMPLETED)
        job.ended, job.skipped = at, True

    def _job_accepted(self, event: ev.JobAccepted, at: float) -> None:
        job = self.job(event.job)
        note = f"accepted as it is by {event.by}" + (f": {event.reason}" if event.reason else "")
        job.warning = f"{note}; before: {job.error}" if job.error else note
        self._move(job, Status.COMPLETED)
        job.error = job.due = job.blocked_by = None
        job.ended = at if job.ended is None else job.ended

    def _code_seen(self, event: ev.CodeSeen, _at: float) -> None:
        self.code = event.code
        for job in self.jobs:
            if job.started is not None and job.started > event.since:
                self.tallies.ran(job, event.code)
                self.change(job)

    def _paused(self, _event: ev.Paused, _at: float) -> None:
        self.paused = True

    def _resumed(self, _event: ev.Resumed, _at: float) -> None:
        self.paused = False
        self.cards.try_again()
        self.machine.resumed()

    def _request_taken(self, event: ev.RequestTaken, at: float) -> None:
        self.requests[event.id] = event
        self.active_at = at

    def _condition_began(self, event: ev.ConditionBegan, at: float) -> None:
        self.machine.condition_began(event, at)

    def _condition_ended(self, event: ev.ConditionEnded, _at: float) -> None:
        self.machine.conditions.pop(event.kind, None)

    def _card_quarantined(self, event: ev.CardQuarantined, _at: float) -> None:
        self.cards.put_aside(event.card, event.reason)

    def _run_finished(self, _event: ev.RunFinished, at: float) -> None:
        self.finished = at

    def _complete_ran(self, _event: ev.CompleteRan, at: float) -> None:
        self.last_end = at

    def _bound_reached(self, event: ev.BoundReached, at: float) -> None:
        self.machine.bound = Bound(event.kind, event.text, at)

    def _results_pushed(self, event: ev.ResultsPushed, _at: float) -> None:
        self.pushed_seq = event.upto

    def _teardown_starting(self, event: ev.TeardownStarting, at: float) -> None:
        self.machine.teardown = Teardown(event.plan, event.instance, event.reason, at)

    def _teardown_called_off(self, _event: ev.TeardownCalledOff, _at: float) -> None:
        self.machine.teardown = None

    def _run_repaired(self, _event: ev.RunRepaired, at: float) -> None:
        self.active_at = at

    def _teardown_confirmed(self, event: ev.TeardownConfirmed, _at: float) -> None:
        going = self.machine.teardown
        if going is None or going.plan != event.plan:
            raise InvalidTransition(f"instance {event.instance} cannot be confirmed as ended: nobody meant to end it")
        self.machine.teardown = going._replace(done=True)


_APPLY: dict[type, Callable[[QueueState, Any, float], None]] = {
    ev.RunStarted: QueueState._run_started,
    ev.ManagerStarted: QueueState._manager_started,
    ev.AttemptStarting: QueueState._attempt_starting,
    ev.AttemptStarted: QueueState._attempt_started,
    ev.AttemptStopping: QueueState._attempt_stopping,
    ev.LeftoversFound: QueueState._leftovers_found,
    ev.AttemptIdle: QueueState._attempt_idle,
    ev.AttemptEnded: QueueState._attempt_ended,
    ev.HealthFlagged: health.flagged,
    ev.HealthCleared: health.cleared,
    ev.RecoveryChosen: QueueState._recovery_chosen,
    ev.RecoveryRan: QueueState._recovery_ran,
    ev.RecoverySustained: QueueState._recovery_sustained,
    ev.MetricsRead: job_metrics.read,
    ev.RetryDue: QueueState._retry_due,
    ev.JobHeld: QueueState._job_held,
    ev.JobStuck: QueueState._job_stuck,
    ev.JobBlocked: QueueState._job_blocked,
    ev.JobUnblocked: QueueState._job_unblocked,
    ev.JobCancelled: QueueState._job_cancelled,
    ev.JobRetried: QueueState._job_retried,
    ev.JobsAdded: QueueState._jobs_added,
    ev.JobsChanged: QueueState._jobs_changed,
    ev.JobSkipped: QueueState._job_skipped,
    ev.JobAccepted: QueueState._job_accepted,
    ev.CodeSeen: QueueState._code_seen,
    ev.Paused: QueueState._paused,
    ev.Resumed: QueueState._resumed,
    ev.RequestTaken: QueueState._request_taken,
    ev.ConditionBegan: QueueState._condition_began,
    ev.ConditionEnded: QueueState._condition_ended,
    ev.CardQuarantined: QueueState._card_quarantined,
    ev.RunFinished: QueueState._run_finished,
    ev.CompleteRan: QueueState._complete_ran,
    ev.BoundReached: QueueState._bound_reached,
    ev.ResultsPushed: QueueState._results_pushed,
    ev.TeardownStarting: QueueState._teardown_starting,
    ev.TeardownCalledOff: QueueState._teardown_called_off,
    ev.TeardownConfirmed: QueueState._teardown_confirmed,
    ev.RunRepaired: QueueState._run_repaired,
}
