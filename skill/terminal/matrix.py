"""The jobs of a grid as a matrix: rows × columns, one cell a job. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from skill.common.text_table import columns, shortened
from skill.runs.digest import Row, word
from skill.terminal.view import window

Params = Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]
"""Of each phase, its jobs and what each was given by the grid and its args, in the manifest's order."""
_LABEL = 12
"""Cells of a column's label at most."""
_ROW_LABEL = 36
_BEFORE, _BETWEEN = 1, 2


class Matrix(NamedTuple):
    """The jobs of a phase. `keys`: the names of the keys of the rows, then the one of the columns; `rows`: for each,
    the values of its keys; `cells`: the ids of its jobs, None for a combination that has no job."""

    phase: str
    keys: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    columns: tuple[str, ...]
    cells: tuple[tuple[str | None, ...], ...]


class Cell(NamedTuple):
    """How a cell is drawn, by its job's status: in a terminal with Unicode, and without."""

    char: str
    plain: str


CELLS = {
    "completed": Cell("✓", "+"), "running": Cell("▶", ">"), "failed_oom": Cell("↻", "~"),
    "failed_other": Cell("↻", "~"), "pending": Cell("·", "."), "stuck": Cell("✗", "x"), "blocked": Cell("⊘", "#"),
    "cancelled": Cell("–", "-"), "queued": Cell("○", "o"),
}  # fmt: skip

UNHEALTHY = "!"
"""A running job with a flag."""


def matrices(params: Params) -> list[Matrix]:
    """A matrix for each phase whose jobs differ by the values of keys; the last of these keys makes the columns."""
    found = (_matrix(phase, jobs) for phase, jobs in params.items())
    return [one for one in found if one is not None]


def _matrix(phase: str, jobs: Sequence[tuple[str, Mapping[str, str]]]) -> Matrix | None:
    keys = _keys([given for _, given in jobs])
    if not keys:
        return None
    *outer, inner = keys
    rows = list(dict.fromkeys(tuple(given[key] for key in outer) for _, given in jobs))
    across = list(dict.fromkeys(given[inner] for _, given in jobs))
    place = {tuple(given[key] for key in keys): job for job, given in jobs}
    cells = tuple(tuple(place.get((*row, value)) for value in across) for row in rows)
    return Matrix(phase, tuple(keys), tuple(rows), tuple(across), cells)


def _keys(given: Sequence[Mapping[str, str]]) -> list[str]:
    """The fewest keys by which all jobs differ, in their order; empty where there are none.

    Of two that vary together, such as a seed and the name of a file with it, the one with fewer values is a key.
    """
    if len(given) < 2:
        return []
    shared = [key for key in given[0] if all(key in one for one in given)]
    values = {key: len({one[key] for one in given}) for key in shared}
    chosen: list[str] = []
    different = 1
    for key in sorted((key for key in shared if values[key] > 1), key=lambda key: values[key]):
        apart = len({tuple(one[name] for name in (*chosen, key)) for one in given})
        if apart > different:
            chosen.append(key)
            different = apart
    return [key for key in shared if key in chosen] if different == len(given) else []


def grid(found: Iterable[Matrix]) -> list[tuple[str | None, ...]]:
    """The rows of all matrices, one below the other."""
    return [cells for one in found for cells in one.cells]


def lines(
    found: Sequence[Matrix], jobs: Mapping[str, Row], styles: Mapping[str, str], selected: str | None,
    width: int, room: int | None, *, unicode: bool,
) -> list[Text]:  # fmt: skip
    """As many lines as there is room for (None: all), with the selected cell among them.

    `jobs` by id; one that is not there is one of which nothing is known. `styles` by status.
    """
    if not found:
        none = Text("no phase of this run has jobs that differ by the values of a grid", no_wrap=True)
        none.truncate(width, overflow="ellipsis")
        return [none][:room]
    places: list[tuple[Matrix, int]] = []
    at = 0
    for one in found:
        for n in (-2, -1, *range(len(one.rows))):
            if n >= 0 and selected is not None and selected in one.cells[n]:
                at = len(places)
            places.append((one, n))
    room = len(places) if room is None else room
    begin = window(len(places), at, room)
    shown: dict[str, list[int]] = {}
    for one, n in places[begin : begin + room]:
        shown.setdefault(one.phase, []).append(n)
    by_phase = {one.phase: one for one in found}
    drawn: list[Text] = []
    for phase, numbers in shown.items():
        drawn += _Drawing(by_phase[phase], numbers, selected, width).lines(jobs, styles, unicode)
    for line in drawn:
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
    return drawn


