"""Types that cross the edge of the pure core: readings and evidence in, actions out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Union

from queue_manager.core.events import Proc, Work
from queue_manager.core.failures import LogFinding
from queue_manager.core.machine import MachineReading
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.requests import Answer, Request


@dataclass(frozen=True)
class Claim:
    """A wrapper took the attempt. `leader`: the process that its session ends with. `at_ns`: when, by the file system's
    clock, in ns since the epoch."""

    wrapper: Proc
    leader: Proc
    at_ns: int


@dataclass(frozen=True)
class Revoked:
    """The manager took the attempt itself: no wrapper will ever run it."""


@dataclass(frozen=True)
class ExitRecord:
    """The job's own verdict. `at_ns`: when, by the file system's clock."""

    code: int
    at_ns: int


@dataclass(frozen=True)
class Output:
    """What `expected_output` looks like now: the newest match, if any, whether it is newer than the attempt's
    start, and whether another job's pattern can match one of the new files. `unreadable`: where there is no match,
    what could not be read, and why."""

    path: str | None
    fresh: bool
    shared: bool = False
    unreadable: str | None = None


@dataclass(frozen=True)
class Ended:
    """Facts that are gathered once, when all processes of an attempt have ended. `recovered`: exit code of the command
    of its rung. `environment`: which one it had, in words. `limit`: Slurm ended it at its time limit; `warned`: it was
    told before that this was near, and waited for that word; `moved`: its log or its output changed in the second half
    of its time. `cause`: who or what ended it, in Slurm's words, where those are known."""

    output: Output | None
    finding: LogFinding | None = None
    last_line: str = ""
    oom_kill: bool = False
    recovered: int | None = None
    environment: str | None = None
    limit: bool = False
    warned: bool = False
    moved: bool = False
    cause: str | None = None


@dataclass(frozen=True)
class Leftovers:
    """Processes that outlive the job's command, by their command lines: those that work, those that may continue on
    their own, and those that only serve others, see `leftovers`. `output_there`: the output exists and is new."""

    busy: tuple[str, ...]
    idle: tuple[str, ...] = ()
    serving: tuple[str, ...] = ()
    output_there: bool = False


@dataclass(frozen=True)
class Place:
    """Where a task of a cluster runs: its node, the indices of its GPUs there, and since when (epoch seconds)."""

    node: str
    indices: tuple[int, ...]
    since: float


@dataclass(frozen=True)
class Evidence:
    """What is seen of one live attempt.

    `claim`: None while nobody has taken it. `alive`: the wrapper lives, `leader`: its session does.
    `leftovers`: processes of the attempt that outlive the wrapper, which has been gone for `gone_for` seconds.
    `left`: what those are and do, once that is known.
    `closed_for`: the session has been gone for so many seconds, while the wrapper lives.
    `proc`: the job's own process, once known.
    `ended` is there only if all have gone. `idle`: the look since which its output is there and it has written
    nothing and used no CPU and no GPU; once the command has ended: since which none of what it left running has worked.
    `launch_error`: the launcher's own words where it did not start. `quiet`: no session of that name is listed and this
    manager is not just launching it. `queued`: where it waits for its start, in words, however long that takes.
    `put_off`: its `launch_error` is neither the job's fault nor the launcher's, and passes by itself. `never`: it is
    the job's, which cannot start as it is specified. `cancelled`: somebody took it out of the cluster's queue.
    `place`: the node of a cluster that it runs on. `over`: when its command ended (epoch seconds), where that was
    before now.
    """

    claim: Claim | Revoked | Unreadable | None
    alive: bool | Unreadable = False
    leader: bool | Unreadable = False
    leftovers: int | Unreadable = 0
    gone_for: float = 0.0
    closed_for: float = 0.0
    proc: Proc | None = None
    exit: ExitRecord | None = None
    ended: Ended | None = None
    idle: Work | None = None
    launch_error: str | None = None
    quiet: bool = False
    inherited: bool = False
    left: Leftovers | None = None
    queued: str | None = None
    put_off: bool = False
    never: bool = False
    cancelled: bool = False
    place: Place | None = None
    over: float | None = None


@dataclass(frozen=True)
class Checked:
    """A job's preconditions at `at` (epoch seconds): None if they hold, else the one that does not.

    `awaited`: that one depends on another host, and may hold at any time.
    """

    unmet: str | None
    at: float
    awaited: bool = False


@dataclass(frozen=True)
class ForeignLease:
    """A GPU that another run on this host uses. `mib` None: the run wants it alone. `owner`: whose run it is, where it
    may be another user's; its name is unknown then. `is_agent`: no run uses it, but the agent of AGENT_STATUS.json that
    `run_id` names."""

    card: str
    mib: int | None
    run_id: str
    owner: str | None = None
    is_agent: bool = False


