"""Where partial results are, and what they say: whole, half written, and of other tools."""

from __future__ import annotations

import json

import pytest

from queue_manager.core.outputs import pattern_matches
from queue_manager.core.partial import counts, patterns


@pytest.mark.parametrize(
    ("output", "partial"),
    [
        ("out/results.json", "out/.results.partial.json"),
        ("out/results.json", "out/results_partial.json"),
        ("results.json", "results-partial.json"),
        ("out/s42_*.json", "out/.s42_N384.partial.json"),
        ("/data/a.b.json", "/data/.a.b.partial.json"),
        ("ckpt/model", "ckpt/model.partial.json"),
        ("ckpt/model.v2", "ckpt/model.v2.partial.json"),
    ],
)
def test_partial_results_are_beside_the_output(output: str, partial: str) -> None:
    assert any(pattern_matches(one, partial) for one in patterns(output))


def test_no_tree_is_searched_for_them() -> None:
    assert patterns("out/**/*.json") == []
    assert patterns("out/*.json") == ["out/.*.partial.json"]


@pytest.mark.parametrize("other", ["out/.results.partial.json", "out/N38.partial.json", "out/N3840_partial.json"])
def test_those_of_another_job_are_not_taken(other: str) -> None:
    assert not any(pattern_matches(one, other) for one in patterns("out/N384.json"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"completed": 3, "total": 25, "results": [1, 2, 3]}', (3, 25)),
        ('{"completed": 3, "total": 25, "results": [1, 2', (3, 25)),
        ('{"total": 25, "results": [{"completed": 9, "total": 9}], "completed": 3}', (3, 25)),
        ('{"completed": ["a", "b"], "total": 4}', (2, 4)),
        ('{"completed": 0, "total": 0}', (0, 0)),
        ('{"total": 25, "comp', None),
        ('{"completed": 26, "total": 25}', None),
        ('{"completed": true, "total": 25}', None),
        ('{"completed": 3}', None),
        ("[3, 25]", None),
        ("", None),
        ("[" * 100_000, None),
    ],
)
def test_what_a_file_says(text: str, found: tuple[int, int] | None) -> None:
    assert counts(text.encode(), whole=True) == found


def test_of_a_large_file_its_beginning_is_enough() -> None:
    text = json.dumps({"completed": 9000, "total": 10_000, "results": ["x" * 100] * 9000}).encode()
    assert counts(text[:4096], whole=False) == (9000, 10_000)
    assert counts(text[4096:8192], whole=False) is None
    assert counts(b'{"results": [], "completed": 1, "total": 2}', whole=False) is None
