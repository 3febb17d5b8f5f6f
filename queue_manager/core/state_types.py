"""The parts of a run's state: jobs, live attempts, phase tallies, and what is kept of GPUs and machine.

Changed only by `QueueState.apply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from queue_manager.core import events as ev
from queue_manager.core.events import Proc, Work
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec
from queue_manager.core.status import Status


class Need(NamedTuple):
    """The GPUs that a job needs. Jobs with the same need are interchangeable to placement. `models`: one of these, see
    gpu_models; any if empty."""

    gpus: int
    mib: int | None
    models: tuple[str, ...] = ()


def need_of(spec: JobSpec) -> Need:
    """Return what a job needs of the GPUs of its host."""
    return Need(spec.gpus, spec.gpu_mem_mib, spec.gpu_model) if spec.gpus else Need(0, None)


class Flag(NamedTuple):
    """Something that is wrong with a running attempt, in words, and the line of its log that shows it. `since`: epoch
    seconds."""

    kind: str
    text: str
    line: str
    since: float


class Step(NamedTuple):
    """A step on a job's ladder, see recovery. `n`: the attempt whose failure it answers, `failure` the class and
    `cause` the words of that; `rung` counts from 0. `command`: how that of the rung ended; `effect`: what came of the
    attempt after it, which has ended if `ended`. Times are epoch seconds."""

    at: float
    n: int
    failure: str
    rung: int
    action: str
    cause: str
    command: str = ""
    effect: str = ""
    effect_at: float | None = None
    ended: bool = False


class Recovery(NamedTuple):
    """Where a job is on its ladder. `levels`: the rung that the next failure takes, by its class; 0 of all others."""

    levels: Mapping[str, int] = {}
    steps: tuple[Step, ...] = ()


NO_RECOVERY = Recovery()


class Attempt:
    """A live attempt: from AttemptStarting until AttemptEnded. Times are epoch seconds. `flags`: what is wrong with it,
    by kind; `flagged`: the kinds of all flags that it ever had; `cleared`: when the last of them ended."""

    __slots__ = (
        "boot", "cards", "cleared", "flagged", "flags", "idle", "indices", "job", "leader", "left", "mib", "n", "proc",
        "session", "started", "starting", "stop_reason", "stopping", "used_mib", "wave", "wrapper",
    )  # fmt: skip

    def __init__(self, event: ev.AttemptStarting, at: float) -> None:
        self.job, self.n, self.wave = event.job, event.n, event.wave
        self.session, self.boot = event.session, event.boot
        self.cards, self.indices, self.mib, self.used_mib = event.cards, event.indices, event.mib, event.used_mib
        self.starting = at
        self.started: float | None = None
        self.stopping: float | None = None
        self.stop_reason: str | None = None
        self.left: ev.LeftoversFound | None = None
        self.idle: Work | None = None
        self.flags: dict[str, Flag] = {}
        self.flagged: frozenset[str] = frozenset()
        self.cleared: float | None = None
        self.wrapper: Proc | None = None
        self.leader: Proc | None = None
        self.proc: Proc | None = None

    @property
    def is_queued(self) -> bool:
        """Whether it was handed to Slurm, and no task has begun it: however long that takes, it does not run."""
        return self.wrapper is None and self.boot == SLURM


class Job:
    """A job's spec and its history. `order` is its place in the manifest; `queued`: it has an entry in the index of
    ready jobs, valid or not, and must not get a second one; `node`: of a cluster, where it ran last; `seq`: of the last
    event that changed it. `memory`: which its last attempt ran out of; `host_ooms` and `gpu_ooms`: how many did of
    each; one of an earlier version, whose kind is not known, counts as both. `time_limits`: how often it went on after
    its time limit, at no cost; `reached`: the step to which it had come then, where that is known."""

    __slots__ = (
        "attempt", "attempt_ended", "attempts", "blocked_by", "code", "due", "ended", "environment", "error",
        "exit_code", "failure", "gpu_ooms", "held", "host_ooms", "indices", "last_cards", "leader_pid", "memory",
        "metric_errors", "metrics", "n", "node", "oom_attempts", "order", "other_failures", "outcome", "pid", "queued",
        "reached", "recovery", "seq", "session", "skipped", "spec", "started", "status", "time_limits", "warning",
        "wave",
    )  # fmt: skip

    def __init__(self, order: int, spec: JobSpec) -> None:
        self.order, self.spec = order, spec
        self.status = Status.PENDING
        self.attempt: Attempt | None = None
        self.n = self.attempts = self.oom_attempts = self.other_failures = self.seq = 0
        self.host_ooms = self.gpu_ooms = self.time_limits = 0
        self.reached: int | None = None
        self.memory: str | None = None
        self.due: float | None = None
        self.held: str | None = None
        self.blocked_by: str | None = None
        self.error: str | None = None
        self.warning: str | None = None
        self.failure: str | None = None
        self.outcome: str | None = None
        self.exit_code: int | None = None
        self.started: float | None = None
        self.ended: float | None = None
        self.attempt_ended: float | None = None
        self.wave: int | None = None
        self.last_cards: tuple[str, ...] = ()
        self.indices: tuple[int, ...] = ()
        self.session: str | None = None
        self.pid: int | None = None
        self.leader_pid: int | None = None
        self.node: str | None = None
        self.code: str | None = None
        self.environment: str | None = None
        self.metrics: Mapping[str, float | None] | None = None
        self.metric_errors: Mapping[str, str] | None = None
        self.recovery = NO_RECOVERY
        self.skipped = False
        self.queued = False

    @property
    def need(self) -> Need:
        return need_of(self.spec)


class Settling(NamedTuple):
    """A GPU whose memory an ended attempt may not have released yet. `used_mib`: read while it lived."""

    since: float
    used_mib: int


class Bound(NamedTuple):
    """The limit that the run has reached: max_cost or deadline, in words, and when (epoch seconds)."""

    kind: str
    text: str
    at: float


class Teardown(NamedTuple):
    """The end of the rented machine, once it is decided: stop or destroy (`plan`). `at`: epoch seconds; `done`: the
    provider has confirmed it."""

    plan: str
    instance: int
    reason: str
    at: float
    done: bool = False


class PhaseTally:
    """Running numbers of one phase."""

    __slots__ = ("codes", "counts", "ended", "oom_retries", "queued", "started")

    def __init__(self) -> None:
        self.counts: dict[Status, int] = {}
        self.queued = 0
        """How many of the jobs that count as running wait in Slurm's queue, see Attempt.is_queued."""
        self.codes: dict[str, int] = {}
        """How many of its jobs ran each version of the code, as far as that is known."""
        self.oom_retries = 0
        self.started: float | None = None
        self.ended: float | None = None
