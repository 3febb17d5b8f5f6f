"""Which jobs are meant, and what is taken for an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.requests import Answer, Request, decode_request
from skill.common.errors import FailedError, UseError
from skill.runs import requests
from skill.runs.directory import Run
from skill.runs.requests import Asked
from tests.skill.story import Story, job, manifest


@pytest.fixture
def story() -> Story:
    names = ["t1", "t2", "s1_t1", "s2_t1", "s1_t2", "s10_t2"]
    made = manifest(*(job(name, "teachers" if name.startswith("t") else "students") for name in names))
    return Story(made).complete("t1").start("t2").end("t2", "stuck", error="broke")


@pytest.mark.parametrize(
    ("patterns", "ids"),
    [
        (["t1"], ("t1",)),
        (["s1_t2", "t1"], ("t1", "s1_t2")),
        (["s1*"], ("s1_t1", "s1_t2", "s10_t2")),
        (["s?_*"], ("s1_t1", "s2_t1", "s1_t2")),
        (["t1", "t*"], ("t1", "t2")),
    ],
)
def test_ids_and_patterns_choose_jobs_in_the_order_of_the_manifest(
    story: Story, patterns: list[str], ids: tuple[str, ...]
) -> None:
    assert requests.select(story.document(), patterns) == ids


def test_a_phase_and_statuses_choose_what_fits_both(story: Story) -> None:
    document = story.document()
    assert requests.select(document, (), "teachers") == ("t1", "t2")
    assert requests.select(document, (), None, frozenset({"stuck"})) == ("t2",)
    assert requests.select(document, (), "students", frozenset({"stuck"})) == ()


def test_all_that_is_unknown_is_named_at_once_with_the_nearest(story: Story) -> None:
    with pytest.raises(UseError) as caught:
        requests.select(story.document(), ["t1", "s1_t3", "q*"], "teacher")
    text = str(caught.value)
    assert "there is no job s1_t3; did you mean s1_t" in text
    assert "there is no job q*" in text
    assert "there is no phase teacher; did you mean teachers?" in text


def test_one_job_has_to_be_named_exactly(story: Story) -> None:
    assert requests.one(story.document(), "t2")["status"] == "stuck"
    with pytest.raises(UseError, match="did you mean t1"):
        requests.one(story.document(), "T1")


def test_what_is_no_answer_to_the_request_is_not_taken_for_one() -> None:
    request = Request("x", "pause")
    sound: dict[str, Any] = {"id": "x", "ok": True, "text": "paused", "jobs": []}
    assert requests.read_answer({"answer": sound, "alive": True}, request) == Asked(Answer("x", True, "paused"), True)
    assert requests.read_answer({"answer": None, "alive": False}, request) == Asked(None, False)
    wrongs: list[Any] = [3, {}, {**sound, "id": "y"}, {**sound, "text": 1}]
    for wrong in wrongs:
        assert (
            requests.read_answer({"alive": True, "answer": wrong}, request)
            == "what it sent does not answer the request"
        )
    odd = requests.read_answer({"answer": {**sound, "ok": "no", "text": "\x1b[2Jgone"}, "alive": 1}, request)
    assert odd == Asked(Answer("x", False, r"\x1b[2Jgone"), False)


def test_a_run_whose_directory_has_gone_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(FailedError, match="could not be asked: run gone does not exist"):
        requests.ask(Run.at(tmp_path / "gone"), Request("x", "pause"))


def test_a_request_that_nobody_takes_is_left_for_the_next_manager(tmp_path: Path) -> None:
    run = Run.at(tmp_path)
    request = Request(requests.new_id("cancel"), "cancel", ("a", "b"))
    assert requests.ask(run, request) == Asked(None, False)
    assert decode_request(run.paths.request(request.id).read_text()) == request
