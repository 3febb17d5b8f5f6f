"""Ranges as values of a grid: `0..4`, `range(5)`, `{range: [0, 10, 2]}`, `{linspace: …}`, `{logspace: …}`. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

from build_manifest.nodes import ListNode, MapNode, Node, Scalar
from build_manifest.values import number

_MOST = 1_000_000
_DOTS = re.compile(r"(-?[0-9]{1,15})\.\.(-?[0-9]{1,15})(?:\.\.(-?[0-9]{1,15}))?")
_CALL = re.compile(r"range\(\s*(-?[0-9]{1,15}(?:\s*,\s*-?[0-9]{1,15}){0,2})\s*\)")
_LIKE_ONE = re.compile(
    r"-?[0-9][0-9.e+-]*\.\.+\S*|\.\.+-?[0-9]+"
    r"|(?:np\.|numpy\.|torch\.)?(?:range|arange|linspace|logspace|irange|seq)\s*\(.*"
)
_MAYBE = re.compile(r"[0-9]{1,4}-[0-9]{1,4}")
FORMS = "0..4, range(5), {range: [0, 10, 2]}, {linspace: [0, 1, 5]} or {logspace: [1e-4, 1e-1, 4]}"


class RangeError(ValueError):
    """What looks like a range is not one. The message says what to write instead."""


class TooMany(RangeError):
    """A range has too many values."""


def from_text(text: str) -> list[str] | None:
    """Return the values of `0..4` (with its end; `0..10..5` in steps) or `range(5)` (without); None for any other text.

    Raises RangeError for what looks like a range and is none.
    """
    dots = _DOTS.fullmatch(text)
    if dots:
        first, last = int(dots[1]), int(dots[2])
        step = abs(int(dots[3] or 1)) * (1 if last >= first else -1)  # as in bash, its sign does not matter
        if step == 0:
            raise RangeError("write a step that is not 0")
        return _whole(range(first, last + (1 if step > 0 else -1), step))
    call = _CALL.fullmatch(text)
    if call:
        return _range([int(one) for one in call[1].split(",")])
    if _LIKE_ONE.fullmatch(text):
        raise RangeError(f"write one of {FORMS}, or put quotes around a text")
    return None


def may_be_meant(text: str) -> bool:
    """Tell whether a text could be meant as a range, as in other tools: `0-4`."""
    return _MAYBE.fullmatch(text) is not None


def from_mapping(node: MapNode) -> list[str] | None:
    """The values of `{range: […]}`, `{linspace: […]}` or `{logspace: […]}`; None for any other mapping.

    Raises RangeError where its numbers are none.
    """
    if len(node.entries) != 1 or node.entries[0][0].text not in _KINDS:
        return None
    key, value = node.entries[0]
    most, example, make = _KINDS[key.text]
    items: tuple[Node, ...] = value.items if isinstance(value, ListNode) else (value,)
    numbers = [number(one.text) if isinstance(one, Scalar) and one.plain else None for one in items]
    known = [one for one in numbers if one is not None]
    if len(known) != len(items) or not (1 if key.text == "range" else most) <= len(known) <= most:
        raise RangeError(f"write {{{key.text}: {example}}}")
    return make(known)


def _range(numbers: Sequence[float]) -> list[str]:
    if len(numbers) == 3 and numbers[2] == 0:
        raise RangeError("write a step that is not 0")
    if all(one == int(one) for one in numbers):
        return _whole(range(*[int(one) for one in numbers]))
    first, end, step = (0.0, *numbers, 1.0) if len(numbers) == 1 else (*numbers, 1.0)[:3]
    # As numpy's arange: so many steps as lie before the end, each counted from the beginning.
    return _floats([first + n * step for n in _whole_count(math.ceil(round((end - first) / step, 9)))])


def _linspace(numbers: Sequence[float]) -> list[str]:
    first, last, count = numbers
    steps = _count(count)
    if steps == 1:
        return _floats([first])
    return _floats([first + (last - first) * n / (steps - 1) for n in range(steps)])


def _logspace(numbers: Sequence[float]) -> list[str]:
    first, last, count = numbers
    steps = _count(count)
    if first <= 0 or last <= 0:
        raise RangeError("write the first and the last value themselves, both above 0: {logspace: [1e-4, 1e-1, 4]}")
    if steps == 1:
        return _floats([first])
    low, high = math.log10(first), math.log10(last)
    inner = [10 ** (low + (high - low) * n / (steps - 1)) for n in range(1, steps - 1)]
    return _floats([first, *inner, last])


def _count(value: float) -> int:
    if value != int(value) or value < 1:
        raise RangeError("write how many values there are as a whole number of 1 or more, as the third")
    return len(_whole_count(int(value)))


def _whole_count(count: int) -> range:
    if count > _MOST:
        raise TooMany(f"write at most {_MOST:,} values")
    return range(count)


def _whole(values: range) -> list[str]:
    if not values:
        raise RangeError("write a range that has at least one value")
    if abs(values[-1] - values[0]) // abs(values.step) >= _MOST:
        raise TooMany(f"write at most {_MOST:,} values")
    return [str(one) for one in values]


def _floats(values: Sequence[float]) -> list[str]:
    """Return numbers as a person writes them: without rounding errors in the last digits."""
    if not values:
        raise RangeError("write a range that has at least one value")
    return [str(int(one)) if one == int(one) and abs(one) < 1e15 else f"{one:.12g}" for one in values]


_KINDS: dict[str, tuple[int, str, Callable[[Sequence[float]], list[str]]]] = {
    "range": (3, "[0, 10, 2]", _range),
    "linspace": (3, "[0, 1, 5]", _linspace),
    "logspace": (3, "[1e-4, 1e-1, 4]", _logspace),
}
