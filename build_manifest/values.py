"""What a scalar means: as a number where one is wanted, as a value in an expression, as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from queue_manager.core.manifest import moment

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})
SPOKEN = {
    **dict.fromkeys(("yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("no", "No", "NO", "off", "Off", "OFF"), False),
}
"""Words that YAML 1.1 reads as booleans and YAML 1.2 as text."""

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[smhd])+")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DATE = re.compile(r"[0-9]{4}-")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKmMgGtT])(?:i?[bB])?")
_LARGEST = 10**12
_N = TypeVar("_N", int, float)
_MIB = {"k": 2**-10, "m": 1, "g": 2**10, "t": 2**20}


def number(text: str) -> int | float | None:
    """The number that a text plainly is, `1e-4` too; None if it is none, or may be read as octal."""
    if _LEADING_ZERO.match(text):
        return None
    return _number(text)


def _number(text: str) -> int | float | None:
    try:
        if _INTEGER.fullmatch(text):
            return int(text.replace("_", ""))
        if _FLOAT.fullmatch(text):
            value = float(text.replace("_", ""))
            return value if abs(value) != float("inf") else None
    except ValueError:  # more digits than int() takes
        pass
    return None


def integer(text: str, minimum: int | None = None) -> int:
    """A whole number. Raises ValueError with what to write instead."""
    value = number(text)
    if value is None or value != int(value):
        size = _SIZE.fullmatch(text)
        if size:
            raise ValueError(f"write it in MiB, as a number: {round(float(size[1]) * _MIB[size[2].lower()])}")
        raise ValueError("write a whole number" + _least(minimum) + _without_zeros(text))
    if minimum is not None and value < minimum:
        raise ValueError("write a whole number" + _least(minimum))
    return int(_possible(value))


def quantity(text: str) -> float:
    """A number above 0. Raises ValueError with what to write instead."""
    value = number(text)
    if value is None or value <= 0:
        raise ValueError("write a number above 0" + _without_zeros(text))
    return _possible(value)


def dollars(text: str) -> float:
    """An amount in USD above 0. Raises ValueError with what to write instead."""
    value = number(text)
    if value is None or value <= 0:
        raise ValueError("write USD as a number above 0, such as 12.50" + _without_zeros(text))
    return float(_possible(value))


def seconds(text: str) -> float:
    """A time above 0, in seconds. Raises ValueError with what to write instead."""
    value = delay(text)
    if value <= 0:
        raise ValueError(_HOW_LONG)
    return value


_HOW_LONG = "write seconds as a number, or such as 90s, 30m, 2h, 1d"


def delay(text: str) -> float:
    """A time of 0 or more, in seconds. Raises ValueError with what to write instead."""
    if _DURATION.fullmatch(text):
        return _possible(sum(float(n) * _SECONDS[unit] for n, unit in re.findall(r"([0-9.]+)([smhd])", text)))
    value = number(text)
    if value is None or value < 0:
        raise ValueError(_HOW_LONG)
    return _possible(value)


def deadline(text: str) -> float | str:
    """Seconds from the run's start, or a moment, as it was written. Raises ValueError with what to write instead."""
    if _DATE.match(text):
        if moment(text) is None:
            raise ValueError("write a time with its zone, such as 2026-12-24T18:00:00Z or 2026-12-24T18:00:00+01:00")
        return text
    try:
        return seconds(text)
    except ValueError as error:
        raise ValueError(f"{error} from the run's start, or a time such as 2026-12-24T18:00:00Z") from None


def _possible(value: _N) -> _N:
    """The number itself. Raises ValueError where no count, size or time is so large."""
    if abs(value) > _LARGEST:
        raise ValueError(f"write a smaller number, at most {_LARGEST:,}")
    return value


def _least(minimum: int | None) -> str:
    return "" if minimum is None else f" of {minimum} or more"


def _without_zeros(text: str) -> str:
    return ", without leading zeros" if _LEADING_ZERO.match(text) else ""


class Written(NamedTuple):
    """A value of a grid or an arg: the text that was written, and what it is in an expression."""

    text: str
    value: Any
    words: tuple[str, ...] | None = None
    """Of a value that is a list; `text` has them with spaces between."""

    @property
    def truth(self) -> bool | None:
        """What an unquoted true or false says; None of any other value."""
        return self.text in TRUE if isinstance(self.value, _Int) and self.text in TRUE | FALSE else None

    @property
    def nothing(self) -> bool:
        """Whether it is an unquoted null."""
        return isinstance(self.value, _Null)


class _Words:
    """A value that prints as it was written, and equals that text as well as its own value."""

    text: str

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __format__(self, how: str) -> str:
        return super().__format__(how) if how else self.text

    def __eq__(self, other: object) -> bool:
        return self.text == other if isinstance(other, str) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()


class _Int(_Words, int):
    pass


class _Float(_Words, float):
    pass


class _Null(str):
    """A null: prints as it was written, and is false."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


def written(text: str, plain: bool) -> Written:
    """What was written, ready for expressions: unquoted numbers and booleans count, and print as they were."""
    if not plain:
        return Written(text, text)
    if text in NULLS:
        return Written(text, _Null(text))
    truth = True if text in TRUE else False if text in FALSE else SPOKEN.get(text)
    found: int | float | None = _number(text) if truth is None else int(truth)
    if found is None:
        return Written(text, text)
    value: _Int | _Float = _Int(found) if isinstance(found, int) else _Float(found)
    value.text = text
    return Written(text, value)


def written_list(items: Sequence[Written]) -> Written:
    """A value of several words."""
    words = tuple([one.text for one in items])
    return Written(" ".join(words), tuple([one.value for one in items]), words)


def as_json(text: str, plain: bool, substitute: Callable[[str], str] = str) -> Any:
    """A scalar as JSON has it: unquoted null, true, false and numbers are those, all else is text."""
    if plain and text in NULLS:
        return None
    if plain and (text in TRUE or text in FALSE):
        return text in TRUE
    value = number(text) if plain else None
    return substitute(text) if value is None else value
