"""Delays before retries. Pure."""

from __future__ import annotations


def backoff(number: int, first: float, most: float = 60.0) -> float:
    """Seconds to wait after try `number`, from 1: `first` after the first, twice as long after each, at most `most`."""
    return float(min(most, first * 2.0 ** (number - 1)))
