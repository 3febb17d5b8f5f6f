"""The events of a journal, and their JSON. An event is named for what happened, never for what should happen.

Later versions read a journal, and earlier ones may: `_WIRE` fixes the name of each event in the file, whatever its
class is called. A new field has a default, and a field that must not be ignored needs a new event.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, NamedTuple, Union

from queue_manager.core.manifest import (
    JobSpec,
    Phase,
    job_from_json,
    job_to_json,
    phase_from_json,
    phase_to_json,
)
from queue_manager.core.times import epoch, iso

FORMAT = "wavequeue-journal"
VERSION = 1


class JournalError(ValueError):
    """The journal cannot be read; the message says which line and why."""


class Proc(NamedTuple):
    """Identity of a process: pid and start time in clock ticks since boot (proc(5), stat field 22)."""

    pid: int
    ticks: int


class Work(NamedTuple):
    """What an attempt's processes had done by a moment (`at`, epoch seconds): CPU seconds, bytes handed to write(2);
    and how large its log was then and when it last changed (ns since the epoch)."""

    at: float
    cpu: float
    written: int
    log_size: int
    log_ns: int


@dataclass(frozen=True)
class RunStarted:
    """The first event of a journal."""

    run_id: str
    project: str
    manifest_sha256: str
    format: str = FORMAT
    version: int = VERSION


@dataclass(frozen=True)
class ManagerStarted:
    """A manager started for the run, the first or a later one. `boot`: the host's boot ID, see host.boot_id. `away`:
    seconds that the machine was down before, by the last sign of the previous boot. `ticks`: with `pid` and `boot` the
    manager's identity, see Proc; 0 in journals of earlier versions."""

    host: str
    pid: int
    boot: str
    away: float = 0.0
    ticks: int = 0


@dataclass(frozen=True)
class AttemptStarting:
    """The intent to launch, on disk before the launch. `cards`: uuids, `indices`: the same GPUs by index, `mib`:
    reserved on each (None: all of it), `used_mib`: NVML's reading of each at placement."""

    job: str
    n: int
    wave: int
    session: str
    boot: str
    cards: tuple[str, ...] = ()
    indices: tuple[int, ...] = ()
    mib: int | None = None
    used_mib: tuple[int, ...] = ()


@dataclass(frozen=True)
class AttemptStarted:
    """The wrapper claimed the attempt and the job's own process began. `leader`: of its session. Of a task of a
    cluster also its `node`, the GPUs that it got there (`indices`), and when it `began` (epoch seconds), where that was
    before it was seen."""

    job: str
    n: int
    wrapper: Proc
    leader: Proc
    proc: Proc | None = None
    node: str = ""
    indices: tuple[int, ...] = ()
    began: float | None = None


@dataclass(frozen=True)
class AttemptStopping:
    """Its processes are to end: TERM now, KILL after the grace. `reason`: cancelled, timeout, stale, closed (its
    session was), leftovers, bound (the run has reached one), early_stop, unhealthy (and `then` is stop), recover (and
    `then` is that)."""

    job: str
    n: int
    reason: str


@dataclass(frozen=True)
class LeftoversFound:
    """Its command has ended and left processes running. `fate`: wait, fail or end, see `leftovers`; `text`: which
    processes."""

    job: str
    n: int
    fate: str
    text: str


@dataclass(frozen=True)
class AttemptIdle:
    """Since this look (`work`) it has done nothing, though it still runs. If it was idle before, it has worked in
    between."""

    job: str
    n: int
    work: Work


@dataclass(frozen=True)
class AttemptEnded:
    """The verdict, and the status that the job has now. `charged`: the attempt counts for the job.
    `due`: when a retry may start (epoch seconds). `used_mib`: last reading of its cards while it lived. `outcome`:
    stopped_early or recovered, where it ended so. `environment`: which one it had: the hash of a lock file, the digest
    of an image. `memory`: host or gpu, which of them it ran out of; None also in journals of earlier versions. `over`:
    when its command ended (epoch seconds), where that was before it was seen."""

    job: str
    n: int
    status: str
    failure: str | None = None
    exit_code: int | None = None
    error: str | None = None
    warning: str | None = None
    due: float | None = None
    charged: bool = True
    used_mib: tuple[int, ...] = ()
    outcome: str | None = None
    environment: str | None = None
    memory: str | None = None
    over: float | None = None
    step: int | None = None


@dataclass(frozen=True)
class HealthFlagged:
    """Something is wrong with a running attempt. `kind`: see health_policy.FLAGS; `text` describes it to a person,
    `line` is the line of its log that shows it; `again`: the flag had been raised and cleared before."""

    job: str
    n: int
    kind: str
    text: str
    line: str = ""
    again: bool = False


