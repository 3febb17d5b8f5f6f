"""The state of a run: what `apply` makes of the events. Nothing else changes it, and replaying them gives it again.

What can be computed from the state is not an event; where it has to be quick (`counts`, the ready index, the leases
of a card) it is kept beside the state by `apply` alone, and tests compare it with the long way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.graph import Graph
from queue_manager.core.manifest import Manifest, Phase
from queue_manager.core.ready import ReadyIndex
from queue_manager.core.state_types import Attempt, Bound, Job, Need, PhaseTally, Settling, Teardown
from queue_manager.core.status import EDGES, FINAL, RETRYING, Status

__all__ = [
    "Attempt", "Bound", "InvalidTransition", "Job", "Need", "PhaseTally", "QueueState", "Settling", "Teardown",
]  # fmt: skip


class InvalidTransition(RuntimeError):
    """An event that cannot follow on what has happened: a fault of ours. Carries the job's story."""


class QueueState:
    """The state of one run. Read anything; change it by `apply` alone."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.seq = 0
        self.run_id = ""
        self.manifest_sha256 = ""
        self.started: float | None = None
        self.finished: float | None = None
        self.host = ""
        self.pid = 0
        self.boot = ""
        self.ticks = 0
        self.paused = False
        self.wave = 0
        self.phases: list[Phase] = list(manifest.phases)
        self.groups = dict(manifest.groups)
        self.jobs: list[Job] = [Job(order, spec) for order, spec in enumerate(manifest.jobs)]
        self.order_of = {job.spec.id: job.order for job in self.jobs}
        self.requests: dict[str, ev.RequestTaken] = {}
        self.conditions: dict[str, tuple[str, float]] = {}
        self.quarantined: dict[str, str] = {}
        self.settling: dict[str, Settling] = {}
        self.card_failures: dict[str, tuple[str, ...]] = {}
        self.card_served: set[str] = set()
        self.wave_cards: tuple[str, ...] = ()
        self.launch_failures = 0
        self.launch_failed_at: float | None = None
        self.last_end: float = 0.0
        self.active_at: float = 0.0
        self.booted_at: float = 0.0
        self.away: float = 0.0
        self.results_seq = 0
        self.pushed_seq = 0
        self.bound: Bound | None = None
        self.code: str | None = None
        self.lifted: frozenset[str] = frozenset()
        self.teardown: Teardown | None = None
        self.touched: set[int] = set(range(len(self.jobs)))
        """Jobs changed since the snapshot last looked; not part of the state."""
        self._rebuild()

    # -- derived, kept by apply ------------------------------------------------------------------------------

    def _rebuild(self) -> None:
        self.graph = Graph(self.phases, self.groups, [job.spec for job in self.jobs], [job.status for job in self.jobs])
        self.live: dict[int, Attempt] = {job.order: job.attempt for job in self.jobs if job.attempt}
        self.holders: dict[str, list[Attempt]] = {}
        for attempt in self.live.values():
            for card in attempt.cards:
                self.holders.setdefault(card, []).append(attempt)
        tallies = getattr(self, "tallies", {})
        self.tallies: dict[str, PhaseTally] = {
            phase.name: tallies.get(phase.name) or PhaseTally() for phase in self.phases
        }
        self.counts: dict[Status, int] = {}
        self.card_jobs = 0
        """Jobs that need a card and have not got it yet."""
        for tally in self.tallies.values():
            tally.counts = {}
        self.held: dict[int, str] = {}
        for job in self.jobs:
            self._count(job, job.status, 1)
            if job.held is not None and job.status is Status.PENDING:
                self.held[job.order] = job.held
        self.ready = ReadyIndex(self.jobs, self.graph)

    def _count(self, job: Job, status: Status, by: int) -> None:
        if job.spec.gpus and (status is Status.PENDING or status in RETRYING):
            self.card_jobs += by
        for counts in (self.counts, self.tallies[job.spec.phase].counts):
            counts[status] = counts.get(status, 0) + by
            if not counts[status]:
                del counts[status]

    @property
    def all_final(self) -> bool:
        return all(status in FINAL for status in self.counts)

    @property
    def idle_since(self) -> float:
        """When the last job ended, a manager began, or a person asked for something (epoch seconds)."""
        return max(self.last_end, self.active_at)

    @property
    def closed(self) -> str | None:
        """Why no job starts any more, in words: the run has reached a bound, or its machine is ending."""
        if self.teardown is not None and self.teardown.done:
            return f"its machine is going: {self.teardown.reason}"
        return None if self.bound is None else f"{self.bound.text}; to go on all the same: wavequeue resume"

    # -- events -----------------------------------------------------------------------------------------------

    def apply(self, record: Record) -> None:
        """Take in one event. Raises InvalidTransition if it cannot follow on what has happened."""
        _APPLY[type(record.event)](self, record.event, record.at)
        self.seq = record.seq
        if isinstance(record.event, (ev.AttemptEnded, ev.CompleteRan, ev.JobSkipped, ev.JobAccepted)):
            self.results_seq = record.seq

    def _move(self, job: Job, status: Status) -> None:
        if job.attempt is not None:
            raise InvalidTransition(f"job {job.spec.id!r} cannot become {status.value}: attempt {job.n} has not ended")
        if status not in EDGES[job.status]:
            raise InvalidTransition(f"job {job.spec.id!r} cannot go from {job.status.value} to {status.value}")
        self._count(job, job.status, -1)
        job.status = status
        job.held = None
        self.held.pop(job.order, None)
        self._count(job, status, 1)
        for order in self.graph.move(job.order, status):
            self.ready.arrived(self.jobs[order])
            self.touched.add(order)
        self.ready.left(job)
        self.ready.arrived(job)
        self.touched.add(job.order)

    def _attempt(self, job_id: str, n: int) -> tuple[Job, Attempt]:
        job = self.job(job_id)
        if job.attempt is None or job.attempt.n != n:
            raise InvalidTransition(f"job {job_id!r} has no live attempt {n}")
        self.touched.add(job.order)
        return job, job.attempt

    def job(self, job_id: str) -> Job:
        """Look up a job. Raises InvalidTransition: an id that is not there never comes from outside unchecked."""
        order = self.order_of.get(job_id)
        if order is None:
            raise InvalidTransition(f"there is no job {job_id!r}")
        return self.jobs[order]

    def _run_started(self, event: ev.RunStarted, at: float) -> None:
        self.run_id, self.manifest_sha256, self.started = event.run_id, event.manifest_sha256, at

    def _manager_started(self, event: ev.ManagerStarted, at: float) -> None:
        if event.boot != self.boot:  # whatever was decided about the machine, it has begun anew
            self.teardown, self.booted_at = None, at
        self.host, self.pid, self.boot, self.ticks = event.host, event.pid, event.boot, event.ticks
        self.away += event.away
        self.active_at = at

    def _attempt_starting(self, event: ev.AttemptStarting, at: float) -> None:
        job = self.job(event.job)
        if job.attempt is not None or event.n != job.n + 1:
            raise InvalidTransition(f"attempt {event.n} of job {event.job!r} cannot start after {job.n}")
        for card in event.cards:
            holders = self.holders.get(card, [])
            if holders and (event.mib is None or any(holder.mib is None for holder in holders)):
                raise InvalidTransition(f"card {card} is given to {event.job!r} and held by {holders[0].job!r}")
        self._move(job, Status.RUNNING)
        attempt = Attempt(event, at)
        job.attempt, job.n, job.attempts = attempt, event.n, job.attempts + 1
        job.started, job.wave, job.session = at, event.wave, event.session
        job.ended = job.attempt_ended = None
        job.indices, job.last_cards = event.indices, event.cards
        self._note_code(job, self.code)
        job.pid = job.screen_pid = job.due = job.exit_code = job.error = job.warning = job.failure = None
        self.live[job.order] = attempt
        for card in event.cards:
            self.holders.setdefault(card, []).append(attempt)
            self.settling.pop(card, None)
        self.wave_cards = event.cards if event.wave != self.wave else (*self.wave_cards, *event.cards)
        self.wave = event.wave
        tally = self.tallies[job.spec.phase]
        tally.started = at if tally.started is None else tally.started
        self.finished = self.teardown = None

    def _attempt_started(self, event: ev.AttemptStarted, at: float) -> None:
        job, attempt = self._attempt(event.job, event.n)
        attempt.wrapper, attempt.screen, attempt.proc, attempt.started = event.wrapper, event.screen, event.proc, at
        job.started, job.screen_pid = at, event.screen.pid
        job.pid = event.proc.pid if event.proc else event.wrapper.pid
        self.launch_failures, self.launch_failed_at = 0, None

    def _attempt_stopping(self, event: ev.AttemptStopping, at: float) -> None:
        _, attempt = self._attempt(event.job, event.n)
        # A person's cancel overrules an earlier reason, never the other way round.
        attempt.stop_reason = event.reason
        attempt.stopping = at if attempt.stopping is None else attempt.stopping

    def _leftovers_found(self, event: ev.LeftoversFound, _at: float) -> None:
        job, attempt = self._attempt(event.job, event.n)
        attempt.left = event
        job.warning = f"its command has ended; {'waits for' if event.fate == 'wait' else 'ends'} {event.text}"

    def _attempt_ended(self, event: ev.AttemptEnded, at: float) -> None:
        job, attempt = self._attempt(event.job, event.n)
        status = Status(event.status)
        job.attempt = None
        del self.live[job.order]
        used = event.used_mib or (0,) * len(attempt.cards)
        for card, mib in zip(attempt.cards, used):
            self.holders[card].remove(attempt)
            if not self.holders[card]:
                del self.holders[card]
            self.settling[card] = Settling(at, mib)
        job.exit_code, job.error, job.warning, job.failure = (
            event.exit_code,
            event.error,
            event.warning,
            event.failure,
        )
        job.ended, job.attempt_ended, job.due, self.last_end = at, at, event.due, at
        tally = self.tallies[job.spec.phase]
        tally.ended = at
        if not event.charged:
            job.attempts -= 1
            if event.failure == "not_launched":
                self.launch_failures += 1
                self.launch_failed_at = at
        elif event.failure == "oom":
            job.oom_attempts += 1
            tally.oom_retries += status is Status.FAILED_OOM
        elif event.failure is not None:
            job.other_failures += 1
        self._note_card(job, attempt, event, status)
        self._move(job, status)
        if status in RETRYING and event.due is not None:
            self.ready.delayed(job, event.due)

    def _note_card(self, job: Job, attempt: Attempt, event: ev.AttemptEnded, status: Status) -> None:
        """Keep, card by card, the phases' jobs that failed there one after the other."""
        if not event.charged or event.failure == "oom":
            return
        for card in attempt.cards:
            if status is Status.COMPLETED:
                self.card_failures.pop(card, None)
                self.card_served.add(card)
            elif event.failure is not None:
                before = tuple(name for name in self.card_failures.get(card, ()) if name != job.spec.id)
                self.card_failures[card] = (*before, job.spec.id)[-8:]

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
        self.touched.add(job.order)

    def _job_stuck(self, event: ev.JobStuck, at: float) -> None:
        job = self.job(event.job)
        self._move(job, Status.STUCK)
        job.error, job.ended = event.error, at

    def _job_blocked(self, event: ev.JobBlocked, _at: float) -> None:
        job = self.job(event.job)
        if job.status is not Status.BLOCKED:
            self._move(job, Status.BLOCKED)
        self.touched.add(job.order)
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
        job.attempts = job.oom_attempts = job.other_failures = 0
        job.due = job.ended = job.error = job.warning = job.failure = job.exit_code = job.blocked_by = None
        self.finished = self.teardown = None

    def _jobs_added(self, event: ev.JobsAdded, _at: float) -> None:
        known = {phase.name for phase in self.phases}
        self.phases += [phase for phase in event.phases if phase.name not in known]
        self.groups.update(event.groups)
        for spec in event.specs:
            job = Job(len(self.jobs), spec)
            self.order_of[spec.id] = job.order
            self.jobs.append(job)
            self.touched.add(job.order)
        self.finished = self.teardown = None
        self._rebuild()

    def _jobs_changed(self, event: ev.JobsChanged, _at: float) -> None:
        for name, fields in event.changes.items():
            job = self.job(name)
            job.spec = job.spec._replace(**fields)
            self.touched.add(job.order)
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
        said = f"accepted as it is by {event.by}" + (f": {event.reason}" if event.reason else "")
        job.warning = f"{said}; before: {job.error}" if job.error else said
        self._move(job, Status.COMPLETED)
        job.error = job.due = job.blocked_by = None
        job.ended = at if job.ended is None else job.ended

    def _code_seen(self, event: ev.CodeSeen, _at: float) -> None:
        self.code = event.code
        for job in self.jobs:
            if job.started is not None and job.started > event.since:
                self._note_code(job, event.code)
                self.touched.add(job.order)

    def _note_code(self, job: Job, code: str | None) -> None:
        codes = self.tallies[job.spec.phase].codes
        if job.code is not None:
            codes[job.code] -= 1
            if not codes[job.code]:
                del codes[job.code]
        job.code = code
        if code is not None:
            codes[code] = codes.get(code, 0) + 1

    def _paused(self, _event: ev.Paused, _at: float) -> None:
        self.paused = True

    def _resumed(self, _event: ev.Resumed, _at: float) -> None:
        self.paused = False
        self.quarantined.clear()
        self.card_failures.clear()
        self.launch_failures, self.launch_failed_at = 0, None
        if self.bound is not None:
            self.lifted |= {self.bound.kind}
        self.bound = self.teardown = None

    def _request_taken(self, event: ev.RequestTaken, at: float) -> None:
        self.requests[event.id] = event
        self.active_at = at

    def _condition_began(self, event: ev.ConditionBegan, at: float) -> None:
        since = self.conditions.get(event.kind, ("", at))[1]
        self.conditions[event.kind] = (event.text, since)

    def _condition_ended(self, event: ev.ConditionEnded, _at: float) -> None:
        self.conditions.pop(event.kind, None)

    def _card_quarantined(self, event: ev.CardQuarantined, _at: float) -> None:
        self.quarantined[event.card] = event.reason
        self.card_failures.pop(event.card, None)

    def _run_finished(self, _event: ev.RunFinished, at: float) -> None:
        self.finished = at

    def _complete_ran(self, _event: ev.CompleteRan, at: float) -> None:
        self.last_end = at

    def _bound_reached(self, event: ev.BoundReached, at: float) -> None:
        self.bound = Bound(event.kind, event.text, at)

    def _results_pushed(self, event: ev.ResultsPushed, _at: float) -> None:
        self.pushed_seq = event.upto

    def _teardown_starting(self, event: ev.TeardownStarting, at: float) -> None:
        self.teardown = Teardown(event.plan, event.instance, event.reason, at)

    def _teardown_called_off(self, _event: ev.TeardownCalledOff, _at: float) -> None:
        self.teardown = None

    def _run_repaired(self, _event: ev.RunRepaired, at: float) -> None:
        self.active_at = at

    def _teardown_confirmed(self, event: ev.TeardownConfirmed, _at: float) -> None:
        if self.teardown is None or self.teardown.plan != event.plan:
            raise InvalidTransition(f"instance {event.instance} cannot be confirmed as ended: nobody meant to end it")
        self.teardown = self.teardown._replace(done=True)


_APPLY: dict[type, Callable[[QueueState, Any, float], None]] = {
    ev.RunStarted: QueueState._run_started,
    ev.ManagerStarted: QueueState._manager_started,
    ev.AttemptStarting: QueueState._attempt_starting,
    ev.AttemptStarted: QueueState._attempt_started,
    ev.AttemptStopping: QueueState._attempt_stopping,
    ev.LeftoversFound: QueueState._leftovers_found,
    ev.AttemptEnded: QueueState._attempt_ended,
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
