"""Grids: named lists of values whose product, with `zip`, `exclude` and `include`, yields the cells of a phase."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from build_manifest.faults import Faults, Mark, listed, nearest
from build_manifest.values import Written
from build_manifest.values import number as as_number

Cell = tuple[Written, ...]


class Values(NamedTuple):
    """A key and its values, as written in `grid`, `zip`, or an entry of `include` or `exclude`."""

    key: str
    mark: Mark
    values: tuple[Written, ...]


class Entry(NamedTuple):
    """An entry of `include` or `exclude`."""

    mark: Mark
    keys: tuple[Values, ...]


class GridForm(NamedTuple):
    """A grid as written in the spec. Without any key it has one cell, which is empty.

    The cells are the product of `product`, in the order written, the last key fastest; `zipped` lists walk together
    and count as one more key, the last. A cell that agrees with all keys of an `exclude` entry is taken out. Each
    `include` entry is a small grid of its own with all the keys; its cells come last, and are never excluded.
    """

    mark: Mark
    product: tuple[Values, ...] = ()
    zipped: tuple[Values, ...] = ()
    excludes: tuple[Entry, ...] = ()
    includes: tuple[Entry, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        own = tuple(one.key for one in (*self.product, *self.zipped))
        if own or not self.includes:
            return own
        return tuple(one.key for one in self.includes[0].keys)

    def size(self) -> int:
        """Count the cells before `exclude`."""
        own = math.prod(len(one.values) for one in self.product) * (len(self.zipped[0].values) if self.zipped else 1)
        extra = sum(math.prod(len(one.values) for one in entry.keys) for entry in self.includes)
        return extra if self.includes and not (self.product or self.zipped) else own + extra


def check(faults: Faults, grid: GridForm) -> bool:
    """Tell whether the grid is consistent; its faults are noted."""
    before = len(faults.found)
    lengths = {len(one.values) for one in grid.zipped}
    if len(lengths) > 1:
        sizes = ", ".join(f"{one.key} has {len(one.values)}" for one in grid.zipped)
        faults.add(
            grid.zipped[0].mark, f"the lists under zip must have the same length, but {sizes}", "make them equally long"
        )
    for one in grid.product:
        _check_twice(faults, one)
    in_grid = {one.key for one in grid.product}
    for one in grid.zipped:
        if one.key in in_grid:
            faults.add(one.mark, f"{one.key!r} is in grid and in zip", "keep one of them")
    names = grid.names
    for entry in grid.includes:
        _check_known(faults, entry, names, "include")
        missing = [name for name in names if name not in {one.key for one in entry.keys}]
        if missing:
            faults.add(
                entry.mark, f"this include lacks {listed(missing)}", "an include must name every key of the grid"
            )
    for entry in grid.excludes:
        _check_known(faults, entry, names, "exclude")
        if not entry.keys:
            faults.add(
                entry.mark,
                "this exclude names no key, so it would match every cell",
                "name the keys of the cells to exclude",
            )
    return len(faults.found) == before


def _check_twice(faults: Faults, one: Values) -> None:
    seen: set[str] = set()
    for value in one.values:
        if value.text in seen:
            faults.add(one.mark, f"{one.key!r} has the value {value.text!r} twice", "keep one of them")
        seen.add(value.text)


def _check_known(faults: Faults, entry: Entry, names: tuple[str, ...], what: str) -> None:
    for one in entry.keys:
        if one.key not in names:
            close = nearest(one.key, names)
            hint = f"did you mean {close!r}?" if close else f"the keys of the grid are: {listed(names)}"
            faults.add(one.mark, f"{what} names the key {one.key!r}, which the grid does not have", hint)


def cells(faults: Faults, grid: GridForm) -> Iterator[Cell]:
    """Yield all cells of a checked grid, in order. Warns if an exclude matches no cell."""
    names = grid.names
    # An exclude with several values for a key is one for each combination; those with equal keys share a look-up.
    rules: dict[tuple[int, ...], dict[tuple[str, ...], list[int]]] = {}
    for number, entry in enumerate(grid.excludes):
        where = tuple(names.index(one.key) for one in entry.keys)
        table = rules.setdefault(where, {})
        for combination in itertools.product(*(_texts_of(grid, one) for one in entry.keys)):
            table.setdefault(combination, []).append(number)
    used: set[int] = set()
    for cell in _own(grid):
        hits = [
            number for where, table in rules.items() for number in table.get(tuple([cell[i].text for i in where]), ())
        ]
        if hits:
            used.update(hits)
        else:
            yield cell
    for number, entry in enumerate(grid.excludes):
        if number not in used:
            shown = ", ".join(f"{one.key}: {listed([value.text for value in one.values])}" for one in entry.keys)
            faults.warn(entry.mark, f"the exclude {{{shown}}} matches no cell")
    for entry in grid.includes:
        by_key = {one.key: one.values for one in entry.keys}
        yield from itertools.product(*(by_key[name] for name in names))


def _texts_of(grid: GridForm, excluded: Values) -> list[str]:
    """Return the values of a key that an exclude means, as the grid writes them: those written alike, else those that
    are the same number (`0.1` and `0.10`)."""
    axis = next(one for one in (*grid.product, *grid.zipped, *_of_includes(grid)) if one.key == excluded.key)
    there = {value.text for value in axis.values}
    found: list[str] = []
    for value in excluded.values:
        wanted = None if value.text in there else _as_number(value)
        same = [] if wanted is None else [one.text for one in axis.values if _as_number(one) == wanted]
        found += same or [value.text]
    return list(dict.fromkeys(found))


def _of_includes(grid: GridForm) -> Iterator[Values]:
    return (one for entry in grid.includes for one in entry.keys)


def _as_number(value: Written) -> int | float | None:
    if value.truth is not None or isinstance(value.value, str) or value.words is not None:
        return None
    return as_number(value.text)


def _own(grid: GridForm) -> Iterator[Cell]:
    if not grid.product and not grid.zipped:
        if not grid.includes:
            yield ()
        return
    axes = [one.values for one in grid.product]
    if not grid.zipped:
        yield from itertools.product(*axes)
        return
    rows = list(zip(*(one.values for one in grid.zipped)))
    for cell in itertools.product(*axes, rows):
        yield (*cell[:-1], *cell[-1])