@dataclass(frozen=True)
class HealthCleared:
    """The flag no longer applies."""

    job: str
    n: int
    kind: str


@dataclass(frozen=True)
class RecoveryChosen:
    """The intent to take a rung of the job's ladder because attempt `n` failed; durable before that attempt's end.
    `failure`: its class, `cause` its words; `rung` counts from 0, `action` says what is done."""

    job: str
    n: int
    failure: str
    rung: int
    action: str
    cause: str = ""


@dataclass(frozen=True)
class RecoveryRan:
    """The command of the rung that was taken before attempt `n` has ended with this exit code."""

    job: str
    n: int
    code: int


@dataclass(frozen=True)
class RecoverySustained:
    """Attempt `n`, which followed on a step of the ladder, has been healthy for so long that the ladder begins anew."""

    job: str
    n: int


@dataclass(frozen=True)
class MetricsRead:
    """The metrics of a completed job: a number or None by name, and why a number is missing, in words."""

    job: str
    metrics: Mapping[str, float | None]
    errors: Mapping[str, str]


@dataclass(frozen=True)
class RetryDue:
    """The retry delay of a failed job is over; it may be placed again."""

    job: str


@dataclass(frozen=True)
class JobHeld:
    """A precondition does not hold (`reason`), or holds again (None)."""

    job: str
    reason: str | None


@dataclass(frozen=True)
class JobStuck:
    """It can never run here, for the reason given, and needs a person."""

    job: str
    error: str


@dataclass(frozen=True)
class JobBlocked:
    """Something it needs will never be available. `by`: the job at the root, None where it is a precondition. For a
    blocked job: it names another root from now on."""

    job: str
    by: str | None
    error: str


@dataclass(frozen=True)
class JobUnblocked:
    """What it depends on may still complete."""

    job: str


@dataclass(frozen=True)
class JobCancelled:
    """A person cancelled it before it ran."""

    job: str


@dataclass(frozen=True)
class JobRetried:
    """A person gave it new attempts."""

    job: str


@dataclass(frozen=True)
class JobsAdded:
    """More jobs for a run that has started."""

    phases: tuple[Phase, ...]
    groups: Mapping[str, tuple[str, ...]]
    specs: tuple[JobSpec, ...]


@dataclass(frozen=True)
class JobsChanged:
    """A person changed fields of jobs in a run. `changes`: new values by field, by job; see requests.CHANGEABLE."""

    changes: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class JobSkipped:
    """Its output existed before the run, newer than the code, and is used."""

    job: str


@dataclass(frozen=True)
class JobAccepted:
    """A person accepted the job's result. `by`: who, as user@machine; `reason`: why, in their words."""

    job: str
    by: str
    reason: str = ""


@dataclass(frozen=True)
class CodeSeen:
    """The code in the run's cwd has changed, or was identified for the first time. `code`: its identity, see
    queue_manager.adapters.code_identity; None where it is unknown. `since`: attempts that started after this time
    (epoch seconds) run it; earlier ones ran the code before."""

    code: str | None
    since: float = 0.0


@dataclass(frozen=True)
class Paused:
    """Nothing new starts until resumed."""


@dataclass(frozen=True)
class Resumed:
    """New attempts may start; quarantined cards are tried again."""


@dataclass(frozen=True)
class RequestTaken:
    """A request was carried out; it is never carried out again."""

    id: str
    ok: bool
    text: str
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConditionBegan:
    """Something blocks the queue. `kind` names it, `text` describes it to a person."""

    kind: str
    text: str


@dataclass(frozen=True)
class ConditionEnded:
    """It no longer blocks the queue."""

    kind: str


@dataclass(frozen=True)
class CardQuarantined:
    """No job gets this card until a person resumes the run."""

    card: str
    reason: str


@dataclass(frozen=True)
class RunFinished:
    """No job is left that can run."""


@dataclass(frozen=True)
class CompleteRan:
    """`on_complete` has ended, and may have left results of its own."""

    code: int


@dataclass(frozen=True)
class BoundReached:
    """No more jobs are started until a person resumes the run: max_cost or deadline (`kind`)."""

    kind: str
    text: str


@dataclass(frozen=True)
class ResultsPushed:
    """`results_to` has copied all results up to the journal's line `upto`."""

    upto: int


@dataclass(frozen=True)
class TeardownStarting:
    """The intent to end the machine, on disk before the request. `plan`: stop or destroy. `cost`: USD so far."""

    plan: str
    instance: int
    reason: str
    cost: float | None = None


@dataclass(frozen=True)
class TeardownCalledOff:
    """The machine is kept after all."""

    reason: str


