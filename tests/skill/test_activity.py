"""What a running job does, as the view, the table of jobs and `why` tell it."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.readings import Card
from queue_manager.core.times import iso
from skill.reports import explain
from skill.runs import activity, digest
from skill.runs.dependencies import Dependencies
from skill.runs.state_schema import fault
from skill.terminal import frame
from skill.terminal.frame import Scene
from tests.skill.story import RUN_ID, Story, job, manifest

CARDS = (Card(0, "GPU-0", "NVIDIA A100", 81920, 20000, 0), Card(1, "GPU-1", "NVIDIA A100", 81920, 3, 90))
ASKS = "is waiting for input on its terminal: 'Enter your choice:'"


def silent_for(silent: float | None = 0.0, **fields: Any) -> tuple[Story, dict[str, Any]]:
    """A run with a job on card 0 that has been silent for so long, and its document."""
    story = Story(manifest(job("a", gpus=1))).start("a", 0)
    document = story.document(cards=CARDS)
    at = None if silent is None else iso(story.at - silent)
    document["jobs"][0].update({"last_output": at, "silent_s": silent, "cpu": 0.2, "asks": None, **fields})
    assert fault(document) is None
    return story, document


@pytest.mark.parametrize(
    ("silent", "fields", "words"),
    [
        (720.0, {}, "silent for 12 min, 0 % CPU, GPU 0 at 0 %"),
        (720.0, {"cpu": None, "gpus": []}, "silent for 12 min"),
        (720.0, {"cpu": 812.4, "gpus": [1]}, "silent for 12 min, 812 % CPU, GPU 1 at 90 %"),
        (119 * 60.0, {"cpu": None, "gpus": []}, "silent for 119 min"),
        (7290.0, {"cpu": None, "gpus": []}, "silent for 2 h"),
        (30.0, {}, ""),
        (None, {}, ""),
        (5.0, {"asks": ASKS}, ASKS),
        (720.0, {"asks": ASKS}, ASKS),
        (720.0, {"asks": ASKS, "status": "completed"}, ""),
    ],
)
def test_a_running_job_in_words(silent: float | None, fields: dict[str, Any], words: str) -> None:
    story, document = silent_for(silent, **fields)
    assert activity.words(document["jobs"][0], story.at, document["gpus"]) == words


def test_a_card_of_another_host_is_not_its_own() -> None:
    story, document = silent_for(720.0, host="b")
    cards = [{**CARDS_ROW, "host": host, "util": util} for host, util in (("a", 70), ("b", 5))]
    assert activity.words(document["jobs"][0], story.at, cards).endswith("0 % CPU, GPU 0 at 5 %")


CARDS_ROW = {"index": 0, "util": None}


def test_a_row_of_an_older_manager_says_nothing() -> None:
    story, document = silent_for()
    for name in ("last_output", "silent_s", "cpu", "asks"):
        del document["jobs"][0][name]
    assert fault(document) is None
    assert activity.words(document["jobs"][0], story.at, document["gpus"]) == ""
    assert _why(story, document)["silent_s"] is None


def _lines(story: Story, document: dict[str, Any]) -> list[str]:
    scene = Scene(document, digest.digest(document), True, story.at, lambda _row: "epoch 3/10")
    return [line.plain.rstrip() for line in frame.frame(scene, 120, 30)]


def _why(story: Story, document: dict[str, Any]) -> dict[str, Any]:
    return explain.explain(document, Dependencies(story.manifest), "a", [], [], story.at)


def test_a_silent_job_is_shown_with_its_last_words_and_explained() -> None:
    story, document = silent_for(720.0)
    assert " a  1.0 s  GPU 0  silent for 12 min, 0 % CPU, GPU 0 at 0 %: epoch 3/10" in _lines(story, document)
    found = _why(story, document)
    expected = "running for 1.0 s on GPU 0, attempt 1; silent for 12 min, 0 % CPU, GPU 0 at 0 %"
    assert (found["because"], found["silent_s"], found["cpu"], found["asks"]) == (expected, 720.0, 0.2, None)
    table = frame.jobs_table(document["jobs"], 200, story.at)
    assert table[1].plain.rstrip().endswith("silent for 12 min, 0 % CPU")


def test_a_job_that_waits_for_an_answer_is_shown_and_the_way_to_answer_is_reported() -> None:
    story, document = silent_for(5.0, asks=ASKS)
    assert f" a  1.0 s  GPU 0  {ASKS}" in _lines(story, document)
    found = _why(story, document)
    assert found["because"] == f"running for 1.0 s on GPU 0, attempt 1; {ASKS}"
    assert found["next"] == [
        f"answer on its terminal: wavequeue attach a --run {RUN_ID}",
        f"or end it: wavequeue cancel a --run {RUN_ID}",
    ]
