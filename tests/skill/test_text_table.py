"""Rows in columns: nothing is wider than the terminal, and an id keeps its beginning and its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from skill.common.text_table import columns


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("student_lr0.001_hidden64_seed42", "student_…_seed42"),
        ("student_seed42", "student_seed42"),
        ("训练" * 20 + "_s1", "训练训练…训练_s1"),
    ],
)
def test_an_id_is_shortened_in_the_middle(name: str, shown: str) -> None:
    (line,) = columns([[name, "running"]], 32, ids=(0,))
    assert line.plain == f"{shown}  running"


@given(st.lists(st.lists(st.text(max_size=60), min_size=2, max_size=2), max_size=4), st.integers(1, 60))
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], width: int) -> None:
    assert all(cell_len(line.plain) <= width for line in columns(rows, width, ids=(0,)))
