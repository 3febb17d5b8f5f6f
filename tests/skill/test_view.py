"""What keys do to the live view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.terminal.view import Board, Deed, Layer, Page, View, current, first, matching, press, window

IDS = [f"j{n}" for n in range(10)]
STATUSES = dict.fromkeys(IDS, "pending") | {"j1": "running", "j2": "stuck", "j3": "completed"}
BOARD = Board(IDS, [("j0", "j1", None), (None, "j2", "j3"), ("j4",)], STATUSES, room=4)
JOBS, MATRIX = View(Page.JOBS, selected="j1"), View(Page.MATRIX, selected="j1")


def pressed(view: View, *keys: str, board: Board = BOARD) -> tuple[View, Deed | None]:
    deed = None
    for key in keys:
        view, deed = press(view, key, board)
    return view, deed


@pytest.mark.parametrize(
    ("begin", "keys", "end"),
    [
        (View(), ["down"], View(Page.JOBS, selected="j0")),
        (View(), ["k"], View(Page.JOBS, selected="j0")),  # what is not selected is not cancelled
        (View(), ["tab"], View(Page.JOBS, selected="j0")),
        (View(), ["tab", "tab"], View(Page.MATRIX, selected="j0")),
        (View(), ["backtab", "backtab", "backtab"], View(selected="j0")),
        (JOBS, ["m", "m"], View(selected="j1")),
        (JOBS, ["down", "down", "up"], JOBS._replace(selected="j2")),
        (JOBS, ["up", "up"], JOBS._replace(selected="j0")),
        (JOBS, ["pagedown"], JOBS._replace(selected="j5")),
        (JOBS, ["end"], JOBS._replace(selected="j9")),
        (JOBS, ["end", "pagedown", "home"], JOBS._replace(selected="j0")),
        (JOBS, ["escape"], View(selected="j1")),
        (JOBS._replace(needle="a"), ["escape"], JOBS),
        (JOBS, ["?", "down", "down", "up"], JOBS._replace(layer=Layer.HELP, scroll=1)),
        (JOBS, ["?", "q"], JOBS),
        (JOBS, ["enter", "up", "pageup"], JOBS._replace(layer=Layer.LOG, scroll=5)),
        (JOBS, ["enter", "up", "end", "q"], JOBS),
        (JOBS, ["/", "a", "b", "backspace", "q", "enter"], JOBS._replace(needle="aq")),
        (JOBS, ["/", "a", "escape"], JOBS),
        (JOBS, ["/", "a", "down"], JOBS._replace(layer=Layer.FILTER, needle="a")),
        (JOBS, ["/", "backspace"], JOBS),
        (JOBS, ["k"], JOBS._replace(layer=Layer.QUESTION)),
        (JOBS, ["k", "n"], JOBS),
        (MATRIX, ["left"], MATRIX._replace(selected="j0")),
        (MATRIX, ["right"], MATRIX),  # there is no job
        (MATRIX, ["down"], MATRIX._replace(selected="j2")),
        (MATRIX, ["down", "right", "down"], MATRIX._replace(selected="j4")),
        (MATRIX, ["pagedown", "pageup"], MATRIX._replace(selected="j0")),
        (MATRIX, ["down", "end"], MATRIX._replace(selected="j3")),
        (JOBS, ["x", "F"], JOBS),
    ],
)
def test_a_key_changes_the_view(begin: View, keys: list[str], end: View) -> None:
    assert pressed(begin, *keys) == (end, None)


@pytest.mark.parametrize(
    ("begin", "keys", "deed"),
    [
        (View(), ["q"], Deed("leave")),
        (JOBS, ["q"], Deed("leave")),
        (JOBS, ["k", "y"], Deed("cancel", "j1")),
        (MATRIX, ["down", "r"], Deed("retry", "j2")),
        (JOBS, ["down", "down", "k"], Deed("refuse", refusal="j3 is completed: nothing to cancel")),
        (JOBS, ["redraw"], Deed("redraw")),
    ],
)
def test_a_key_asks_for_something(begin: View, keys: list[str], deed: Deed) -> None:
    assert pressed(begin, *keys)[1] == deed


def test_without_jobs_nothing_is_selected() -> None:
    for key in ("enter", "k", "r", "down", "up", "end"):
        view, deed = press(View(Page.JOBS, needle="zzz"), key, Board())
        assert (view.layer, deed) == (Layer.NONE, Deed("refuse", refusal="no job is selected"))


def test_a_selection_that_the_filter_hides_is_the_first_of_what_is_shown() -> None:
    board = BOARD._replace(ids=["j5", "j6"])
    assert current(JOBS, board) == "j5"
    assert pressed(JOBS, "down", board=board)[0].selected == "j6"
    assert pressed(JOBS, "k", "y", board=board)[1] == Deed("cancel", "j5"), "what was seen, and nothing else"


def test_a_filter_looks_for_each_word() -> None:
    rows = [
        {"id": "s1_lr0.1", "phase": "main", "status": "stuck"},
        {"id": "s2_lr0.1", "phase": "main", "status": "running", "host": "gpu-a"},
    ]
    found = {needle: [row["id"] for row in matching(rows, needle)] for needle in ("", "LR0 stuck", "gpu-a", "s3", " ")}
    both = ["s1_lr0.1", "s2_lr0.1"]
    assert found == {"": both, "LR0 stuck": both[:1], "gpu-a": both[1:], "s3": [], " ": both}


def test_what_needs_a_person_is_selected_first() -> None:
    rows = [{"id": status, "status": status} for status in ("completed", "running", "stuck")]
    assert [first(rows), first(rows[:2]), first(rows[:1]), first([])] == ["stuck", "running", "completed", None]


@given(st.integers(0, 300), st.integers(0, 299), st.integers(1, 60))
def test_the_row_that_is_selected_is_shown(count: int, at: int, room: int) -> None:
    at = min(at, max(0, count - 1))
    begin = window(count, at, room)
    assert 0 <= begin <= max(0, count - room)
    assert begin <= at < begin + room


KEYS = st.sampled_from([
    "up", "down", "left", "right", "pageup", "pagedown", "home", "end", "enter", "escape", "tab", "backtab",
    "backspace", "redraw", "/", "?", "m", "k", "r", "n", "x",
])  # fmt: skip


@given(st.lists(KEYS, max_size=60))
def test_no_keys_cancel_a_job_without_a_yes(keys: list[str]) -> None:
    view, board = View(), BOARD
    for key in keys:
        view, deed = press(view, key, board)
        assert deed is None or deed.verb in ("redraw", "refuse", "retry")
        assert view.selected is None or view.selected in STATUSES