class _Drawing:
    """Some lines of a matrix: -2 is its title, -1 the head of its columns, the others are its rows."""

    def __init__(self, one: Matrix, numbers: Sequence[int], selected: str | None, width: int) -> None:
        self._one, self._numbers, self._selected = one, numbers, selected
        column = next((cells.index(selected) for cells in one.cells if selected in cells), 0) if selected else 0
        rows = [n for n in numbers if n >= 0]
        if len(one.keys) > 1:
            room = max(8, min(_ROW_LABEL, width // 2))
            labels = columns([one.keys[:-1], *(one.rows[n] for n in rows)], room)
        else:
            labels = [Text() for _ in range(len(rows) + 1)]
        beside = max(label.cell_len for label in labels)
        for label in labels:
            label.pad_right(beside - label.cell_len)
        self._labels = dict(zip((-1, *rows), labels, strict=True))
        self._names = [shortened(Text(name), _LABEL) for name in one.columns]
        self._cell = max(3, *(name.cell_len + _BETWEEN for name in self._names))
        shown = max(1, (width - _BEFORE - beside) // self._cell)
        self._first = window(len(self._names), column, shown)
        self._last = min(len(self._names), self._first + shown)

    def lines(self, jobs: Mapping[str, Row], styles: Mapping[str, str], unicode: bool) -> list[Text]:
        """The lines. `jobs` by id; `styles` by status."""
        return [
            self._title() if n == -2 else self._head() if n == -1 else self._row(n, jobs, styles, unicode)
            for n in self._numbers
        ]

    def _title(self) -> Text:
        count = len(self._names)
        part = "" if self._last - self._first == count else f", {self._first + 1} to {self._last} of {count}"
        rows = f"{' '.join(self._one.keys[:-1])} × " if len(self._one.keys) > 1 else ""
        return Text(f"{self._one.phase}: {rows}{self._one.keys[-1]}{part}", style="bold", no_wrap=True)

    def _head(self) -> Text:
        line = Text(" " * _BEFORE, style="bold", no_wrap=True).append_text(self._labels[-1])
        for name in self._names[self._first : self._last]:
            line.append(_centred(name.plain, self._cell))
        return line

    def _row(self, n: int, jobs: Mapping[str, Row], styles: Mapping[str, str], unicode: bool) -> Text:
        line = Text(" " * _BEFORE, no_wrap=True).append_text(self._labels[n])
        for job in self._one.cells[n][self._first : self._last]:
            mark, style = (" ", "") if job is None else _mark(jobs.get(job), styles, unicode)
            if job is not None and job == self._selected:
                mark, style = f"[{mark}]", f"{style} reverse"
            line.append(_centred(mark, self._cell), style=style)
        return line


def _mark(row: Row | None, styles: Mapping[str, str], unicode: bool) -> tuple[str, str]:
    """The character of a job, and its style."""
    if row is None:
        return "?", "yellow"
    if row["status"] == "running" and (row.get("health") or {}).get("flags"):
        return UNHEALTHY, "bold yellow"
    name = word(row)
    return (CELLS[name].char if unicode else CELLS[name].plain), styles[name]


def _centred(text: str, width: int) -> str:
    left = (width - cell_len(text) + 1) // 2
    return " " * left + text + " " * (width - cell_len(text) - left)
