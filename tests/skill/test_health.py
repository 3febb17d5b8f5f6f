"""How running jobs do, as people read it: step, rate, time left, loss, and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from skill.reports import explain
from skill.runs import digest, health
from skill.runs.dependencies import Dependencies
from skill.runs.state_schema import fault
from skill.terminal import frame
from skill.terminal.frame import Scene
from tests.skill.story import Story, job, manifest

WELL = {
    "step": 1200, "total": 5000, "rate": 12.5, "eta_s": 304.0, "loss": 0.31234, "util": 90.0, "mem_mib": 9000,
    "flags": [],
}  # fmt: skip
NAN = {"kind": "nan", "text": "the loss is nan at step 14", "line": "loss nan", "since": "2026-01-01T00:00:00.000Z"}
NOTHING = dict.fromkeys(WELL, None) | {"flags": []}


def running(*healths: dict[str, Any] | None) -> tuple[Story, dict[str, Any]]:
    """A run whose jobs a, b, … all run, and do as given."""
    names = "abcdef"[: len(healths)]
    story = Story(manifest(*(job(name) for name in names)))
    for name in names:
        story.start(name)
    document = story.document()
    for row, one in zip(document["jobs"], healths, strict=True):
        row["health"] = one
    assert fault(document) is None
    return story, document


def lines(story: Story, document: dict[str, Any], width: int) -> list[str]:
    scene = Scene(document, digest.digest(document), True, story.at, lambda _row: "its last line")
    shown = [line.plain.rstrip() for line in frame.frame(scene, width, 30)]
    return shown[shown.index("running") + 1 :]


def test_a_wide_screen_has_a_column_for_each_and_a_dash_for_what_is_not_known() -> None:
    story, document = running(WELL, NOTHING, {**NOTHING, "step": 7, "flags": [NAN]})
    shown = lines(story, document, 120)
    assert [line.split("cpu  ")[1] for line in shown] == [
        "1200/5000  12.5/s  5m left  loss 0.3123  its last line",
        "-          -       -        -            its last line",
        "7          -       -        -            nan: the loss is nan at step 14",
    ]


def test_a_screen_of_80_columns_says_first_what_is_wrong() -> None:
    story, document = running(WELL, {**WELL, "flags": [NAN]}, NOTHING)
    shown = lines(story, document, 80)
    assert [line.split("cpu  ")[1] for line in shown] == [
        "step 1200/5000, 12.5/s, 5m left, loss 0.3123",
        "nan: the loss is nan at step 14; step 1200/5000, 12.5/s, 5m lef…",
        "its last line",
    ]
    assert max(map(len, shown)) <= 80


def test_a_run_whose_logs_tell_nothing_has_no_such_columns() -> None:
    story, document = running(NOTHING, None)
    assert [line.split("cpu  ")[1] for line in lines(story, document, 120)] == ["its last line"] * 2


def test_the_table_of_jobs_and_the_explanation_say_it_too() -> None:
    story, document = running({**WELL, "flags": [NAN]})
    says = "nan: the loss is nan at step 14; step 1200/5000, 12.5/s, 5m left, loss 0.3123"
    assert frame.jobs_table(document["jobs"], 200, story.at)[1].plain.rstrip().endswith(says)
    found = explain.explain(document, Dependencies(story.manifest), "a", [], [], story.at)
    assert found["because"].endswith(says)


def test_a_state_of_an_older_manager_is_shown_as_before() -> None:
    story, document = running(None)
    del document["jobs"][0]["health"], document["jobs"][0]["outcome"]
    assert fault(document) is None
    assert lines(story, document, 120)[0].endswith("cpu  its last line")


def test_a_job_that_was_stopped_early_says_so() -> None:
    story = Story(manifest(job("a"))).start("a").end("a", exit_code=143, outcome="stopped_early")
    assert digest.reason(story.document()["jobs"][0]) == "stopped early"


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        ({"step": 3}, ["3", "-", "-", "-"]),
        ({"step": 3, "rate": 0.4}, ["3", "2.5 s/step", "-", "-"]),
        ({"eta_s": 45.2}, ["-", "-", "45s left", "-"]),
        ({"eta_s": 7500.0}, ["-", "-", "2h05m left", "-"]),
        ({"eta_s": 273_600.0}, ["-", "-", "3d04h left", "-"]),
        ({"loss": 0.0}, ["-", "-", "-", "loss 0"]),
    ],
)
def test_each_number_in_few_characters(values: dict[str, Any], cells: list[str]) -> None:
    _, document = running({**NOTHING, **values})
    assert health.cells(document["jobs"][0]) == cells


@pytest.mark.parametrize(
    "wrong",
    [{"step": "3"}, {"loss": float("inf")}, {"flags": [{"kind": "nan"}]}, {"flags": [{**NAN, "since": "soon"}]}, []],
)
def test_a_health_that_is_none_is_refused(wrong: Any) -> None:
    story = Story(manifest(job("a"))).start("a")
    document = story.document()
    document["jobs"][0]["health"] = {**WELL, **wrong} if isinstance(wrong, dict) else wrong
    assert fault(document) is not None
