"""What the live view shows, and what a key does to it: selection, filter, pages, questions. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from skill.runs.digest import RETRIES, Row, word

OPEN = frozenset({"pending", "running", *RETRIES})
"""Statuses of jobs that can be cancelled."""
_MOST_NEEDLE = 100


class Page(enum.Enum):
    """What fills the view."""

    OVERVIEW = "overview"
    JOBS = "jobs"
    MATRIX = "matrix"


class Layer(enum.Enum):
    """What lies over the page, and takes the keys."""

    NONE = "none"
    HELP = "help"
    LOG = "log"
    FILTER = "filter"
    QUESTION = "question"


class View(NamedTuple):
    """`selected`: a job's id. `needle`: what the list of jobs is filtered by. `scroll`: lines, from the end of a log
    or the begin of the help."""

    page: Page = Page.OVERVIEW
    layer: Layer = Layer.NONE
    selected: str | None = None
    needle: str = ""
    scroll: int = 0

    @property
    def is_reading(self) -> bool:
        """Whether the user looks at something that must not vanish as the run ends."""
        return self.layer in (Layer.HELP, Layer.LOG)


class Board(NamedTuple):
    """What there is to select. `ids`: the jobs of the list, filtered. `grid`: rows of cells, None for a combination
    that has no job. `statuses` of all jobs by id. `room`: rows that a page has."""

    ids: Sequence[str] = ()
    grid: Sequence[Sequence[str | None]] = ()
    statuses: Mapping[str, str] = {}
    room: int = 20


class Deed(NamedTuple):
    """What a key asks for beyond the view: leave, redraw, cancel or retry `job`; or a `refusal` to show."""

    verb: str
    job: str = ""
    refusal: str = ""


def matching(rows: Sequence[Row], needle: str) -> list[Row]:
    """Rows that have each word of `needle` in their id, phase, status, host or node."""
    words = needle.lower().split()
    if not words:
        return list(rows)
    return [row for row in rows if all(word in _searched(row) for word in words)]


def _searched(row: Row) -> str:
    return f"{row['id']} {row['phase']} {word(row)} {row.get('host', '')} {row.get('node') or ''}".lower()


def first(rows: Sequence[Row]) -> str | None:
    """The job to select where none was: the first that is stuck, else the first that runs, else the first."""
    for status in ("stuck", "running"):
        for row in rows:
            if row["status"] == status:
                return str(row["id"])
    return str(rows[0]["id"]) if rows else None


def window(count: int, at: int, room: int) -> int:
    """The first of `count` rows to show in `room` rows, so that the row `at` is among them: pages, so that a step
    within one moves nothing else."""
    if count <= room or room <= 0:
        return 0
    return min(at // room * room, count - room)


def current(view: View, board: Board) -> str | None:
    """The job that is selected on the page; None on the overview."""
    if view.page is Page.OVERVIEW:
        return None
    there = board.ids if view.page is Page.JOBS else _cells(board)
    if view.selected in there:
        return view.selected
    return there[0] if there else None


def press(view: View, key: str, board: Board) -> tuple[View, Deed | None]:
    """The view after a key, and what it asks for beside."""
    if view.layer is Layer.FILTER:
        return _typed(view, key), None
    if view.layer is Layer.QUESTION:
        calm = view._replace(layer=Layer.NONE)
        return calm, Deed("cancel", view.selected or "") if key in ("y", "Y") else None
    if key == "redraw":
        return view, Deed("redraw")
    if view.layer in (Layer.HELP, Layer.LOG):
        return _read(view, key, board.room), None
    return _pressed(view, key, board)


def _typed(view: View, key: str) -> View:
    """A key while the filter is typed."""
    if key == "enter":
        return view._replace(layer=Layer.NONE)
    if key == "escape":
        return view._replace(layer=Layer.NONE, needle="")
    if key == "backspace":
        return view._replace(needle=view.needle[:-1]) if view.needle else view._replace(layer=Layer.NONE)
    if len(key) == 1 and len(view.needle) < _MOST_NEEDLE:
        return view._replace(needle=view.needle + key)
    return view


def _read(view: View, key: str, room: int) -> View:
    """A key while the help or a log is open. A log is read from its end, so that up adds to `scroll`."""
    if key in ("q", "escape", "enter", "left") or (key == "?" and view.layer is Layer.HELP):
        return view._replace(layer=Layer.NONE, scroll=0)
    if key == "?":
        return view._replace(layer=Layer.HELP, scroll=0)
    steps = {"up": 1, "down": -1, "pageup": room, "pagedown": -room, " ": -room, "home": 1 << 30, "end": -(1 << 30)}
    sign = 1 if view.layer is Layer.LOG else -1
    return view._replace(scroll=max(0, view.scroll + sign * steps.get(key, 0)))


def _pressed(view: View, key: str, board: Board) -> tuple[View, Deed | None]:
    if key == "q":
        return view, Deed("leave")
    if key == "?":
        return view._replace(layer=Layer.HELP, scroll=0), None
    if key == "/":
        return _select(view._replace(page=Page.JOBS, layer=Layer.FILTER), board), None
    if key in ("tab", "backtab"):
        pages = list(Page)
        step = 1 if key == "tab" else -1
        return _select(view._replace(page=pages[(pages.index(view.page) + step) % len(pages)]), board), None
    if key == "m":
        return _select(view._replace(page=Page.OVERVIEW if view.page is Page.MATRIX else Page.MATRIX), board), None
    if key == "escape":
        return (view._replace(needle="") if view.needle else view._replace(page=Page.OVERVIEW)), None
    if key in _MOVES or key in ("enter", "k", "r"):
        if view.page is Page.OVERVIEW:
            return _select(view._replace(page=Page.JOBS), board), None
        selected = current(view, board)
        if selected is None:
            return view, Deed("refuse", refusal="no job is selected")
        view = view._replace(selected=selected)
        return (_moved(view, key, board), None) if key in _MOVES else _asked(view, key, selected, board)
    return view, None


def _select(view: View, board: Board) -> View:
    """The view with a job selected, where it has any."""
    return view if view.selected in board.statuses else view._replace(selected=current(view, board))


def _asked(view: View, key: str, job: str, board: Board) -> tuple[View, Deed | None]:
    if key == "enter":
        return view._replace(layer=Layer.LOG, scroll=0), None
    if key == "r":
        return view, Deed("retry", job)
    status = board.statuses.get(job, "completed")
    if status not in OPEN:
        return view, Deed("refuse", refusal=f"{job} is {status}: nothing to cancel")
    return view._replace(layer=Layer.QUESTION), None


_MOVES = frozenset({"up", "down", "left", "right", "pageup", "pagedown", "home", "end"})


def _moved(view: View, key: str, board: Board) -> View:
    if view.page is Page.MATRIX:
        return view._replace(selected=_in_grid(view.selected, key, board))
    at, last = board.ids.index(view.selected or ""), len(board.ids) - 1
    steps = {"up": -1, "down": 1, "pageup": -board.room, "pagedown": board.room, "home": -last, "end": last}
    return view._replace(selected=board.ids[min(last, max(0, at + steps.get(key, 0)))])


def _in_grid(selected: str | None, key: str, board: Board) -> str | None:
    """The next cell that holds a job; the same one where there is none in that direction."""
    row, column = next(
        (r, c) for r, cells in enumerate(board.grid) for c, cell in enumerate(cells) if cell == selected
    )  # fmt: skip
    last = len(board.grid) - 1
    if key in ("left", "right", "home", "end"):
        cells = board.grid[row]
        order = {
            "left": range(column - 1, -1, -1), "right": range(column + 1, len(cells)),
            "home": range(column), "end": range(len(cells) - 1, column, -1),
        }[key]  # fmt: skip
        return next((cells[c] for c in order if cells[c] is not None), selected)
    far = {"pageup": board.room, "pagedown": board.room}.get(key, 1)
    goes_up = key in ("up", "pageup")
    begin = max(0, row - far) if goes_up else min(last, row + far)
    for r in range(begin, -1, -1) if goes_up else range(begin, last + 1):
        cells = board.grid[r]
        if r == row or not cells:
            continue
        held = [c for c, cell in enumerate(cells) if cell is not None]
        if held:  # matrices of several phases have rows of different lengths
            return cells[min(held, key=lambda c: abs(c - column))]
    return selected


def _cells(board: Board) -> list[str]:
    return [cell for cells in board.grid for cell in cells if cell is not None]
