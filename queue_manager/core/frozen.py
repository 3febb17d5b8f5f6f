"""Classes of named values that never change: equal where their class and all values are, as frozen dataclasses are.

A dataclass compiles its methods, which for all events, actions and evidence took half of a manager's start. These share
theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from typing import dataclass_transform
else:

    def dataclass_transform(**_options: object) -> Callable[[T], T]:
        return lambda decorator: decorator


REQUIRED = object()
"""What stands for the default of a field that has none, see `fields`."""


@dataclass_transform(frozen_default=True)
def frozen(kind: type[T]) -> type[T]:
    """Make a class of its annotated names, in their order; what is assigned to one is its default."""
    known = {name: kind.__dict__.get(name, REQUIRED) for name in getattr(kind, "__annotations__", {})}
    names, defaults = tuple(known), {name: value for name, value in known.items() if value is not REQUIRED}

    def __init__(self: Any, *given: Any, **named: Any) -> None:  # noqa: N807
        values = self.__dict__
        values.update(defaults)
        values.update(zip(names, given))
        values.update(named)
        if len(given) > len(names) or values.keys() != known.keys() or not named.keys().isdisjoint(names[: len(given)]):
            raise TypeError(f"{kind.__name__} takes {', '.join(names) or 'nothing'}, not {given} and {named}")

    methods = {"__init__": __init__, "__eq__": _eq, "__hash__": _hash, "__repr__": _repr}
    for name, method in {**methods, "__setattr__": _refuse, "__delattr__": _refuse}.items():
        if name not in kind.__dict__:
            setattr(kind, name, method)
    kind.__fields__ = known  # type: ignore[attr-defined]
    return kind


def fields(kind: type) -> dict[str, Any]:
    """The names of a frozen class with their defaults."""
    found: dict[str, Any] = kind.__fields__  # type: ignore[attr-defined]
    return found


def replace(one: T, **changes: Any) -> T:
    """A value as `one` is, but for these changes."""
    return type(one)(**{**one.__dict__, **changes})


def _values(one: Any) -> tuple[Any, ...]:
    return tuple(map(one.__dict__.__getitem__, type(one).__fields__))


def _eq(self: Any, other: object) -> Any:
    return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={self.__dict__[name]!r}' for name in type(self).__fields__)})"


def _refuse(self: object, name: str, *_value: object) -> None:
    raise AttributeError(f"{type(self).__name__} never changes: {name} cannot be set")
