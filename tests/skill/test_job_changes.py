"""What of a changed spec a live run takes over."""

from __future__ import annotations

import time
from pathlib import Path

from queue_manager.core import events as ev
from skill.planning import job_changes
from skill.runs import directory
from skill.runs.directory import Run
from tests.skill.story import Story, job, manifest


def differences(before: list[object], now: list[object]) -> job_changes.Differences:
    there = {one.id: one for one in before}  # type: ignore[attr-defined]
    return job_changes.differences(there, now)  # type: ignore[arg-type]


def test_only_how_a_job_is_judged_and_ordered_can_change() -> None:
    before = [job("a"), job("b", timeout=60.0), job("c"), job("d")]
    now = [job("a", expected_output="a.pt"), job("b", priority=2), job("c", retries=1, gpus=2), job("d"), job("new")]
    found = differences(list(before), list(now))
    assert found.changes == {"a": {"expected_output": "a.pt"}, "b": {"timeout": None, "priority": 2}}
    assert found.fixed == {"c": ("gpus",)}
    refused = job_changes.refusal(found, "s.yaml", "r", update=True) or ""
    assert "c (gpus)" in refused
    assert "expected_output, timeout" in refused


def test_what_could_change_is_offered_and_what_is_the_same_is_no_matter() -> None:
    found = differences([job("a")], [job("a", timeout=5.0)])
    refused = job_changes.refusal(found, "s.yaml", "r", update=False) or ""
    assert "They differ only in timeout: change that in the run with: wavequeue add s.yaml --update --run r" in refused
    assert job_changes.refusal(found, "s.yaml", "r", update=True) is None
    assert differences([job("a")], [job("a")]) == job_changes.Differences({}, {})


def test_a_run_s_manifest_has_what_was_changed_of_its_jobs(tmp_path: Path) -> None:
    story = Story(manifest(job("a"), job("b")), tmp_path / "r")
    story.tell(ev.JobsChanged({"a": {"timeout": 60.0}}))
    story.write()
    run = Run.at(tmp_path / "r")
    assert [one.timeout for one in directory.read_manifest(run).jobs] == [60.0, None]
    directory.note_added(run, ev.JobsChanged({"b": {"expected_output": "b.pt"}}), time.time())
    assert [one.expected_output for one in directory.read_manifest(run, ours=True).jobs] == [None, "b.pt"]