@dataclass(frozen=True)
class Doing:
    """What one look at a running attempt showed. Times in epoch seconds.

    `at`: when it looked. `output_at`: when the log last grew, None where there is none. `cpu`: cores used since the
    look before, None where that is not known. `reads`: whether what is in the foreground of its terminal sleeps in a
    read of it; None where the kernel does not tell this from another sleep. `line`: the log's last words; `is_open`: no
    line end follows them.
    """

    at: float
    output_at: float | None = None
    cpu: float | None = None
    reads: bool | None = False
    line: str = ""
    is_open: bool = False


@dataclass(frozen=True)
class MetricsFound:
    """What was read of a completed job's metrics: a number or None by name, and why there is none, in words."""

    metrics: Mapping[str, float | None]
    errors: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HealthReading:
    """What a look at a running attempt's log and GPUs shows of its health. What is not known is None.

    `rate` in steps a second; `util` in percent and `mem_mib` of its GPUs together; `line`: the log's last line about
    the training. `busy`: it loads, compiles, evaluates or saves, so that its steps need not go on. Seconds: `still`
    without a new step, `interval` between new steps as a rule, `quiet` without a word in the log or use of the CPU,
    `low` with little use of the GPUs. `pace`: steps a second of late; `warm_pace`: of its beginning. `found`: by kind
    of flag a line of the log, and when it was seen. `metrics`: as the log has them so far. `since_best`: values of the
    metric of an early stop since the best one.
    """

    at: float
    step: int | None = None
    total: int | None = None
    loss: float | None = None
    rate: float | None = None
    eta_s: float | None = None
    util: float | None = None
    mem_mib: int | None = None
    line: str = ""
    busy: bool = True
    still: float = 0.0
    interval: float | None = None
    quiet: float = 0.0
    low: float | None = None
    pace: float | None = None
    warm_pace: float | None = None
    found: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    since_best: int | None = None


@dataclass(frozen=True)
class Admitted:
    """What an engine that places the jobs itself takes of the run now: `room`: so many more attempts; `reason`: why no
    more, in words, where it is for a while; `conditions`: what a person should know, in words, by kind."""

    room: int
    reason: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CodeReading:
    """The identity of the code in the run's cwd (None: unknown). `since`: time of the reading before."""

    name: str | None
    since: float


@dataclass(frozen=True)
class Seen:
    """The observations of one turn. What was not looked at is absent, and nothing is concluded from its absence.

    `cards`: None where they were not read; a reading is always younger than the evidence beside it. `before`: MiB used
    by uuid, from the reading before. `cores`: how many CPU jobs may run where `max_parallel` does not say. `disk`: why
    nothing may be launched, where a disk is full. `machine`: the rented machine. `code`: the code, where a reading has
    just ended. `journal`: what others did to the journal, and that it was restored. `missing`: what is missing of an
    output that a person wants to accept, in words, by the request's id. `doing`: what each running attempt does, where
    that was checked. `metrics`: metrics of jobs that completed. `health`: health of the running attempts that were
    checked. `admitted`: what an engine takes, where one places the jobs.
    """

    boot: str
    cores: int
    attempts: Mapping[int, Evidence] = field(default_factory=dict)
    cards: Cards | Unreadable | None = None
    before: Mapping[str, int] = field(default_factory=dict)
    foreign: tuple[ForeignLease, ...] | Unreadable = ()
    checked: Mapping[int, Checked] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    disk: str | None = None
    machine: MachineReading | None = None
    code: CodeReading | None = None
    journal: str | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    doing: Mapping[int, Doing] | None = None
    metrics: Mapping[int, MetricsFound] = field(default_factory=dict)
    health: Mapping[int, HealthReading] = field(default_factory=dict)
    admitted: Admitted | None = None


@dataclass(frozen=True)
class Launch:
    """Start the attempt whose start was just journaled."""

    order: int


@dataclass(frozen=True)
class Stop:
    """Signal all processes of an attempt: KILL if `kill`, else TERM."""

    order: int
    kill: bool


@dataclass(frozen=True)
class QuitSession:
    """Close an attempt's session."""

    order: int


@dataclass(frozen=True)
class Revoke:
    """Take the attempt's claim, so that a late wrapper does not run."""

    order: int


@dataclass(frozen=True)
class Reply:
    """Answer a request."""

    answer: Answer


Action = Union[Launch, Stop, QuitSession, Revoke, Reply]
