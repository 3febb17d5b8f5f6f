"""Frozen dataclasses that take no time to define. `dataclasses` writes and compiles six methods for each class, which
took a quarter of the start of a manager; here all classes share them. A type checker sees those of `dataclasses`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["dataclass", "field", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass, field, replace
else:

    def dataclass(*, frozen):
        """Make a class one of values that never change and equal only those of their class. Its fields are what it
        annotates itself, and not its bases; methods that it defines are kept."""
        assert frozen

        def make(kind):
            own = vars(kind)
            names = tuple(getattr(kind, "__annotations__", ()))
            defaults = {name: own[name] for name in names if name in own}
            factories = {name: defaults.pop(name).make for name in names if isinstance(own.get(name), _Factory)}
            kind._frozen = _Fields(names, frozenset(names), defaults, factories)
            for method in _METHODS:
                if method.__name__ not in own:
                    setattr(kind, method.__name__, method)
            return kind

        return make

    def field(*, default_factory):
        """The default of a field, made anew for each value."""
        return _Factory(default_factory)

    def replace(value, **changes):
        """Copy a value, with other values of these fields. Raises TypeError if it has no such field."""
        return type(value)(**{**vars(value), **changes})


class _Factory(NamedTuple):
    make: Callable[[], Any]


class _Fields(NamedTuple):
    """The fields of a class: their names, the same as a set, and what they are where nothing is given."""

    names: tuple[str, ...]
    known: frozenset[str]
    defaults: dict[str, Any]
    factories: dict[str, Callable[[], Any]]


class _Shared:
    """The methods of all."""

    _frozen: _Fields

    def __init__(self, *values: Any, **named: Any) -> None:
        names, known, defaults, factories = self._frozen
        given = dict(zip(names, values))
        given.update(named)
        fields = self.__dict__
        fields.update(defaults)
        for name, make in factories.items():
            fields[name] = make()
        fields.update(given)
        if fields.keys() != known or len(given) != len(values) + len(named):
            raise TypeError(f"{type(self).__name__} takes {', '.join(names)}, each once; got {values} and {named}")

    def __repr__(self) -> str:
        fields = self.__dict__
        return f"{type(self).__qualname__}({', '.join(f'{name}={fields[name]!r}' for name in self._frozen.names)})"

    def __eq__(self, other: object) -> bool:
        return self.__dict__ == other.__dict__ if type(self) is type(other) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple([self.__dict__[name] for name in self._frozen.names]))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be changed")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name} of {type(self).__name__} cannot be deleted")


_METHODS = (
    _Shared.__init__, _Shared.__repr__, _Shared.__eq__, _Shared.__hash__, _Shared.__setattr__, _Shared.__delattr__,
)  # fmt: skip