@dataclass(frozen=True)
class TeardownConfirmed:
    """The provider confirms that the machine is stopped or deleted."""

    plan: str
    instance: int


@dataclass(frozen=True)
class RunRepaired:
    """The journal was damaged or lost and was rebuilt: everything before this line. `text`: from what, in words;
    `kept`: name of the damaged file beside it, empty where there was none."""

    text: str
    kept: str = ""


Event = Union[
    RunStarted, ManagerStarted, AttemptStarting, AttemptStarted, AttemptStopping, LeftoversFound, AttemptIdle,
    AttemptEnded, HealthFlagged, HealthCleared, RecoveryChosen, RecoveryRan, RecoverySustained, MetricsRead,
    RetryDue, JobHeld, JobStuck, JobBlocked, JobUnblocked, JobCancelled, JobRetried, JobsAdded, JobsChanged,
    JobSkipped, JobAccepted, CodeSeen, Paused, Resumed, RequestTaken, ConditionBegan, ConditionEnded,
    CardQuarantined, RunFinished, CompleteRan, BoundReached, ResultsPushed, TeardownStarting, TeardownCalledOff,
    TeardownConfirmed, RunRepaired,
]  # fmt: skip

_WIRE: dict[str, type[Event]] = {
    "RunStarted": RunStarted,
    "ManagerStarted": ManagerStarted,
    "AttemptStarting": AttemptStarting,
    "AttemptStarted": AttemptStarted,
    "AttemptStopping": AttemptStopping,
    "LeftoversFound": LeftoversFound,
    "AttemptIdle": AttemptIdle,
    "AttemptEnded": AttemptEnded,
    "HealthFlagged": HealthFlagged,
    "HealthCleared": HealthCleared,
    "RecoveryChosen": RecoveryChosen,
    "RecoveryRan": RecoveryRan,
    "RecoverySustained": RecoverySustained,
    "MetricsRead": MetricsRead,
    "RetryDue": RetryDue,
    "JobHeld": JobHeld,
    "JobStuck": JobStuck,
    "JobBlocked": JobBlocked,
    "JobUnblocked": JobUnblocked,
    "JobCancelled": JobCancelled,
    "JobRetried": JobRetried,
    "JobsAdded": JobsAdded,
    "JobsChanged": JobsChanged,
    "JobSkipped": JobSkipped,
    "JobAccepted": JobAccepted,
    "CodeSeen": CodeSeen,
    "Paused": Paused,
    "Resumed": Resumed,
    "RequestTaken": RequestTaken,
    "ConditionBegan": ConditionBegan,
    "ConditionEnded": ConditionEnded,
    "CardQuarantined": CardQuarantined,
    "RunFinished": RunFinished,
    "CompleteRan": CompleteRan,
    "BoundReached": BoundReached,
    "ResultsPushed": ResultsPushed,
    "TeardownStarting": TeardownStarting,
    "TeardownCalledOff": TeardownCalledOff,
    "TeardownConfirmed": TeardownConfirmed,
    "RunRepaired": RunRepaired,
}
_NAME = {kind: name for name, kind in _WIRE.items()}
_WIRE_FIELD: dict[type[Event], dict[str, str]] = {AttemptStarted: {"leader": "screen"}}
"""Names of fields in a journal that differ from their names here."""
_REQUIRED = object()
_DEFAULTS: dict[type[Event], dict[str, Any]] = {
    kind: {one.name: _REQUIRED if one.default is MISSING else one.default for one in fields(kind)} for kind in _NAME
}
"""Default values of the fields of each event, used where a line lacks them."""

_MUST = {
    kind: frozenset(key for key, value in known.items() if value is _REQUIRED) for kind, known in _DEFAULTS.items()
}


def _proc(pair: Sequence[int] | None) -> Proc | None:
    return None if pair is None else Proc(*pair)


def _work(values: Sequence[Any]) -> Work:
    return Work(*values)


_CONVERT: dict[type[Event], dict[str, Callable[[Any], Any]]] = {
    kind: {
        **{name: tuple for name in ("cards", "indices", "used_mib", "jobs") if name in known},
        **{name: _proc for name in ("wrapper", "leader", "proc") if name in known},
        **{name: _work for name in ("work",) if name in known},
    }
    for kind, known in _DEFAULTS.items()
}
"""Fields that JSON has as lists, and their conversions."""

# No action follows from these, and they are found again after a crash, so they need no fsync of their own.
_NOT_URGENT = (
    ManagerStarted,
    AttemptStarted,
    AttemptIdle,
    HealthFlagged,
    HealthCleared,
    RecoveryRan,
    RecoverySustained,
    MetricsRead,
    JobHeld,
    ConditionBegan,
    ConditionEnded,
    CodeSeen,
)


