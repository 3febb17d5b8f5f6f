"""Whether the jobs of a phase ran the same code is told, and what hosts have a copy of."""

from __future__ import annotations

from queue_manager.core import events as ev
from skill.reports import explain, report
from skill.runs import code_versions, digest
from skill.runs.code_versions import Push
from skill.terminal import frame
from tests.skill.story import Story, job, manifest


def edited() -> Story:
    """The code is edited between two jobs of one phase."""
    story = Story(manifest(job("a"), job("b"), job("c"), job("x", "other")))
    story.start("a").tell(ev.CodeSeen("one")).end("a")
    story.start("x").end("x").start("b").end("b", "failed_other", error="broke", due=story.at)
    looked = story.at
    return story.tell_retry("b").start("b").tell(ev.CodeSeen("one+two", looked)).end("b").start("c")


def test_status_and_report_say_when_jobs_of_a_phase_ran_different_code() -> None:
    story = edited()
    document = story.document()
    assert [row["code"] for row in document["jobs"]] == ["one", "one+two", "one+two", "one"]
    assert [row["codes"] for row in document["phases"]] == [{"one": 1, "one+two": 2}, {"one": 1}]
    scene = frame.Scene(document, digest.digest(document), True, story.at, lambda _row: "")
    text = "\n".join(line.plain for line in frame.frame(scene, 200, 60))
    assert text.count("2 versions of the code") == 1
    made = report.report(document, {}, [], lambda _row: "", story.at)
    assert made["phases"][0]["codes"] == {"one": 1, "one+two": 2}
    lines = report.markdown(made).splitlines()
    assert "- main: not all jobs ran the same code: 1 job ran `one`; 2 jobs ran `one+two`" in lines
    assert "- other: 1 job ran `one`" in lines


def test_why_tells_which_attempt_ran_which_code() -> None:
    story = edited()
    tries = explain.attempts(story.records, "b")
    assert [row["code"] for row in tries] == ["one", "one+two"]
    assert [row["code"] for row in explain.attempts(story.records, "c")] == ["one+two"]
    assert all("began" not in row for row in tries)


def test_where_nothing_is_known_of_the_code_nothing_is_reported() -> None:
    story = Story(manifest(job("a"))).complete("a")
    document = story.document()
    del document["phases"][0]["codes"]  # as older managers write it
    assert code_versions.mixed(document["phases"][0]) is None
    assert code_versions.report_lines(document["phases"], {}) == []


def test_what_was_pushed_to_a_host_is_named_with_its_time() -> None:
    pushes = {"gpu-a": [Push("one", "2026-01-01T10:00:00Z"), Push(None, "2026-01-01T11:00:00Z")], "gpu-b": []}
    (line,) = code_versions.report_lines([], pushes)
    assert line.startswith(
        "- gpu-a has a copy that was pushed from here: `one` at 2026-01-01T10:00:00Z, then code that "
    )
    assert line.endswith(" at 2026-01-01T11:00:00Z")
