"""Which jobs are meant, and that a request arrives whole."""

from __future__ import annotations

import os
import select as poll
import threading
from pathlib import Path

import pytest

from queue_manager.core.layout import RunPaths
from queue_manager.core.requests import Answer, Request, decode_request, encode_answer
from skill import inbox
from skill.errors import UseError
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
    assert inbox.select(story.document(), patterns) == ids


def test_a_phase_and_statuses_choose_what_fits_both(story: Story) -> None:
    document = story.document()
    assert inbox.select(document, (), "teachers") == ("t1", "t2")
    assert inbox.select(document, (), None, frozenset({"stuck"})) == ("t2",)
    assert inbox.select(document, (), "students", frozenset({"stuck"})) == ()


def test_all_that_is_unknown_is_named_at_once_with_the_nearest(story: Story) -> None:
    with pytest.raises(UseError) as caught:
        inbox.select(story.document(), ["t1", "s1_t3", "q*"], "teacher")
    text = str(caught.value)
    assert "there is no job s1_t3; did you mean s1_t" in text
    assert "there is no job q*" in text
    assert "there is no phase teacher; did you mean teachers?" in text


def test_one_job_has_to_be_named_exactly(story: Story) -> None:
    assert inbox.one(story.document(), "t2")["status"] == "stuck"
    with pytest.raises(UseError, match="did you mean t1"):
        inbox.one(story.document(), "T1")


def test_a_request_is_whole_and_rings_the_bell(tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path)
    os.mkfifo(paths.bell)
    listener = os.open(paths.bell, os.O_RDWR | os.O_NONBLOCK)
    request = Request(inbox.new_id("cancel"), "cancel", ("a", "b"))
    inbox.send(paths, request)
    assert poll.select([listener], [], [], 0)[0]
    os.close(listener)
    assert [path.name for path in paths.inbox.iterdir()] == [f"{request.id}.json"]
    assert decode_request(paths.request(request.id).read_text()) == request


@pytest.mark.parametrize("bell", ["absent", "nobody listens"])
def test_a_request_is_left_where_nobody_hears_the_bell(tmp_path: Path, bell: str) -> None:
    paths = RunPaths.of(tmp_path)
    if bell != "absent":
        os.mkfifo(paths.bell)
    inbox.send(paths, Request("pause-1", "pause"))
    assert paths.request("pause-1").exists()
    assert not paths.bell.is_file()


def test_the_answer_is_waited_for(tmp_path: Path) -> None:
    paths = RunPaths.of(tmp_path)
    paths.answer("x").parent.mkdir()
    answer = Answer("x", True, "paused")
    threading.Timer(0.05, lambda: paths.answer("x").write_text(encode_answer(answer))).start()
    assert inbox.wait(paths, Request("x", "pause"), lambda: True, patience=30) == answer


def test_no_answer_comes_from_a_manager_that_has_gone(tmp_path: Path) -> None:
    assert inbox.wait(RunPaths.of(tmp_path), Request("x", "pause"), lambda: False, patience=30) is None
    assert inbox.wait(RunPaths.of(tmp_path), Request("x", "pause"), lambda: True, patience=0) is None
