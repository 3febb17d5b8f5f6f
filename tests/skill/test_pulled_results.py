"""What was pulled of a run on hosts: counted only where it is of this run, and newest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.manifest import Manifest
from queue_manager.core.overview import overview
from skill.reports import report
from skill.runs import assignment
from skill.runs.assignment import SUBMITTED, Assigned, Part, part_manifest
from skill.runs.directory import Document, Run
from skill.runs.merge import Look, merge
from skill.runs.pulled_results import PulledResults, read_results
from tests.skill.story import RUN_ID, T0, Story, job, manifest


def writes(name: str, output: str | None) -> Any:
    return job(name, expected_output=output, params={"seed": name[-1]})


MADE = manifest(
    writes("s1", "out1.json"),
    writes("s2", "out2.json"),
    writes("outside", "/elsewhere/x.json"),
    writes("silent", None),
    cwd="code",
)
PART = Part("gpu-a", ("s1", "s2", "outside", "silent"), SUBMITTED, "wavequeue/demo", "wavequeue/demo/code")


class Home:
    """A run here, and what its host had when it was pulled (`then`) and has now."""

    def __init__(self, root: Path, made: Manifest = MADE) -> None:
        self.made, self.code = made, root / "code"
        self.run = Run.at(root / "experiment_queue" / RUN_ID)
        self.run.root.mkdir(parents=True)
        self.code.mkdir()
        part = PART._replace(jobs=tuple(one.id for one in made.jobs))
        self.there = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", str(root), (part,))
        self.now = Story(part_manifest(made, part, RUN_ID), assignment.host_folder(self.run, "gpu-a"))

    def pull(self) -> None:
        self.now.write()

    def document(self, *, short: bool = False) -> Document:
        whole = self.now.document()
        look = Look("gpu-a", overview(whole) if short else whole, T0, True)
        return merge(self.there, self.made, [look], T0)

    def look(self, *, short: bool = False) -> PulledResults:
        return read_results(self.run, self.there, self.made, self.document(short=short))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def test_a_result_counts_once_it_was_pulled_since_its_job_completed(home: Home) -> None:
    (home.code / "out1.json").write_text('{"accuracy": 0.1}')
    home.now.complete("s1")
    assert home.look().away == ("s1",), "the file is of an earlier run"
    home.pull()
    assert home.look() == PulledResults({"s1": 1}, {"s1": {"accuracy": 0.1}}, (), home.look().logs)
    (home.code / "out1.json").unlink()
    assert (home.look().found, home.look().away) == ({"s1": 0}, ("s1",))


def test_a_file_that_is_older_than_the_attempt_is_of_another_run(home: Home) -> None:
    (home.code / "out1.json").write_text('{"accuracy": 0.1}')
    home.now.complete("s1")
    home.pull()
    os.utime(home.code / "out1.json", (T0 - 60, T0 - 60))
    assert (home.look().found, home.look().away) == ({"s1": 0}, ("s1",))
    home.there = home.there._replace(pulled={"gpu-a": "2025-12-31T00:00:00.000Z"})
    assert home.look().found == {"s1": 1}, "the clock there is ahead, and says nothing of the time of a file"


def test_what_is_not_pulled_from_where_it_lies_is_not_asked_for(home: Home) -> None:
    home.now.complete("outside", "silent")
    assert home.look()[:3] == ({}, {}, ())


def test_jobs_that_a_short_form_leaves_out_are_known_by_what_was_pulled(tmp_path: Path) -> None:
    names = [f"s{n}" for n in range(100)]
    home = Home(tmp_path, manifest(*(writes(name, f"{name}.json") for name in names), cwd="code"))
    home.now.complete(*names)
    home.pull()
    for name in names:
        (home.code / f"{name}.json").write_text("{}")
    assert len(home.document(short=True)["jobs"]) < 100
    assert sum(home.look(short=True).found.values()) == 100


def test_only_the_log_of_the_newest_attempt_tells_of_a_failure(home: Home) -> None:
    home.now.start("s1").end("s1", "stuck", error="broke")
    home.pull()
    assert home.look().logs == {"s1": assignment.host_folder(home.run, "gpu-a") / "logs" / "s1.log"}
    home.now.tell(ev.JobRetried("s1")).start("s1").end("s1", "stuck", error="broke")
    assert home.look().logs == {}


def test_the_report_says_for_each_host_what_has_not_been_pulled(home: Home) -> None:
    home.now.complete("s1", "s2")
    found = home.look()
    made = report.report(home.document(), found.found, [], lambda _: "", T0, found.away)
    (row,) = made["hosts"]
    assert (row["name"], row["manager"], row["jobs"], row["not_pulled"], row["last_pull"]) == (
        "gpu-a", "running", 4, 2, None,
    )  # fmt: skip
    assert made["not_pulled"] == ["s1", "s2"]
    assert json.loads(json.dumps(made)) == made
    text = report.markdown(made)
    assert "| gpu-a | running | 4 | 2 | 2 | never |" in text
    assert "2 completed jobs' results have not been pulled yet" in text
    assert f"`wavequeue pull --run {RUN_ID}`" in text
