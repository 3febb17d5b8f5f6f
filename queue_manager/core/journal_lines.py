"""Read the lines of a journal: intact, cut off at the end, or damaged, and which job a damaged one is about. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from queue_manager.core import events
from queue_manager.core.events import JournalError, Proc, Record, RunStarted
from queue_manager.core.model import InvalidTransition, QueueState

_JOB = re.compile(rb'"job":"([A-Za-z0-9._=+,@-]{1,120})"')
_SEALED_END = re.compile(rb'"crc":"[0-9a-f]{8}"\}.', re.DOTALL)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 1e12
"""Upper limit of all numbers in a journal: MiB, pids, clock ticks, epoch seconds."""
_SCALARS: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def read_line(line: bytes, number: int, sealed: bool) -> tuple[Record, bool]:
    """Read line `number` of a journal; `sealed`: an earlier line had a checksum. Returns whether this one has.

    Raises JournalError, which names the line, and the job where it can be recognised.
    """
    try:
        text = line.decode()
        fits = events.unseal(text.rstrip("\n"))[1]
        record = events.decode(text)
        if fits is None:
            if sealed:
                raise JournalError("it has no checksum, though an earlier line has one: the file is damaged")
            _check_types(record)
            if isinstance(record.event, RunStarted) and not _is_whole(record.event, text):
                raise JournalError("the first line of the journal is incomplete: the file is damaged")
    except (JournalError, UnicodeDecodeError) as error:
        raise JournalError(f"{place(line, number)}: {error}") from None
    return record, sealed or fits is not None


def _is_whole(head: RunStarted, text: str) -> bool:
    """Return whether the first line of a journal has all fields that every version wrote: after a cut it may be joined
    to another's end."""
    return _SHA256.fullmatch(head.manifest_sha256) is not None and '"format":' in text and '"version":' in text


def place(line: bytes, number: int) -> str:
    """Name a line for a person: its number, and its job."""
    found = _JOB.search(line)
    return f"line {number}" + (f" (job {found.group(1).decode()})" if found else "")


def is_torn(line: bytes) -> bool:
    """Return whether the last line of a journal was cut off during the write, so that nothing was done because of
    it."""
    if not line.endswith(b"\n"):
        return _SEALED_END.search(line) is None  # its end was damaged, and not cut off
    return b"\0" in line and not _is_json(line)  # blocks that had not reached the disk when the power went


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def replay(state: QueueState, records: Iterable[Record]) -> None:
    """Apply all records to a new state. Raises JournalError, with its line, for one that is impossible after those
    before it."""
    for record in records:
        try:
            state.apply(record)
        except (InvalidTransition, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            job = getattr(record.event, "job", None)
            about = f" (job {job})" if isinstance(job, str) else ""
            why = str(error) if isinstance(error, (InvalidTransition, ValueError)) else repr(error)
            raise JournalError(f"line {record.seq}{about}: {events.name_of(record.event)}: {why}") from None


def _check_types(record: Record) -> None:
    """Refuse values of wrong types in a line without a checksum. Raises JournalError."""
    hints = type(record.event).__annotations__
    for name, value in events.values(record.event).items():
        if not _fits(value, str(getattr(hints[name], "__forward_arg__", hints[name]))):
            raise JournalError(f"event {events.name_of(record.event)} has a {name} that is invalid: {value!r:.80}")


def _fits(value: Any, hint: str) -> bool:
    if hint.endswith(" | None"):
        return value is None or _fits(value, hint[: -len(" | None")])
    if hint == "Proc":
        return isinstance(value, Proc) and all(type(one) is int for one in value)
    if hint.startswith("tuple["):
        kind = hint[len("tuple[") :].split(",", maxsplit=1)[0]
        return isinstance(value, tuple) and (kind not in _SCALARS or all(_fits(one, kind) for one in value))
    kinds = _SCALARS.get(hint)
    if kinds is None:
        return True
    return type(value) in kinds and (isinstance(value, (str, bool)) or abs(value) < _MOST)
