"""The short form of a state document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from queue_manager.core.overview import MOST_ENDED, MOST_PENDING, overview, overview_of
from tests.skill.story import Story, job, manifest


def test_what_runs_waits_for_a_retry_or_needs_a_person_is_always_kept() -> None:
    names = [f"j{n:03}" for n in range(300)]
    story = Story(manifest(*(job(name) for name in names)))
    story.complete(*names[:100]).start(names[100])
    story.start(names[101]).end(names[101], "failed_other", due=story.at + 60)
    for name in names[102:200]:
        story.start(name).end(name, "stuck", error="broke")
    document = story.document()
    short = overview(document)
    kept = [row["id"] for row in short["jobs"]]
    assert kept == names[100 - MOST_ENDED : 200 + MOST_PENDING]
    assert {**short, "jobs": document["jobs"]} == {**document, "overview": True, "jobs_total": 300}


def test_a_small_run_is_kept_whole() -> None:
    document = Story(manifest(job("a"), job("b"))).complete("a").document()
    assert overview(document)["jobs"] == document["jobs"]


def as_file(document: dict[str, Any]) -> bytes:
    """A state document as managers write it."""
    head = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in document.items() if key != "jobs")
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in document["jobs"])
    return f'{{{head},\n"jobs": [\n{rows}\n]}}\n'.encode()


def test_a_state_file_is_shortened_without_reading_all_of_it() -> None:
    names = [f"j{n:03}" for n in range(300)]
    story = Story(manifest(*(job(name) for name in names)))
    story.complete(*names[:100]).start(names[100])
    field_text = 'it said: {"status": "completed", "completed": "2030-01-01T00:00:00Z"}'
    story.start(names[101]).end(names[101], "stuck", error=field_text)
    document = story.document()
    assert overview_of(as_file(document)) == overview(document)
    assert overview_of(as_file(document).replace(b'"jobs": [\n', b'"jobs": [')) is None


def test_a_file_that_is_torn_is_not_taken_for_a_state() -> None:
    data = as_file(Story(manifest(job("a"))).document())
    with pytest.raises(ValueError, match="Expecting"):
        overview_of(data.replace(b'"meta": ', b'"meta": ,'))
