"""The jobs of a grid as a matrix."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.status import Status
from skill.runs import digest
from skill.terminal.frame import STYLES
from skill.terminal.matrix import CELLS, Matrix, grid, lines, matrices

Given = Mapping[str, str]


def jobs(*given: Given) -> list[tuple[str, Given]]:
    return [(f"j{n}", one) for n, one in enumerate(given)]


def product(**values: list[str]) -> list[tuple[str, Given]]:
    return jobs(*(dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())))


def rows(statuses: Mapping[str, str]) -> dict[str, Any]:
    return {name: {"id": name, "status": status, "health": None} for name, status in statuses.items()}


@pytest.mark.parametrize(
    ("given_", "keys", "labels", "columns"),
    [
        (product(lr=["1", "2"], seed=["0", "1", "2"]), ("lr", "seed"), (("1",), ("2",)), ("0", "1", "2")),
        (product(seed=["0", "1"]), ("seed",), ((),), ("0", "1")),
        (product(lr=["1"], seed=["0", "1"]), ("seed",), ((),), ("0", "1")),
        (product(a=["1", "2"], b=["x", "y"], c=["7", "8"]), ("a", "b", "c"),
         (("1", "x"), ("1", "y"), ("2", "x"), ("2", "y")), ("7", "8")),
        # a name of a file with both in it says nothing more
        (jobs(*({"out": f"{a}_{b}", "a": a, "b": b} for a in "12" for b in "xy")), ("a", "b"),
         (("1",), ("2",)), ("x", "y")),
        # zipped keys vary together
        (jobs({"lr": "1", "wd": "0.1"}, {"lr": "2", "wd": "0.2"}), ("lr",), ((),), ("1", "2")),
    ],
)  # fmt: skip
def test_the_keys_by_which_jobs_differ_make_rows_and_columns(
    given_: list[tuple[str, Given]],
    keys: tuple[str, ...],
    labels: tuple[tuple[str, ...], ...],
    columns: tuple[str, ...],
) -> None:
    (made,) = matrices({"main": given_})
    assert (made.keys, made.rows, made.columns) == (keys, labels, columns)
    assert sorted(cell for cells in made.cells for cell in cells if cell is not None) == [name for name, _ in given_]


@pytest.mark.parametrize(
    "given_", [jobs(), jobs({"a": "1"}), jobs({}, {}), jobs({"a": "1"}, {"a": "1"}), jobs({"a": "1"}, {"b": "1"})]
)
def test_jobs_that_no_keys_tell_apart_make_none(given_: list[tuple[str, Given]]) -> None:
    assert matrices({"main": given_}) == []


def test_a_combination_without_a_job_is_left_open() -> None:
    (made,) = matrices({"main": jobs({"a": "1", "b": "x"}, {"a": "1", "b": "y"}, {"a": "2", "b": "x"})})
    assert grid([made]) == [("j0", "j1"), ("j2", None)]


def drawn(found: list[Matrix], statuses: Mapping[str, str], width: int = 80, **options: Any) -> list[str]:
    made = {"selected": None, "room": None, "unicode": True} | options
    chosen, room, unicode = made["selected"], made["room"], made["unicode"]
    return [line.plain for line in lines(found, rows(statuses), STYLES, chosen, width, room, unicode=unicode)]


def test_each_cell_is_the_mark_of_its_job() -> None:
    found = matrices({"main": product(lr=["1e-4", "0.1"], seed=["0", "1", "2"])})
    statuses = {
        "j0": "completed", "j1": "running", "j2": "pending", "j3": "stuck", "j4": "cancelled",
    }  # fmt: skip
    assert drawn(found, statuses, selected="j3") == [
        "main: lr × seed",
        " lr   0  1  2",
        " 1e-4 ✓  ▶  ·",
        " 0.1 [✗] –  ?",
    ]
    assert drawn(found, statuses, unicode=False)[2:] == [" 1e-4 +  >  .", " 0.1  x  -  ?"]


def test_an_unhealthy_job_is_marked() -> None:
    found = matrices({"main": product(seed=["0", "1"])})
    shown = rows({"j0": "running", "j1": "running"})
    shown["j0"]["health"] = {"flags": [{"kind": "nan"}]}
    assert lines(found, shown, STYLES, None, 80, None, unicode=True)[2].plain.split() == ["!", "▶"]


def test_of_a_large_grid_the_part_with_the_selected_cell_is_shown() -> None:
    values = [str(n) for n in range(40)]
    found = matrices({"main": product(lr=values, seed=values)})
    shown = drawn(found, {}, 40, selected="j1239", room=10)  # lr=30 seed=39
    assert shown[0].startswith(" 22") or any(line.startswith(" 30") for line in shown)
    assert any("[?]" in line for line in shown)
    assert len(shown) == 10
    assert "of 40" in drawn(found, {}, 40, room=10)[0]


@given(
    st.integers(1, 30), st.integers(1, 30), st.integers(10, 120), st.integers(0, 40), st.integers(0, 899), st.booleans()
)
def test_it_fits(height: int, width: int, cells: int, room: int, at: int, unicode: bool) -> None:
    found = matrices({
        "main": product(lr=[f"long value {n}" for n in range(height)], seed=[str(n) for n in range(width)]),
        "more": product(seed=["0", "训练"]),
    })  # fmt: skip
    chosen = f"j{at % (height * width)}"
    shown = lines(found, {}, STYLES, chosen, cells, room, unicode=unicode)
    assert len(shown) <= room
    assert all(line.cell_len <= cells for line in shown)


def test_every_status_has_a_mark_of_its_own_meaning() -> None:
    assert set(CELLS) == {*(status.value for status in Status), digest.QUEUED} == set(STYLES)
    assert all(cell.plain.isascii() and len(cell.plain) == len(cell.char) == 1 for cell in CELLS.values())
    retries = [CELLS["failed_oom"], CELLS["failed_other"]]
    others = [cell for name, cell in CELLS.items() if not name.startswith("failed")]
    for marks in ([cell.char for cell in (retries[0], *others)], [cell.plain for cell in (retries[0], *others)]):
        assert len(set(marks)) == len(marks)
