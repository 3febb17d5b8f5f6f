"""queue_manager.core.frozen does what dataclasses does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from queue_manager.core import frozen


def _made(by: Any) -> Any:
    """Classes that `by` makes."""

    @by.dataclass(frozen=True)
    class Point:
        x: int
        y: int = 2

    @by.dataclass(frozen=True)
    class Place:
        x: int
        y: int = 2
        names: list[str] = by.field(default_factory=list)

        def __hash__(self) -> int:
            return 7

    @by.dataclass(frozen=True)
    class Nothing:
        pass

    return Point, Place, Nothing


def _done(by: Any) -> list[object]:
    """What such classes do: values, or the kinds of errors."""
    Point, Place, Nothing = _made(by)  # noqa: N806

    def change(value: Any) -> None:
        value.y = 3

    def delete(value: Any) -> None:
        del value.y

    one = Point(1)
    wrong: list[Callable[[], object]] = [
        Point,
        lambda: Point(1, 2, 3),
        lambda: Point(1, x=1),
        lambda: Point(1, z=1),
        lambda: Point(y=1, z=1),
        lambda: by.replace(one, z=1),
        lambda: change(one),
        lambda: delete(one),
    ]
    return [
        *(vars(value) for value in (one, Point(3, 4), Point(y=5, x=6), by.replace(one, x=5), Nothing())),
        *(vars(value) for value in (Place(1), Place(1, names=["a"], y=4))),
        repr(one).rpartition(".")[2],
        [
            one == Point(1),
            one != Point(1),
            one == Point(2),
            one == 1,
            Point(1, 2) == Place(1, 2),
            Nothing() == Nothing(),
        ],
        [hash(one) == hash(Point(1)), hash(one) == hash(Point(2)), hash(Place(1))],
        Place(1).names is Place(1).names,
        [Point.y, bool(Nothing())],
        [_error(act) for act in wrong],
        vars(one),
    ]


def _error(act: Callable[[], object]) -> type[Exception] | None:
    try:
        act()
    except AttributeError:
        return AttributeError
    except TypeError:
        return TypeError
    return None


def test_it_does_what_dataclasses_does() -> None:
    assert _done(frozen) == _done(dataclasses)
