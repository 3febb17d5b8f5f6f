"""Three-way merge of a queue: what was read, what came of it here, and what the file has now. Pure.

Two that changed different keys of a record both have their way; two that changed one key to different values do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from queue_manager.core.terminal_text import one_line
from skill.research.records import Record

_ABSENT = object()


class Conflict(NamedTuple):
    """A record, and a key of it (None: the record as a whole), that both changed. `says`: what each wants."""

    record: str
    key: str | None
    says: str


class ConflictsError(Exception):
    """What both changed cannot be merged; nothing was."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        super().__init__(conflicts)
        self.conflicts = tuple(conflicts)


def merge(base: Sequence[Record], mine: Sequence[Record], theirs: Sequence[Record]) -> list[Record]:
    """The records of both: in the order of the file, what is new here at the end. Raises ConflictsError."""
    before, here, there = ({record["id"]: record for record in records} for records in (base, mine, theirs))
    conflicts: list[Conflict] = []
    merged = [_record(name, before.get(name), here.get(name), there.get(name), conflicts) for name in there]
    merged += [
        _record(name, before.get(name), here[name], None, conflicts) for name in here if name not in there
    ]  # fmt: skip
    if conflicts:
        raise ConflictsError(conflicts)
    return [record for record in merged if record is not None]


def _record(
    name: str, base: Record | None, mine: Record | None, theirs: Record | None, conflicts: list[Conflict]
) -> Record | None:
    if mine in (base, theirs):
        return theirs
    if theirs == base:
        return mine
    if mine is None or theirs is None:
        gone, changed = ("here", "in the file") if mine is None else ("in the file", "here")
        conflicts.append(Conflict(name, None, f"it was removed {gone} and changed {changed}"))
        return None
    return _keys(name, base or {}, mine, theirs, conflicts)


def _keys(name: str, base: Record, mine: Record, theirs: Record, conflicts: list[Conflict]) -> Record:
    found: Record = {}
    for key in dict.fromkeys((*theirs, *mine)):
        before, here, there = (one.get(key, _ABSENT) for one in (base, mine, theirs))
        value = there if here in (before, there) else here
        if here not in (before, there) and there != before:
            conflicts.append(Conflict(name, key, f"it became {_shown(here)} here and {_shown(there)} in the file"))
        if value is not _ABSENT:
            found[key] = value
    return found


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else one_line(repr(value), 60)
