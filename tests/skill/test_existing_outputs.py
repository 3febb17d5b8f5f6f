"""What is said of outputs that are there and of runs that go on, and which outputs stand for their jobs."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.manifest import JobSpec
from queue_manager.core.requests import Request, decode_request
from skill.common.errors import FailedError
from skill.planning import existing_outputs
from skill.planning.existing_outputs import Earlier, Found, Skips, skips
from skill.runs import live_runs
from skill.runs.live_runs import LiveRun
from tests.core.states import manifest

CODE = ("/code/train.py", 100.0)


def job(name: str, cmd: str = "python train.py", **fields: Any) -> JobSpec:
    return JobSpec(name, f"{cmd} {name}", "p", expected_output=f"{name}.pt", **fields)


def test_an_output_stands_for_its_job_if_it_is_newer_than_the_code_and_the_spec() -> None:
    found = Found({"old": 99.0, "same": 100.0, "edited": 150.0, "new": 201.0}, 0, ())
    jobs = [job(name) for name in ("old", "same", "edited", "new", "absent")]
    assert skips(jobs, found, CODE, 200.0, []) == Skips(("new",), ("old", "same"), ("edited",))


@pytest.mark.parametrize(
    ("before", "done"),
    [
        ([Earlier(120.0, manifest(job("a")))], True),
        ([Earlier(120.0, manifest(job("b"))), Earlier(110.0, manifest(job("a")))], True),
        ([Earlier(120.0, manifest(job("a", "python train.py --lr 1")))], False),
        ([Earlier(120.0, manifest(job("a", env={"LR": "1"}))), Earlier(110.0, manifest(job("a")))], False),
        ([Earlier(160.0, manifest(job("a")))], False),
    ],
    ids=["the same command", "the newest that had it", "another command", "another environment", "begun later"],
)
def test_a_spec_that_was_edited_since_is_no_matter_where_an_earlier_run_had_the_same_job(
    before: list[Earlier], done: bool
) -> None:
    found = Found({"a": 150.0}, 0, ())
    assert skips([job("a")], found, CODE, 200.0, before).done == (("a",) if done else ())


def test_without_a_source_file_outputs_are_compared_with_the_spec_alone() -> None:
    found = Found({"old": 150.0, "new": 201.0}, 0, (), ("", 0.0))
    code = existing_outputs.newest_code(found)
    chosen = skips([job("old"), job("new")], found, code, 200.0, [])
    assert chosen == Skips(("new",), (), ("old",))
    assert any("no source file in the cwd" in line for line in existing_outputs.skip_words(chosen, code))


def test_what_a_machine_told_is_read_or_nothing_of_it() -> None:
    live = {"run_id": "r", "pid": 7, "same": True, "shared": ["/x"], "shared_count": 1}
    document: dict[str, Any] = {
        "existing": {"outputs": [["a", 5]], "outputs_untried": 2, "live": [live]},
        "newest_code": {"path": "/code/train.py", "at": 100},
    }
    assert existing_outputs.read(document) == Found({"a": 5.0}, 2, (LiveRun("r", 7, True, ("/x",), 1),), CODE)
    assert existing_outputs.read({}) is None
    wrong: list[dict[str, Any]] = [
        {"outputs": 5}, {"live": [{}]}, {"live": [{**live, "pid": "x"}]}, {"outputs_untried": None},
    ]  # fmt: skip
    for broken in wrong:
        assert existing_outputs.read({**document, "existing": {**document["existing"], **broken}}) is None


def test_the_request_is_one_that_a_manager_reads() -> None:
    assert decode_request(existing_outputs.request_text(["a", "b"])) == Request("skip-done", "skip", ("a", "b"))


def test_what_is_reported_of_outputs_that_are_there() -> None:
    jobs = [job("a"), job("b"), JobSpec("c", "x", "p")]
    assert existing_outputs.words(Found({}, 0, ()), jobs) == []
    (line,) = existing_outputs.words(Found({"a": 1.0}, 0, ()), jobs, "on gpu-a")
    assert line.startswith("1 of 2 outputs already exists on gpu-a, and its job runs anyway; --skip-done ")
    assert existing_outputs.words(Found({}, 1, ()), jobs) == [
        "1 outputs were not checked here: the file system is slow"
    ]
    with pytest.raises(FailedError, match="leave out --skip-done"):
        existing_outputs.newest_code(Found({}, 0, ()))


def test_a_run_with_the_same_jobs_is_refused_by_its_name() -> None:
    other = LiveRun("r1", 7, False, ("/x",), 1)
    assert live_runs.refusal([other], "spec.yaml") is None
    refused = live_runs.refusal([other, LiveRun("r2", 7, True, (), 0)], "spec.yaml", "on gpu-a") or ""
    for part in ("r2 is live on gpu-a", "wavequeue watch --run r2", "wavequeue add spec.yaml --run r2", "--again"):
        assert part in refused
    assert "wavequeue resume --run r3" in (live_runs.refusal([LiveRun("r3", None, True, (), 0)], "s") or "")


def test_outputs_that_two_live_runs_share_are_named() -> None:
    (line,) = live_runs.warnings([LiveRun("r", 1, False, ("/a", "/b", "/c", "/d"), 9), LiveRun("q", 1, True, (), 0)])
    assert line.startswith("r, which is live here, also writes 9 outputs of this run: /a, /b, /c and 6 more")
