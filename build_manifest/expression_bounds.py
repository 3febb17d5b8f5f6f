"""Limit what one expression of a spec may cost. Each operation is checked before it is done, and its result after it.

Pure counting, without a clock: the same spec is refused on every machine at the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

MAX_TEXT = 65_536
"""Characters of a text, and values in a list with all that is in it."""
MAX_BITS = 4_096
"""Of a whole number: about 1,200 digits."""
MAX_WIDTH = 1_000
"""Of what is padded, indented or rounded."""
MAX_SOURCE = 4_000
"""Characters of an expression."""
_ONE_OPERATION = 20
_ONE_EVALUATION = 1_000_000
_PER_EVALUATION = 500
_WHOLE_BUILD = 20_000_000

_LONG_NUMBER = re.compile(r"[0-9]{4}|\*")
_NESTED_FIELD = re.compile(r"\{[^{}]*\{")


class TooMuch(ValueError):
    """An expression would take too long, or make something too large. The message says which."""


class Meter:
    """The work of all expressions of one build."""

    def __init__(self) -> None:
        self._build = _WHOLE_BUILD
        self._one = 0

    def begin(self) -> None:
        """Begin another expression; every one adds a little to the total cost."""
        self._build += _PER_EVALUATION
        self._one = _ONE_EVALUATION

    def take(self, value: Any) -> Any:
        """Charge for a result, and return it. Raises TooMuch if it is too large, or the total is used up."""
        cost = size(value)
        if cost > MAX_TEXT:
            raise TooMuch(f"makes a text or a list of more than {MAX_TEXT:,}")
        self._one -= cost + _ONE_OPERATION
        self._build -= cost + _ONE_OPERATION
        if self._one < 0 or self._build < 0:
            raise TooMuch(
                "takes too long to evaluate" if self._one < 0 else "is one of too many that take long to evaluate"
            )
        return value


def size(value: Any) -> int:
    """Return how large a value is, with everything in it; counted no further than just above MAX_TEXT."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, int):
        bits = value.bit_length()
        if bits > MAX_BITS:
            raise TooMuch(f"makes a number of more than {MAX_BITS * 3 // 10:,} digits")
        return 1 + bits // 4
    if isinstance(value, range):
        return len(value)
    found, todo = 0, [value]
    while todo and found <= MAX_TEXT:
        one = todo.pop()
        found += 1
        if isinstance(one, (str, int, range)):
            found += size(one)
        elif isinstance(one, Mapping):
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            todo += one
    return found


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Raise TooMuch where `left operator right` would be too large, before it is computed."""
    if operator == "*":
        for one, times in ((left, right), (right, left)):
            if isinstance(times, int) and not isinstance(one, (int, float)):
                _small(size(one) * max(times, 0))
    elif operator == "**":
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 0) > MAX_BITS * 2:
            raise TooMuch(f"makes a number of more than {MAX_BITS * 3 // 10:,} digits")
    elif operator == "%" and isinstance(left, str):
        _check_format(left, left.count("%"), right)
    elif operator == "+" and isinstance(left, (str, list, tuple)):
        _small(size(left) + size(right))


def check_call(name: str, on: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Raise TooMuch where a filter or method `name`, applied to `on`, would make too much."""
    values = [*args, *kwargs.values()]
    if name in _WIDTHS:
        for one in values:
            if isinstance(one, (int, float)) and abs(one) > (8 if name in ("tojson", "expandtabs") else MAX_WIDTH):
                raise TooMuch(f"has the width {one:g} in {name}" if size(one) < MAX_WIDTH else f"has a huge {name}")
        if name == "indent":
            by = sum(len(one) if isinstance(one, str) else max(_width([one]), 0) for one in values) + 4
            _small(size(on) + by * (str(on).count("\n") + 1))
        if name in ("batch", "slice") and _width(values) < 1:
            raise TooMuch(f"has no width above 0 in {name}")
    elif name == "replace":
        # With a shorter text in between, what is replaced can be no more than every place of it.
        old, new = [str(one) for one in (*values, "", "")[:2]]
        text = str(on)
        _small(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
    elif name == "join":
        _check_join(on, values)
    elif name == "format":
        text = str(on)
        if _NESTED_FIELD.search(text.replace("{{", "")):
            raise TooMuch("takes the width of a format from a value")
        _check_format(text, text.count("{") + text.count("%"), values)


_WIDTHS = frozenset({
    "batch", "center", "expandtabs", "indent", "ljust", "rjust", "round", "slice", "tojson", "truncate", "wordwrap",
    "zfill",
})  # fmt: skip


def _check_join(on: Any, values: list[Any]) -> None:
    # A filter: the list is `on`. A method: the separator is.
    items, between = (values[0] if values else (), on) if isinstance(on, str) and values else (on, "")
    if not isinstance(on, str):
        between = values[0] if values else ""
    count = len(items) if hasattr(items, "__len__") else MAX_TEXT
    _small(size(items) + count * size(between))


def _check_format(text: str, fields: int, values: Any) -> None:
    if _LONG_NUMBER.search(text):
        raise TooMuch("formats with a width of four digits or more, or one that a value gives")
    _small(len(text) + fields * (size(values) + MAX_WIDTH // 8))


def _width(values: Iterable[Any]) -> float:
    return max((one for one in values if isinstance(one, (int, float))), default=1)


def _small(length: float) -> None:
    if length > MAX_TEXT:
        raise TooMuch(f"makes a text or a list of more than {MAX_TEXT:,}")