class Record(NamedTuple):
    """A line of the journal: `at` is epoch seconds, whole to the millisecond."""

    seq: int
    at: float
    event: Event


def urgent(event: Event) -> bool:
    """Return whether the event must be on disk before anything is done because of it."""
    return not isinstance(event, _NOT_URGENT)


def name_of(event: Event) -> str:
    """Return an event's name in a journal."""
    return _NAME[type(event)]


def values(event: Event) -> dict[str, Any]:
    """Return an event's fields by name."""
    return {name: getattr(event, name) for name in _DEFAULTS[type(event)]}


def words(event: Event) -> Iterator[str]:
    """Describe an event for the log: its fields, without the content of added jobs."""
    for name, value in values(event).items():
        if name == "specs":
            yield f"{len(value)} jobs"
        elif value not in (None, (), {}):
            yield f"{name}={value}"


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Created once: json.dumps creates an encoder for each call."""


def encode(record: Record) -> str:
    """One line of JSON, newline included."""
    event = record.event
    data: dict[str, Any] = {"seq": record.seq, "at": iso(record.at), "event": name_of(event)}
    is_head, names = isinstance(event, RunStarted), _WIRE_FIELD.get(type(event), {})
    for key, default in _DEFAULTS[type(event)].items():
        value = getattr(event, key)
        if default is _REQUIRED or value != default or is_head:
            data[names.get(key, key)] = value
    if isinstance(event, JobsAdded):
        data["phases"] = [phase_to_json(phase) for phase in event.phases]
        data["specs"] = [job_to_json(spec) for spec in event.specs]
    return seal(_compact(data)) + "\n"


_TAIL = re.compile(r',"crc":"([0-9a-f]{8})"\}')
_TAIL_LENGTH = len(',"crc":"00000000"}')


def seal(line: str) -> str:
    """Append a checksum (CRC-32 of all before it) to a JSON object without one."""
    return f'{line[:-1]},"crc":"{_checksum(line[:-1])}"}}'


def unseal(line: str) -> tuple[str, bool | None]:
    """Return a line without its checksum, and whether that matches; None where it has none: earlier versions wrote such
    lines."""
    body, found = line[:-_TAIL_LENGTH], _TAIL.fullmatch(line[-_TAIL_LENGTH:])
    return (line, None) if found is None else (body + "}", found.group(1) == _checksum(body))


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='surrogateescape')):08x}"


def decode(line: str) -> Record:
    """Read one line, with or without its line end. Raises JournalError, also where its checksum does not match.

    Unknown fields are ignored where a checksum shows that a later version wrote them; in a line without one they may be
    a damaged name of a known field.
    """
    body, fits = unseal(line.rstrip("\n"))
    if fits is False:
        raise JournalError("its checksum does not match: the file is damaged")
    try:
        data = json.loads(body)
        seq, at, name = data.pop("seq"), epoch(data.pop("at")), data.pop("event")
        if type(seq) is not int:
            raise TypeError("seq is not a number")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise JournalError(f"not a line of a wavequeue journal ({error!r})") from None
    kind = _WIRE.get(name) if isinstance(name, str) else None
    if kind is None:
        raise JournalError(f"has the event {name!r}, which this version does not know; use the version that wrote it")
    for key, called in _WIRE_FIELD.get(kind, {}).items():
        if called in data:
            data[key] = data.pop(called)
    try:
        for key, convert in _CONVERT[kind].items():
            if key in data:
                data[key] = convert(data[key])
        if kind is JobsAdded:
            data["phases"] = tuple(phase_from_json(row) for row in data["phases"])
            data["groups"] = {group: tuple(ids) for group, ids in data["groups"].items()}
            data["specs"] = tuple(job_from_json(row) for row in data["specs"])
        return Record(seq, at, _made(kind, data, fits is True))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise JournalError(f"event {name} cannot be read ({error})") from None


def _made(kind: type[Event], data: dict[str, Any], may_be_newer: bool) -> Event:
    """Create an event from fields. Raises TypeError for a missing or unknown one."""
    known, required = _DEFAULTS[kind], _MUST[kind]
    if not required <= data.keys():
        raise TypeError(f"it lacks {', '.join(sorted(required - data.keys()))}")
    if not data.keys() <= known.keys():
        strange = sorted(data.keys() - known.keys())
        if not may_be_newer:
            raise TypeError(f"it has {', '.join(strange)}, which this version does not know")
        for key in strange:
            del data[key]
    # Bypasses the constructor of a frozen class, which takes as long as the rest of reading a line.
    made = object.__new__(kind)
    made.__dict__.update(known)
    made.__dict__.update(data)
    return made
