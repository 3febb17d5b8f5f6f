"""A queue as text: read with the line of everything that is wrong, and written so that git diff reads well. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from json.decoder import JSONDecoder
from typing import Any

from build_manifest.faults import Fault, SpecErrors
from skill.common import typed_json
from skill.research.record_faults import Path, RecordFault, queue_faults
from skill.research.records import KINDS, Record

MOST = 256 << 20
"""Bytes of a queue that is read."""
_MOST_FAULTS = 1000
_SPACE = " \t\n\r"


class BrokenError(SpecErrors):
    """A file is not valid JSON, so nothing can be said of its records."""


class _TwiceError(ValueError):
    """An object has a key twice."""


def parse(text: str, queue: str, file: str) -> list[Record]:
    """The records of a queue. `file`: its name, for messages. Raises BrokenError, and SpecErrors with all faults."""
    records = document(text, file)
    found = list(queue_faults(records, KINDS[queue].columns))
    if found:
        raise SpecErrors(faults(found, text, file))
    kept: list[Record] = records
    return kept


def document(text: str, file: str) -> Any:
    """What a text of JSON says. Raises BrokenError with the place; a key that is there twice in an object is one."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        what, hint = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}", _hint(text, error)
        raise BrokenError([Fault(file, error.lineno, error.colno, what, hint)]) from None
    except RecursionError:
        raise BrokenError([Fault(file, 1, 1, "not JSON that can be read: nested too deeply")]) from None
    except _TwiceError:
        key, at = next(_twice(text, _skip(text, 0)))
        fault = Fault(file, *_mark(text, at), f"not JSON with one meaning: the key {key} is there twice", "keep one")
        raise BrokenError([fault]) from None
    except ValueError as error:
        raise BrokenError([Fault(file, 1, 1, f"not JSON: {error}", "write a number, or null")]) from None


def _hint(text: str, error: json.JSONDecodeError) -> str:
    if not text.strip():
        return "the file is empty; write [] for a queue without records"
    before = text[: error.pos].rstrip(_SPACE)
    if before.endswith(","):
        return "remove the comma before it, or add what should follow"
    if "delimiter" in error.msg:
        return "a comma or a bracket is missing before it"
    return "write text in double quotes, and end each with one"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


def faults(found: Sequence[RecordFault], text: str, file: str) -> list[Fault]:
    """Faults with the line and column of each."""
    starts = [at for _, _, at in _children(text, _skip(text, 0))] if len(found) > 1 else []
    return [Fault(file, *_place(text, one.at, starts), one.what, one.instead) for one in found[:_MOST_FAULTS]]


def _place(text: str, path: Path, starts: Sequence[int]) -> tuple[int, int]:
    """The place of a path; `starts`: where each record begins, so that a large queue is gone over once."""
    if path and isinstance(path[0], int) and path[0] < len(starts):
        return place(text, path[1:], starts[path[0]])
    return place(text, path)


def place(text: str, path: Path, start: int = 0) -> tuple[int, int]:
    """Line and column, from 1, of what a path leads to in a text of JSON, from the value at `start` on: of a key, or of
    a value in an array. Where it leads nowhere, of the last that is there."""
    at = shown = _skip(text, start)
    for step in path:
        found = next((child for child in _children(text, at) if child[0] == step), None)
        if found is None:
            break
        _, shown, at = found
    return _mark(text, shown)


def _children(text: str, at: int) -> Iterator[tuple[str | int, int, int]]:
    """Keys of the object at `at`, or indices of the array: with where each begins, and where its value does. The text
    is JSON."""
    opening = text[at]
    if opening not in "{[":
        return
    at, number = _skip(text, at + 1), 0
    while text[at] not in "}]":
        shown, step = at, number
        if opening == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _skip(text, _skip(text, at) + 1)
            yield key, shown, at
        else:
            yield step, shown, at
        at = _skip(text, _DECODER.raw_decode(text, at)[1])
        at, number = _skip(text, at + (text[at] == ",")), number + 1


def _twice(text: str, at: int) -> Iterator[tuple[str, int]]:
    """Keys that are in one object for the second time, with the place."""
    seen = set()
    for step, shown, value in _children(text, at):
        if isinstance(step, str) and step in seen:
            yield step, shown
        seen.add(step)
        yield from _twice(text, value)


_DECODER = JSONDecoder()


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _mark(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def encode(records: list[Record]) -> str:
    """Write the records of a queue: one block each, keys sorted. Raises ValueError for what JSON cannot hold."""
    return typed_json.pretty(records)
