"""Time limits as Slurm writes them, and attempts cut into tasks and arrays."""

from __future__ import annotations

import math

import pytest

from queue_manager.core import slurm_arrays, slurm_time


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("30", 1800.0), ("30:15", 1815.0), ("4:00:00", 14400.0), ("04:00:00", 14400.0), ("1-0", 86400.0),
        ("2-12:30", 217800.0), ("1-00:00:30", 86430.0), ("UNLIMITED", math.inf), ("infinite", math.inf),
        ("-1", math.inf), ("0", math.inf), ("4h", None), ("", None), ("1:2:3:4", None), ("1.5", None), ("NONE", None),
    ],
)  # fmt: skip
def test_seconds(text: str, wanted: float | None) -> None:
    assert slurm_time.seconds(text) == wanted


@pytest.mark.parametrize(
    ("limit", "asked", "shown"),
    [(60.0, "1", "00:01:00"), (61.0, "2", "00:01:01"), (90000.0, "1500", "1-01:00:00"), (math.inf, *["UNLIMITED"] * 2)],
)
def test_words(limit: float, asked: str, shown: str) -> None:
    assert (slurm_time.words(limit), slurm_time.clock(limit)) == (asked, shown)
    assert slurm_time.seconds(shown) == limit


TIMED = ("--partition=gpu", "--time=30", "--nice=1")


@pytest.mark.parametrize(
    ("options", "bundle", "count", "most", "wanted"),
    [
        (TIMED, 1, 100, None, (TIMED, 1)),
        (TIMED, 20, 1, None, (TIMED, 1)),
        (TIMED, 20, 100, None, (("--partition=gpu", "--time=600", "--nice=1"), 20)),
        # As evenly as can be: 13 and 12 end before 20 and 5.
        (TIMED, 20, 25, None, (("--partition=gpu", "--time=390", "--nice=1"), 13)),
        (TIMED, 20, 5, math.inf, (("--partition=gpu", "--time=150", "--nice=1"), 5)),
        # The partition allows two hours: four of 30 minutes.
        (TIMED, 20, 100, 7200.0, (("--partition=gpu", "--time=120", "--nice=1"), 4)),
        (TIMED, 20, 100, 600.0, (TIMED, 1)),
        (("--nice=1",), 20, 40, 7200.0, (("--nice=1",), 20)),
    ],
)
def test_cut(options: tuple[str, ...], bundle: int, count: int, most: float | None, wanted: object) -> None:
    assert slurm_arrays.cut(options, bundle, count, most) == wanted


def test_arrays_keep_the_order() -> None:
    assert slurm_arrays.arrays(list(range(7)), 2, 3) == [[[0, 1], [2, 3], [4, 5]], [[6]]]
    assert slurm_arrays.arrays([], 2, 3) == []
