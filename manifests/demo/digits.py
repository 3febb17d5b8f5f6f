"""The demo's data: 1,797 handwritten digits of 8 by 8 pixels, read from the file that ships beside this module."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).with_name("digits.csv.gz")
PIXELS = 64
CLASSES = 10
TRAINING_ROWS = 1200


class Digit(NamedTuple):
    """One image, row by row, each pixel from 0 (paper) to 1 (ink), and the digit it shows."""

    pixels: list[float]
    label: int


class Digits(NamedTuple):
    """What networks learn from, and what they are judged by and never see while learning."""

    train: list[Digit]
    test: list[Digit]


def load() -> Digits:
    """Read all digits. The first 1,200 are for training, the other 597 for the test."""
    with gzip.open(DATA, "rt", encoding="ascii", newline="") as file:
        rows = [_digit([int(cell) for cell in row]) for row in csv.reader(file)]
    return Digits(rows[:TRAINING_ROWS], rows[TRAINING_ROWS:])


def _digit(row: list[int]) -> Digit:
    return Digit([ink / 16 for ink in row[:PIXELS]], row[PIXELS])
