"""Frozen classes: what dataclasses promise, without what they cost at start."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from queue_manager.core.frozen import REQUIRED, fields, frozen, replace


@frozen
class Point:
    """Two numbers, and what it is called."""

    x: int
    y: int = 0
    name: str | None = None


@frozen
class Other:
    x: int
    y: int = 0
    name: str | None = None


@frozen
class Nothing:
    pass


def test_values_come_by_place_by_name_and_by_default() -> None:
    point = Point(1, name="a")
    assert (point.x, point.y, point.name) == (1, 0, "a")
    assert repr(point) == "Point(x=1, y=0, name='a')"
    assert fields(Point) == {"x": REQUIRED, "y": 0, "name": None}


def test_values_are_equal_where_class_and_values_are_however_they_came() -> None:
    assert Point(1, 2) == Point(y=2, x=1)
    assert hash(Point(1, 2)) == hash(Point(y=2, x=1))
    assert len({Point(1), Point(1, 0), Point(2)}) == 2
    assert Point(1) != Point(1, 1)
    other: list[Any] = [Other(1), (1, 0, None), None]
    assert Point(1) not in other
    assert Nothing() == Nothing()


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((1, 2, "a", 4), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1, "z": 1}), ((), {"name": "a"})],
)
def test_what_is_missing_unknown_or_given_twice_is_an_error(given: tuple[Any, ...], named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="Point takes x, y, name, not"):
        Point(*given, **named)


def test_nothing_changes_but_in_another_value() -> None:
    point = Point(1)
    for name in ("x", "later"):
        with pytest.raises(AttributeError, match=f"Point never changes: {name} cannot be set"):
            setattr(point, name, 2)
        with pytest.raises(AttributeError, match="never changes"):
            delattr(point, name)
    assert replace(point, y=3) == Point(1, 3)
    assert point == Point(1)
    with pytest.raises(TypeError, match="takes"):
        replace(point, later=3)


def test_a_value_is_copied_and_pickled() -> None:
    point = Point(1, 2, "a")
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
