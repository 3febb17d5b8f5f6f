"""What a host says is looked through before it is kept, and kept for when it cannot be reached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.manifest import Phase, encode
from queue_manager.core.overview import overview
from skill.runs import digest, directory, state_cache
from skill.runs.directory import Run
from skill.runs.state_cache import HostSnapshot, Kept
from tests.skill.story import Story, job, manifest

STORY = Story(manifest(job("a"), job("b"))).complete("a").start("b")


def added(*names: str, phase: str = "more", **fields: Any) -> str:
    """The journal's line about jobs that were added."""
    specs = tuple(job(name, phase, **fields) for name in names)
    return ev.encode(Record(9, 1.0, ev.JobsAdded((Phase("more"),), {}, specs)))


def answer(**changed: Any) -> dict[str, Any]:
    tails = {"b": "epoch 1\r\x1b[1mepoch 2\n"}
    return {"state": STORY.document(), "alive": True, "tails": tails, "added": [added("c")], **changed}


def test_an_answer_is_taken_with_what_a_person_wants_of_it() -> None:
    assert state_cache.parse_snapshot(answer()) == HostSnapshot(STORY.document(), True, {"b": "epoch 2"}, (added("c"),))
    assert state_cache.parse_snapshot(answer(state=None)) == HostSnapshot(None, True, {"b": "epoch 2"}, (added("c"),))


@pytest.mark.parametrize(("gone", "kept"), [(1, 1), (0, 0), (None, None), (3, None), (-1, None), (True, None)])
def test_how_many_jobs_of_a_dead_manager_have_gone_is_kept_where_it_can_be(gone: Any, kept: int | None) -> None:
    found = state_cache.parse_snapshot(answer(alive=False, gone=gone))
    assert isinstance(found, HostSnapshot)
    assert found.document is not None
    assert found.document["meta"].get(digest.GONE) == kept


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": {"meta": {}}},
        {"state": []},
        {"alive": "yes"},
        {"tails": ["x"]},
        {"tails": {"b": 3}},
        {"added": ["{}"]},
        {"added": [3]},
        {"added": [added("../../x")]},
        {"added": [ev.encode(Record(1, 1.0, ev.Paused()))]},
    ],
)
def test_what_is_no_answer_is_refused_in_words(wrong: dict[str, Any]) -> None:
    found = state_cache.parse_snapshot(answer(**wrong))
    assert isinstance(found, str)
    assert found.startswith("what it sent is not a")


def test_nothing_that_a_host_writes_reaches_the_terminal_as_a_command(tmp_path: Path) -> None:
    document = STORY.document()
    document["jobs"][1]["error"] = "\x1b]0;title\x07 two\nlines \x9b2J \ud800"
    found = state_cache.parse_snapshot(answer(state=document))
    assert isinstance(found, HostSnapshot)
    assert found.document is not None
    assert found.document["jobs"][1]["error"] == r"\x1b]0;title\x07 two lines \x9b2J \ud800"
    state_cache.keep(tmp_path, found, 5.0)
    assert state_cache.recall(tmp_path) == Kept(found.document, 5.0)


def test_the_last_state_is_recalled_and_the_last_whole_one_where_every_job_is_wanted(tmp_path: Path) -> None:
    assert state_cache.recall(tmp_path / "none") is None
    short = overview(STORY.document())
    state_cache.keep(tmp_path, HostSnapshot(short, True), 1.0)
    assert state_cache.recall(tmp_path, whole=True) == Kept(short, 1.0)
    state_cache.keep(tmp_path, HostSnapshot(STORY.document(), True), 2.0)
    state_cache.keep(tmp_path, HostSnapshot(short, True), 3.0)
    assert state_cache.recall(tmp_path) == Kept(short, 3.0)
    assert state_cache.recall(tmp_path, whole=True) == Kept(STORY.document(), 2.0)
    (tmp_path / "look.json").write_text("{torn")
    assert state_cache.recall(tmp_path) is None


def test_jobs_that_were_added_on_hosts_belong_to_the_manifest(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    run.paths.manifest.write_text(encode(manifest(job("a"), job("b"))))
    for host, line in (("x", added("c", depends_on=("a",))), ("y", added("c", "d")), ("z", added("e", phase="none"))):
        state_cache.keep(tmp_path / directory.HOST_FOLDERS / host, HostSnapshot(None, True, {}, (line,)), 1.0)
    made = directory.read_manifest(run)
    assert [one.id for one in made.jobs] == ["a", "b", "c", "d"]
    assert made.jobs[2].depends_on == ("a",), "the first host that brings it has it"
    assert [phase.name for phase in made.phases] == ["main", "more"]
    assert state_cache.added(tmp_path / directory.HOST_FOLDERS / "y") == ["c", "d"]


@pytest.mark.parametrize("layout", ["ours", "any other"])
def test_an_outline_has_the_jobs_that_were_asked_for(tmp_path: Path, layout: str) -> None:
    run = Run.at(tmp_path)
    made = manifest(*(job(f"j{n}", expected_output='{"id": "j1"') for n in range(30)))
    text = encode(made)
    run.paths.manifest.write_text(text if layout == "ours" else json.dumps(json.loads(text)))
    assert directory.read_outline(run, {"j1", "j20"}) == made._replace(jobs=(made.jobs[1], made.jobs[20]))
