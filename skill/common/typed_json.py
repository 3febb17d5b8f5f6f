"""Read JSON from a host or a damaged disk into types, within limits. Owns msgspec.

Numbers, depth and size are bounded, so that nothing that was read takes all memory or breaks what walks over it.
"""

from __future__ import annotations

import json
import math
import re
import threading
from typing import Any, TypeVar

import msgspec

from queue_manager.core.terminal_text import one_line

MOST_DEPTH = 64
"""Levels of lists and objects. A state has six."""
_MOST_DIGITS = 19
Bounds = msgspec.Meta
"""Of a number or a text, within Annotated: ge, le, max_length, pattern, and a description for its schema."""
T = TypeVar("T")
_ESCAPED = re.compile(rb'\\[^"\\]')
"""In JSON, what is written for a character that cannot be printed."""
_ONE_AT_A_TIME = threading.Lock()
"""msgspec 0.22 keeps what it learns of a type before it has learned all of it. A second thread that comes by then ends
the process with a segmentation fault."""


class DocumentError(ValueError):
    """A document is invalid; the text says what is wrong, after its name."""


def decode(data: bytes | str, most: int) -> Any:
    """Read a document that may have `most` bytes. Raises DocumentError.

    Whole numbers have to fit into 64 bits. NaN, Infinity and what is larger than any float are read as null: a loss may
    well be so, and no other number is meant. All else in the document is kept.
    """
    if len(data) > most:
        raise DocumentError(f"is too large: {len(data) >> 20} MiB, and at most {most >> 20} are read")
    try:
        found = json.loads(data, parse_int=_whole, parse_float=_finite, parse_constant=lambda _: None)
    except RecursionError:
        raise DocumentError("is nested too deeply") from None
    except DocumentError:
        raise
    except ValueError as error:
        raise DocumentError(f"is not JSON ({str(error)[:100]})") from None
    if not _is_shallow(found):
        raise DocumentError("is nested too deeply")
    return found


def fits(value: Any, kind: Any) -> str | None:
    """What is wrong with a value that was decoded, where it has to be of a type; None if it fits. What the type does
    not name may be anything: a newer version may have written it."""
    try:
        with _ONE_AT_A_TIME:
            msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        words, _, place = str(error).partition(" - at `$")
        text = one_line(words[:1].lower() + words[1:].replace("`", ""), 200)
        return f"{one_line(place.strip('.`'), 100)}: {text}" if place else text
    except (RecursionError, OverflowError, UnicodeError) as error:
        return f"cannot be read ({type(error).__name__})"
    return None


def into(value: Any, kind: type[T]) -> T:
    """Make a value of a type (dataclasses and what they hold) of one that was decoded. Raises DocumentError. What the
    type does not name is ignored."""
    try:
        with _ONE_AT_A_TIME:
            return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, UnicodeError):
        raise DocumentError(fits(value, kind) or "cannot be read") from None


def plain(value: Any) -> Any:
    """What JSON can say of a value: dataclasses become objects, tuples become lists."""
    return msgspec.to_builtins(value)


def pretty(value: Any) -> str:
    """Write a value as JSON for people and for git diff: keys sorted, each on a line of its own. Raises ValueError
    where it holds what JSON cannot (half of a character, an endless number)."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2).decode() + "\n"


def is_printable(value: Any) -> bool:
    """Whether all texts of a value are surely ASCII that can be printed, told by its JSON, which takes a fiftieth of
    the time to walk over it. False where that is not known."""
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
    return text.isascii() and b"\x7f" not in text and (b"\\" not in text or _ESCAPED.search(text) is None)


def schema(kind: Any) -> dict[str, Any]:
    """The JSON Schema of a type, by which `fits` judges."""
    with _ONE_AT_A_TIME:
        return msgspec.json.schema(kind)


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS + 1 or not -(1 << 63) <= (number := int(text)) < 1 << 63:
        raise DocumentError(f"has a number of {len(text)} digits")
    return number


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [
            inner
            for one in level
            if type(one) in (dict, list)
            for inner in (one.values() if type(one) is dict else one)
            if type(inner) in (dict, list)
        ]
        if not level:
            return True
    return False
