"""What is wrong with a record, by the columns of its kind: where in it, what it is, what to write instead. Pure."""

from __future__ import annotations

import functools
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from build_manifest.faults import listed, nearest
from queue_manager.core.terminal_text import one_line
from skill.common.typed_json import fits

Path = tuple[str | int, ...]
"""Where a value is in a document: indices and keys from the top."""


class RecordFault(NamedTuple):
    """One thing that is wrong. `at`: the path to the key or value that is meant."""

    at: Path
    what: str
    instead: str = ""


class _Column(NamedTuple):
    """`kind`: the type; `choices`: the words that it may be, if those are all; `says`: what it is, for people."""

    kind: Any
    choices: tuple[str, ...]
    says: str


@functools.cache
def columns(kind: Any) -> Mapping[str, _Column]:
    """The columns of a kind of record, by name."""
    found = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        inner = hint.__origin__ if typing.get_origin(hint) is typing.Annotated else hint
        is_choice = typing.get_origin(inner) is typing.Literal
        says = next((one.description for one in getattr(hint, "__metadata__", ())[::-1] if one.description), "")
        found[name] = _Column(hint, typing.get_args(inner) if is_choice else (), says)
    return found


def record_faults(record: Any, kind: Any, at: Path = ()) -> Iterator[RecordFault]:
    """All that is wrong with one record."""
    known = columns(kind)
    if not isinstance(record, dict):
        yield RecordFault(at, f"a record has to be an object and not {_shown(record)}", "write {…}")
        return
    for key, value in record.items():
        column = known.get(key)
        if column is None:
            close = nearest(str(key), known)
            hint = f"did you mean {close}?" if close else f"there are: {listed(known, 40)}"
            yield RecordFault((*at, key), f"unknown key {one_line(str(key), 60)}", hint)
        elif (words := fits(value, column.kind)) is not None:
            yield RecordFault((*at, key), *_wrong(key, value, column, words))
    name = record.get("id")
    of = f"record {name}" if isinstance(name, str) and at else "this"
    for key in sorted(kind.__required_keys__ - record.keys()):
        yield RecordFault(at, f"{one_line(of, 120)} has no {key}", f"add {key}: {known[key].says}")


def _wrong(key: str, value: Any, column: _Column, words: str) -> tuple[str, str]:
    if column.choices:
        close = nearest(value, column.choices) if isinstance(value, str) else None
        hint = f"did you mean {close}?" if close else f"there are: {listed(column.choices)}"
        return f"{key} cannot be {_shown(value)}", hint
    return f"{key} cannot be {_shown(value)} ({words.split(' matching regex', maxsplit=1)[0]})", f"write {column.says}"


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)


def queue_faults(records: Any, kind: Any) -> Iterator[RecordFault]:
    """All that is wrong with the document of a queue, but for what it says of others."""
    if not isinstance(records, list):
        yield RecordFault((), "a queue has to be an array of records", "write [ ] around them")
        return
    # One question for all of them first: a queue of 10,000 records is hardly ever wrong.
    known = columns(kind).keys()
    if fits(records, list[kind]) is not None or any(record.keys() - known for record in records):
        for number, record in enumerate(records):
            yield from record_faults(record, kind, (number,))
    seen: dict[str, int] = {}
    for number, record in enumerate(records):
        name = record.get("id") if isinstance(record, dict) else None
        if isinstance(name, str) and seen.setdefault(name, number) != number:
            yield RecordFault((number, "id"), f"two records have the id {name}", "give one another id")


def unknown(what: str, name: str, known: Collection[str], none: str) -> tuple[str, str]:
    """Say that there is no such thing, and the nearest that there is. `none`: what to do where there is nothing."""
    close = nearest(name, known)
    hint = f"did you mean {close}?" if close else f"there are: {listed(sorted(known))}" if known else none
    return f"there is no {what} {one_line(name, 100)}", hint
