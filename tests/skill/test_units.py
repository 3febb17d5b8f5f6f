"""Sizes, counts, money and pauses: one function each."""

from __future__ import annotations

import pytest

from skill.common.retry import backoff
from skill.common.units import count_text, jobs_text, mib_text, size_text, usd


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (size_text(0), "0 bytes"),
        (size_text(1023), "1023 bytes"),
        (size_text(1024), "1.0 KiB"),
        (size_text(3_565_158), "3.4 MiB"),
        (size_text(5 << 30), "5.0 GiB"),
        (mib_text(10_239), "10239 MiB"),
        (mib_text(38_000), "37 GiB"),
        (jobs_text(0), "0 jobs"),
        (jobs_text(1), "1 job"),
        (count_text(3, "GPU"), "3 GPUs"),
        (usd(0.0), "$0.00"),
        (usd(0.00001), "less than $0.0001"),
        (usd(0.0312), "$0.0312"),
        (usd(1.004), "$1.00"),
    ],
)
def test_what_is_reported(made: str, text: str) -> None:
    assert made == text


def test_pauses_double_up_to_the_longest() -> None:
    assert [backoff(number, 0.5, 3.0) for number in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
