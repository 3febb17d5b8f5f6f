"""The journal of a campaign on disk: its lines, append and read. A line is sealed as those of a run's journal are."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from queue_manager.core.events import seal, unseal
from queue_manager.core.journal_lines import is_torn
from queue_manager.core.times import epoch, iso
from skill.auto.campaign import Record
from skill.auto.events import NAME, VERSION, WIRE, CampaignStarted, Event
from skill.common import files, typed_json
from skill.common.errors import FailedError

_MOST = 16 << 20
"""Bytes of a line, at most."""


@dataclass(frozen=True)
class _Head:
    seq: int
    at: str
    event: str


def encode(record: Record) -> str:
    """One line of JSON, newline included."""
    fields = typed_json.plain(record.event)
    data = {"seq": record.seq, "at": iso(record.at), "event": NAME[type(record.event)], **fields}
    return seal(json.dumps(data, ensure_ascii=False, separators=(",", ":"))) + "\n"


def decode(line: str) -> Record:
    """Read one line. Raises ValueError, which says what is wrong with it."""
    body, fits = unseal(line.rstrip("\n"))
    if not fits:
        raise ValueError("its checksum does not match: the file is damaged")
    data = typed_json.decode(body, _MOST)
    head = typed_json.into(data, _Head)
    kind = WIRE.get(head.event)
    if kind is None:
        raise ValueError(f"it has the event {head.event}, which this version does not know")
    event: Event = typed_json.into(data, kind)
    if isinstance(event, CampaignStarted) and event.version > VERSION:
        raise ValueError("a newer version of wavequeue wrote it; use that one")
    return Record(head.seq, epoch(head.at), event)


def read(path: Path) -> tuple[list[Record], int]:
    """Read all records, and the length in bytes up to the last whole line. A last line that a crash cut off is left
    out: nothing was done because of it. Raises FailedError."""
    records: list[Record] = []
    good = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n") and is_torn(line):
                    break
                try:
                    record = decode(line.decode())
                    if record.seq != len(records) + 1:
                        raise ValueError(f"seq is {record.seq}, not {len(records) + 1}")
                except ValueError as error:
                    raise FailedError(f"{path}, line {number}: {error}") from None
                records.append(record)
                good += len(line)
    except FileNotFoundError:
        return [], 0
    return records, good


class Journal:
    """Append-only: what `append` was given is on disk when it returns. After an OSError none of it counts."""

    def __init__(self, path: Path, length: int) -> None:
        self._file = files.append_to(path)
        self._length = length
        os.ftruncate(self._file.fileno(), length)

    def append(self, records: Sequence[Record]) -> None:
        """Write records, with one fsync. Raises OSError."""
        data = "".join(map(encode, records)).encode()
        fd = self._file.fileno()
        try:
            written = 0
            while written < len(data):
                written += os.write(fd, data[written:])
            os.fdatasync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, self._length)
            raise
        self._length += len(data)

    def close(self) -> None:
        self._file.close()
