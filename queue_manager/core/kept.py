"""What an object has to remember over a restart, as JSON has it: the values of some of its attributes. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any


def kept(one: object, names: Iterable[str]) -> dict[str, Any]:
    """The values of these attributes."""
    return {name: _plain(getattr(one, name)) for name in names}


def recall(one: object, names: Iterable[str], found: Mapping[str, Any]) -> None:
    """The inverse, for an object as it is when it is made. Raises ValueError, and has changed nothing then, where what
    was found does not fit: another version may have written it."""
    try:
        values = {name: _like(found[name], getattr(one, name)) for name in names}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"does not fit: {error}") from None
    for name, value in values.items():
        setattr(one, name, value)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return [_plain(one) for one in value] if isinstance(value, (tuple, list, deque)) else value


def _like(value: Any, now: Any) -> Any:
    """A value in the type that an attribute has; one that is None so far may have a number, a text or numbers."""
    if isinstance(now, bytes):
        return value.encode("latin-1")
    if isinstance(now, dict):
        return {key: _tuple(one) for key, one in value.items()}
    if isinstance(now, deque):
        return deque(map(_tuple, _list(value)), now.maxlen)
    if isinstance(now, set):
        return set(_list(value))
    if isinstance(now, tuple):
        fields = getattr(now, "_fields", None)
        if fields is None:
            return _tuple(_list(value))
        if len(_list(value)) != len(fields):
            raise TypeError(f"{value} has not the fields {fields}")
        return type(now)(*map(_tuple, value))
    if now is not None and type(value) is not type(now) and not (isinstance(now, float) and type(value) is int):
        raise TypeError(f"{value!r} is not such as {now!r}")
    if not isinstance(value, (str, int, float, list, type(None))):
        raise TypeError(f"{value!r} is no value")
    return _tuple(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
