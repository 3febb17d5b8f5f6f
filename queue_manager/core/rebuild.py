"""Build a new journal for a run whose own is damaged or lost, from its intact lines, the snapshot, and what the
attempts left. A job that may have completed never counts as one that did not run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import recovery, time_limit
from queue_manager.core.events import Event, Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import session_name
from queue_manager.core.manifest import Manifest
from queue_manager.core.memory import Memory
from queue_manager.core.model import Job, QueueState
from queue_manager.core.salvage import Row
from queue_manager.core.status import RETRYING, Status
from queue_manager.core.turn import Turn


class Head(NamedTuple):
    """What is known of the run besides its jobs. `boot`: the machine's boot ID, see host.boot_id; `cards`: the uuids by
    index, as in the snapshot."""

    run_id: str
    manifest_sha256: str
    boot: str
    paused: bool
    cards: Mapping[int, str]


class Trace(NamedTuple):
    """What a job's attempts left. `tries`: the highest attempt that is known to have started; `is_open`: its directory
    exists, so that a manager can judge it; `output`: whether the expected output exists, None where the job has
    none."""

    tries: int = 0
    is_open: bool = False
    output: bool | None = None


class Rebuilt(NamedTuple):
    """The new journal and the resulting state. `changes`: what was added to the intact lines, by job, in words; `lost`:
    what cannot be recovered."""

    records: list[Record]
    state: QueueState
    changes: dict[str, str]
    lost: list[str]


def rebuild(
    manifest: Manifest,
    records: list[Record],
    rows: Mapping[str, Row],
    head: Head,
    traces: Mapping[str, Trace],
    now: float,
) -> Rebuilt:
    """Build a new journal. `records`: the intact ones, see salvage.whole_lines; `now` in epoch seconds."""
    made = _Journal(manifest, records, head, now)
    if not records:
        made.emit(ev.RunStarted(head.run_id, manifest.project, head.manifest_sha256))
    for job in made.state.jobs:
        before = made.state.seq
        row = rows.get(job.spec.id)
        if row is not None:
            made.follow_row(job, row)
        trace = traces.get(job.spec.id, Trace())
        made.follow_trace(job, trace)
        if made.state.seq > before:
            made.changes[job.spec.id] = _words(job)
    known = made.state.order_of
    lost = [f"job {name} was added later, and its command is lost: add it again" for name in rows if name not in known]
    if head.paused and not made.state.paused:
        made.emit(ev.Paused())
    made.block()
    return Rebuilt(made.records, made.state, made.changes, lost)


def _words(job: Job) -> str:
    after = f", attempt {job.n}" if job.n else ""
    return f"{job.status.value}{after}" + (f": {job.error or job.warning}" if job.error or job.warning else "")


class _Earlier(NamedTuple):
    """How many attempts ran out of memory, and out of which, where one whose kind is not known counts as both; and how
    many met their time limit, after which the job went on."""

    ooms: int
    host: int
    gpu: int
    limits: int


def _earlier(row: Row) -> _Earlier:
    """Those before the last attempt of a row."""
    was = row.failure == "oom"
    host, gpu = row.memory != Memory.GPU, row.memory != Memory.HOST
    limits = row.time_limits - (row.failure == time_limit.NAME)
    return _Earlier(row.oom_attempts - was, row.host_ooms - (was and host), row.gpu_ooms - (was and gpu), limits)


class _Journal:
    """The journal that is being built."""

    def __init__(self, manifest: Manifest, records: list[Record], head: Head, now: float) -> None:
        self.state = QueueState(manifest)
        for record in records:
            self.state.apply(record)
        self.records, self._head, self._now = list(records), head, now
        self.changes: dict[str, str] = {}

    def emit(self, event: Event) -> None:
        record = Record(self.state.seq + 1, self._now, event)
        self.state.apply(record)
        self.records.append(record)

    # -- from the snapshot --------------------------------------------------------------------------------------------

    def follow_row(self, job: Job, row: Row) -> None:
        """Bring a job to its status in the snapshot, where that is further."""
        if job.status is Status.COMPLETED:
            return
        if row.n > job.n:
            while job.n < row.n - 1:
                self._pass(job, _earlier(row))
            self._start(job, row)
        if row.n == job.n and job.attempt is not None:
            self._end(job, row)
        if row.n == job.n and job.attempt is None:
            self._settle(job, row)
        self._climb(job, row)

    def _climb(self, job: Job, row: Row) -> None:
        """Let a job have taken the steps of its ladder that the snapshot knows: what they changed is not forgotten, and
        they count."""
        known = [(one.n, one.rung) for one in job.recovery.steps]
        if known != [(n, rung) for n, _, rung, _, _ in row.steps[: len(known)]]:
            return
        for n, failure, rung, action, cause in row.steps[len(known) :]:
            if rung == 0 and job.recovery.levels.get(failure):
                self.emit(ev.RecoverySustained(job.spec.id, n))
            event = ev.RecoveryChosen(job.spec.id, n, failure, rung, action, cause)
            if recovery.fault(job, event) is not None:
                return
            self.emit(event)

    def _end(self, job: Job, row: Row) -> None:
        """End the live attempt as in the snapshot."""
        assert job.attempt is not None
        if row.status is Status.RUNNING:
            return
        status, due = row.status, None
        if status is Status.BLOCKED or (status is Status.PENDING and row.failure is not None):
            status = Status.FAILED_OTHER
        if status in RETRYING:
            due = row.due if row.due is not None else self._now
        charged = row.attempts >= job.attempts and status is not Status.PENDING
        failure = row.failure if status is not Status.COMPLETED else None
        self.emit(
            ev.AttemptEnded(
                job.spec.id,
                job.n,
                status.value,
                failure,
                row.exit_code,
                row.error,
                row.warning,
                due,
                charged,
                memory=row.memory,
            )
        )

    def _settle(self, job: Job, row: Row) -> None:
        """Apply what happened to a job after its last attempt."""
        if row.status is Status.COMPLETED and job.status is not Status.COMPLETED:
            if job.n == 0:
                self._to_pending(job)
                self.emit(ev.JobSkipped(job.spec.id))
                return
            self._start(job, None)
            self._end(job, row)
            return
        if job.status in RETRYING and row.status in (Status.PENDING, Status.STUCK, Status.BLOCKED):
            self.emit(ev.RetryDue(job.spec.id))
        if job.status in (Status.STUCK, Status.CANCELLED) and row.status is Status.PENDING:
            self.emit(ev.JobRetried(job.spec.id))
        if row.status is Status.CANCELLED and job.status not in (Status.CANCELLED, Status.COMPLETED):
            self.emit(ev.JobCancelled(job.spec.id))
        if row.status is Status.STUCK and job.status is Status.PENDING:
            self.emit(ev.JobStuck(job.spec.id, row.error or "needs a person"))

    # -- from what attempts left --------------------------------------------------------------------------------------

    def follow_trace(self, job: Job, trace: Trace) -> None:
        """Add attempts that neither journal nor snapshot knows. The next manager judges attempts with a directory;
        those that had ended before are judged here, by their output."""
        if job.status is Status.COMPLETED:
            return
        if trace.tries > job.n:
            while job.n < trace.tries - 1:
                self._pass(job, None)
            self._start(job, None)
        elif job.attempt is None or trace.tries < job.n:
            return
        if trace.is_open or job.attempt is None:
            return
        if trace.output:
            warning = "marked as completed by repair: its output exists, but its exit code is lost"
            self.emit(ev.AttemptEnded(job.spec.id, job.n, Status.COMPLETED.value, warning=warning))
            return
        words = "its output does not exist" if trace.output is False else "it has no expected_output to check"
        error = (
            f"attempt {job.n} had ended, but its outcome was lost with the journal ({words}); look at its log, and if "
            f"it has to run again: wavequeue retry {job.spec.id}"
        )
        self.emit(ev.AttemptEnded(job.spec.id, job.n, Status.STUCK.value, "lost", error=error))

    # -- attempts -----------------------------------------------------------------------------------------------------

    def _pass(self, job: Job, earlier: _Earlier | None) -> None:
        """Add an attempt of which nothing is known but that another one followed it."""
        self._start(job, None)
        if earlier is None or earlier.ooms <= job.oom_attempts:
            failure = time_limit.NAME if earlier is not None and earlier.limits > job.time_limits else None
            self.emit(ev.AttemptEnded(job.spec.id, job.n, Status.PENDING.value, failure, charged=False))
            return
        host, gpu = earlier.host - job.host_ooms, earlier.gpu - job.gpu_ooms
        is_known = max(host, 0) + max(gpu, 0) <= earlier.ooms - job.oom_attempts
        memory = None if not is_known or host + gpu <= 0 else (Memory.HOST if host > 0 else Memory.GPU).value
        status = Status.FAILED_OOM.value
        self.emit(ev.AttemptEnded(job.spec.id, job.n, status, "oom", due=self._now, memory=memory))

    def _start(self, job: Job, row: Row | None) -> None:
        name, n = job.spec.id, job.n + 1
        if job.attempt is not None:
            self.emit(ev.AttemptEnded(name, job.n, Status.PENDING.value, charged=False))
        self._to_pending(job)
        if row is None or row.n != n:
            row = None
        session = (row.session if row else None) or session_name(self.state.run_id, name, n)
        indices = row.indices if row else ()
        cards = tuple(self._head.cards.get(index, "") for index in indices)
        mib = job.spec.gpu_mem_mib
        if not all(cards) or len(set(cards)) < len(cards) or any(self._is_taken(card, mib) for card in cards):
            cards, indices = (), ()
        wave = row.wave if row else self.state.cards.wave
        boot = SLURM if self.state.manifest.launcher == SLURM else self._head.boot
        self.emit(ev.AttemptStarting(name, n, wave, session, boot, cards, indices, mib if cards else None))

    def _to_pending(self, job: Job) -> None:
        """Make a job without a live attempt pending."""
        if job.status in RETRYING:
            self.emit(ev.RetryDue(job.spec.id))
        elif job.status is Status.BLOCKED:
            self.emit(ev.JobUnblocked(job.spec.id))
        elif job.status is not Status.PENDING:
            self.emit(ev.JobRetried(job.spec.id))

    def _is_taken(self, card: str, mib: int | None) -> bool:
        holders = self.state.cards.holders.get(card, [])
        return bool(holders) and (mib is None or any(holder.mib is None for holder in holders))

    def block(self) -> None:
        """Block jobs that depend on a job that needs a person."""
        turn = Turn(self.state, b.Seen(self._head.boot, 1), self._now)
        for job in list(self.state.jobs):
            if job.status in (Status.STUCK, Status.CANCELLED):
                turn.spread(job)
        self.records += turn.records
