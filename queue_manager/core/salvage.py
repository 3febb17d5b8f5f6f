"""What is left of a run whose journal is damaged or lost: whole lines, and what the snapshot adds to them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from queue_manager.core import events as ev
from queue_manager.core.events import JournalError, Record
from queue_manager.core.journal_lines import is_torn, place, read_line
from queue_manager.core.manifest import Manifest
from queue_manager.core.model import InvalidTransition, Job, QueueState
from queue_manager.core.status import Status
from queue_manager.core.times import epoch

_MOST_RETRIES = 200
"""Lines that do not follow on those before them, after which no later ones are tried."""
_UNUSABLE = (InvalidTransition, ValueError, KeyError, TypeError, AttributeError, IndexError)


class Lines(NamedTuple):
    """What is left of a journal. `records`: what can be applied, numbered anew; `damaged`: each line that is not among
    them, in words; `is_torn`: the last line was cut off by a crash, which is no damage."""

    records: list[Record]
    damaged: list[str]
    is_torn: bool


def whole_lines(data: bytes, manifest: Manifest) -> Lines:
    """Take every line of a journal that can be read and follows on those before it."""
    found, damaged, torn = _read(data)
    records, dropped = _applicable(found, manifest)
    if not records or not isinstance(records[0].event, ev.RunStarted):
        return Lines([], [*damaged, *dropped], torn)
    return Lines(records, [*damaged, *dropped], torn)


def _read(data: bytes) -> tuple[list[Record], list[str], bool]:
    lines = data.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    found: list[Record] = []
    damaged: list[str] = []
    sealed, seq = False, 0
    for number, line in enumerate(lines, 1):
        if number == len(lines) and is_torn(line):
            return found, damaged, True
        try:
            record, sealed = read_line(line, number, sealed)
        except JournalError as error:
            damaged.append(str(error))
            continue
        if record.seq <= seq:
            damaged.append(f"{place(line, number)}: seq is {record.seq}, after {seq}")
            continue
        if record.seq > seq + 1 and record.seq > number:
            damaged.append(f"line {number}: {record.seq - max(seq + 1, number)} lines before it are missing")
        seq = record.seq
        found.append(record)
    return found, damaged, False


def _applicable(found: list[Record], manifest: Manifest) -> tuple[list[Record], list[str]]:
    """The records that can follow one on the other, numbered anew."""
    state = QueueState(manifest)
    kept: list[Record] = []
    dropped: list[str] = []
    for record in found:
        if isinstance(record.event, ev.ResultsPushed):  # it counts lines, which have other numbers now
            continue
        fits = len(dropped) < _MOST_RETRIES
        if fits:
            again = Record(state.seq + 1, record.at, record.event)
            try:
                state.apply(again)
                kept.append(again)
                continue
            except _UNUSABLE as error:
                reason = str(error)
            state = QueueState(manifest)  # it may have been changed by half
            for one in kept:
                state.apply(one)
        else:
            reason = "too many before it are missing"
        job = getattr(record.event, "job", None)
        about = f" (job {job})" if isinstance(job, str) else ""
        dropped.append(f"line {record.seq}{about}: does not follow from the lines that are left: {reason}")
    return kept, dropped


class Row(NamedTuple):
    """What a snapshot says of one job, checked. Times in epoch seconds. `steps`: those of its ladder, each with the
    attempt that it answers, its class, rung, action and cause."""

    status: Status
    n: int
    attempts: int
    oom_attempts: int
    wave: int
    session: str | None
    indices: tuple[int, ...]
    exit_code: int | None
    failure: str | None
    error: str | None
    warning: str | None
    due: float | None
    steps: tuple[tuple[int, str, int, str, str], ...] = ()
    memory: str | None = None
    host_ooms: int = 0
    gpu_ooms: int = 0
    time_limits: int = 0


def read_rows(document: Any) -> dict[str, Row]:
    """The rows of a snapshot by the job's id; those that cannot be read are left out."""
    rows = document.get("jobs") if isinstance(document, dict) else None
    found: dict[str, Row] = {}
    for row in rows if isinstance(rows, list) else ():
        try:
            found[str(row["id"])] = _row(row)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return found


def _row(row: Mapping[str, Any]) -> Row:
    def number(name: str) -> int:
        value = row.get(name) or 0
        if type(value) is not int or not 0 <= value < 1 << 31:
            raise ValueError(name)
        return value

    def words(name: str) -> str | None:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(name)
        return value

    status, code = Status(row["status"]), row.get("exit_code")
    due, queued = words("retry_at"), words("queued")
    if code is not None and type(code) is not int:
        raise ValueError("exit_code")
    indices = tuple(row.get("gpus") or ())
    if any(type(index) is not int for index in indices) or number("attempt") > _MOST_ATTEMPTS:
        raise ValueError("gpus")
    return Row(
        status if queued is None else Status.RUNNING, number("attempt"), number("attempts"), number("oom_attempts"),
        number("wave"), words("screen_name"), indices, code, words("failure"), words("error"), words("warning"),
        None if due is None else epoch(due), _steps(row), words("memory"), number("host_ooms"), number("gpu_ooms"),
        number("time_limits"),
    )  # fmt: skip


def _steps(row: Mapping[str, Any]) -> tuple[tuple[int, str, int, str, str], ...]:
    found = []
    for one in (row.get("recovery") or {}).get("steps", ()):
        step = one["attempt"], one["failure"], one["rung"], one["action"], one["cause"]
        if [type(value) for value in step] != [int, str, int, str, str]:
            raise ValueError("recovery")
        found.append(step)
    return tuple(found)


_MOST_ATTEMPTS = 10_000


def _has_completed(one: Row | Job) -> bool:
    return one.status is Status.COMPLETED


def ahead(state: QueueState, rows: Mapping[str, Row]) -> list[str]:
    """The jobs that had come further by the snapshot's rows than by the state: completed, or at a later attempt."""
    found = []
    for name, row in rows.items():
        order = state.order_of.get(name)
        job = None if order is None else state.jobs[order]
        if job is None or row.n > job.n or (row.n == job.n and _has_completed(row) and not _has_completed(job)):
            found.append(name)
    return found
