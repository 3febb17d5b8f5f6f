"""Attempts and GPU-hours of a run, from its journal or else from its state."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import events as ev
from skill.reports import gpu_time
from skill.reports.gpu_time import Attempt
from tests.skill.story import T0, Story, job, manifest


def gpu_story() -> Story:
    """a runs out of memory and completes, b fails for good on the same GPU, c runs on two."""
    story = Story(manifest(job("a", gpus=1), job("b", gpus=1), job("c", gpus=2)))
    story.start("a", 0).end("a", "failed_oom", failure="oom", error="out of memory", due=story.at).tell_retry("a")
    story.start("a", 1).end("a")
    story.start("b", 0).end("b", "stuck", failure="exit_code", error="exit code 1")
    return story.start("c", 0, 1)


def test_every_attempt_of_the_journal_is_reported_with_how_it_ended() -> None:
    story = gpu_story()
    found = gpu_time.attempts({"": story.records}, story.document()["jobs"], story.at)
    assert [(one.job, one.n, one.gpus, one.outcome) for one in found] == [
        ("a", 1, (0,), gpu_time.OOM),
        ("a", 2, (1,), gpu_time.COMPLETED),
        ("b", 1, (0,), gpu_time.FAILED),
        ("c", 1, (0, 1), gpu_time.RUNNING),
    ]
    assert [one.end - one.start for one in found[:3]] == [2.0, 2.0, 2.0]
    assert found[3].end == story.at
    assert found[0].error == "out of memory"


def test_without_the_journal_the_newest_attempts_are_known_from_the_state() -> None:
    story = gpu_story()
    found = gpu_time.attempts({}, story.document()["jobs"], story.at)
    assert [(one.job, one.n, one.outcome) for one in found] == [
        ("a", 2, gpu_time.COMPLETED),
        ("b", 1, gpu_time.FAILED),
        ("c", 1, gpu_time.RUNNING),
    ]


def test_attempts_that_came_to_nothing_are_grouped_with_what_they_cost() -> None:
    made = [
        attempt("a", 0, 3600, gpu_time.OOM, 0, 1)._replace(error="out of memory at 3 MiB"),
        attempt("b", 0, 1800, gpu_time.OOM)._replace(error="out of memory at 42 MiB"),
        attempt("a", 0, 900, gpu_time.FAILED)._replace(error="exit code 1"),
        attempt("a", 0, 9000),
        attempt("c", 0, 9000, gpu_time.RUNNING),
    ]
    assert gpu_time.failures(made, {"a"}) == [
        gpu_time.Failure(gpu_time.OOM, "out of memory at 3 MiB", 2, 2.5, ["a", "b"], 1),
        gpu_time.Failure(gpu_time.FAILED, "exit code 1", 1, 0.25, ["a"], 1),
    ]


def test_an_attempt_that_something_else_ended_was_cut_off() -> None:
    story = (
        Story(manifest(job("a", gpus=1))).start("a", 0).end("a", "pending", charged=False, error="the host went down")
    )
    story.start("a", 0)
    found = gpu_time.attempts({"": story.records}, story.document()["jobs"], story.at)
    assert [one.outcome for one in found] == [gpu_time.CUT_OFF, gpu_time.RUNNING]


def attempt(name: str, start: float, end: float, outcome: str = gpu_time.COMPLETED, *gpus: int) -> Attempt:
    return Attempt(name, 1, "", gpus or (0,), start, end, outcome, "")


@pytest.mark.parametrize(
    ("attempts", "useful", "wasted", "idle"),
    [
        ([], 0, 0, 10),
        ([attempt("a", 0, 4), attempt("b", 4, 10)], 10, 0, 0),
        ([attempt("a", 1, 3, gpu_time.OOM), attempt("a", 5, 9)], 4, 2, 4),
        ([attempt("a", 0, 6), attempt("b", 2, 8)], 8, 0, 2),  # two share the GPU: its hours count once
        ([attempt("a", 0, 6), attempt("b", 4, 9, gpu_time.FAILED)], 6, 3, 1),
        ([attempt("a", 0, 4, gpu_time.CANCELLED), attempt("b", 1, 2, gpu_time.CUT_OFF)], 0, 4, 6),
        ([attempt("a", 7, 12)], 3, 0, 7),  # beyond the end of what is looked at
        ([attempt("a", 2, 5, gpu_time.RUNNING, 0, 1)], 3, 0, 7),
    ],
)
def test_the_hours_of_a_gpu_are_used_wasted_or_idle(
    attempts: list[Attempt], useful: float, wasted: float, idle: float
) -> None:
    lane = gpu_time.lanes(attempts, [card(0)])[0]
    found = gpu_time.hours(lane, 0.0, 10.0)
    assert [round(value * 3600, 6) for value in found] == [useful, wasted, idle]
    assert found.total * 3600 == pytest.approx(10)


def card(index: int, note: str = "", **more: Any) -> dict[str, Any]:
    return {"index": index, "note": note, **more}


def test_each_gpu_has_a_lane_with_a_row_for_each_attempt_beside_another() -> None:
    made = [attempt("a", 0, 4), attempt("b", 2, 6), attempt("c", 4, 8), attempt("d", 0, 1, gpu_time.COMPLETED, 3)]
    found = gpu_time.lanes(made, [card(0), card(1), card(2, "not among the GPUs of this run")])
    assert [(lane.name, lane.rows) for lane in found] == [("GPU 0", 2), ("GPU 1", 1), ("GPU 3", 1)]
    assert [(one.job, row) for one, row in found[0].bars] == [("a", 0), ("b", 1), ("c", 0)]


def test_jobs_without_a_gpu_have_a_lane_of_their_own() -> None:
    story = Story(manifest(job("a"), job("b"))).start("a").start("b").end("a").end("b")
    made = gpu_time.attempts({"": story.records}, story.document()["jobs"], story.at)
    (lane,) = gpu_time.lanes(made, [])
    assert (lane.name, lane.gpu, lane.rows) == ("CPU", None, 2)


def test_gpus_of_several_hosts_are_distinguished_and_priced_by_their_own() -> None:
    made = [one._replace(host=host) for host in ("x", "y") for one in (attempt("a", 0, 4), attempt("b", 0, 4, "", 1))]
    found = gpu_time.lanes(made, [card(0, host="x"), card(1, host="x")])
    assert [lane.name for lane in found] == ["x GPU 0", "x GPU 1", "y GPU 0", "y GPU 1"]
    hosts = [{"name": "x", "teardown": {"usd_per_hour": 3.0}}, {"name": "y", "teardown": None}]
    prices = [gpu_time.gpu_price({"meta": {"hosts": hosts}}, lane, found) for lane in found]
    assert prices == [1.5, 1.5, None, None]
    assert gpu_time.gpu_price({"meta": {"teardown": {"usd_per_hour": None}}}, found[0]._replace(host=""), found) is None


def test_a_removed_job_of_the_journal_is_passed_over() -> None:
    story = gpu_story()
    rows = [row for row in story.document()["jobs"] if row["id"] != "a"]
    assert {one.job for one in gpu_time.attempts({"": story.records}, rows, T0)} == {"b", "c"}
    assert isinstance(story.records[0].event, ev.RunStarted)
