"""What every door to a run gives, wherever the run lives: on this machine, and on a host over a fake way to it.

`check_finished` is also held against a real run over sshd (see tests/e2e/test_submit.py).
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import facts
from queue_manager.core.requests import Answer, Request
from queue_manager.remote import control
from skill.common.errors import FailedError, UseError
from skill.hosts.connection import Host, Unreachable
from skill.hosts.registry import Worker
from skill.runs import assignment, local_manager, logs, requests
from skill.runs.access import RunAccess
from skill.runs.assignment import SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from skill.runs.local import LocalRun
from skill.runs.open import open_run
from skill.runs.remote import RemoteRun
from skill.runs.requests import Asked
from tests.skill.story import RUN_ID, Story, job, manifest

Open = Callable[[Path], RunAccess]


class Hosted(RemoteRun):
    """A run on one host, whose answers come from the host's own code in this process."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        super().__init__(Run.at(root), Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", (PART,)))

    def way(self, name: str) -> Host | Unreachable:
        return Host(Worker(name), Path("/nowhere/known_hosts"))

    def refresh(self) -> None:
        self._ways = {"gpu-a": self.way("gpu-a")}

    def call(self, name: str, request: Mapping[str, Any], timeout: float = 0.0) -> Any:  # noqa: ARG002
        return json.loads(json.dumps(control.answer(f"{self.folder}", request)))


PART = Part("gpu-a", ("a", "b"), SUBMITTED, workspace="w", cwd="w", python="python3", runtime="r")


def here(root: Path) -> RunAccess:
    tell(root / RUN_ID)
    return LocalRun(Run.at(root / RUN_ID))


def on_a_host(root: Path) -> RunAccess:
    home = root / "home" / RUN_ID
    home.mkdir(parents=True)
    Story(MANIFEST, home).write()
    tell(root / "host" / RUN_ID)
    there = Hosted(home, root / "host" / RUN_ID)
    there.refresh()
    return there


MANIFEST = manifest(job("a", expected_output="a.json"), job("b"))


def tell(root: Path) -> None:
    """A run in which `a` completed and `b` runs."""
    story = Story(MANIFEST, root).complete("a").start("b")
    story.write()
    story.paths.log("a").write_bytes(b"epoch 1\nepoch 2\nsaved a.json\n")
    story.paths.log("b").write_bytes(b"begin\n 10%\r 20%\n")


@pytest.fixture(params=[here, on_a_host])
def access(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunAccess:
    monkeypatch.setattr(facts, "holder", lambda _lock: facts.Holder(1, ""))
    monkeypatch.setattr(local_manager, "is_alive", lambda _run: True)
    made: RunAccess = request.param(tmp_path)
    return made


def check_finished(there: RunAccess, name: str, line: str) -> None:
    """What a door gives of a run that has ended, in which job `name` completed and wrote `line` last into its log, or
    nothing."""
    with there:
        document = there.look(full=True)
        assert not there.alive(document) or document["meta"]["manager"] == "finished"
        check_completed(there, name, line)
        with contextlib.closing(there.watch()) as followed:
            followed.look(at_once=True)
            assert followed.over


def check_completed(there: RunAccess, name: str, line: str) -> None:
    """What a door gives of a job that has completed."""
    last = [line] if line else []
    row = next(row for row in there.look(full=True)["jobs"] if row["id"] == name)
    assert row["status"] == "completed"
    known = there.evidence(name, 10)
    assert list(known.log[-1:]) == last
    assert logs.last_lines(there, name, 1) == last
    assert {spec.id for spec in known.manifest.jobs} >= {name}
    assert [type(record.event).__name__ for record in known.records][-1] == "AttemptEnded"
    for follow in (False, True):
        found = there.log(name, None, None, follow=follow)
        pieces = list(found.pieces)
        assert b"".join(piece.data for piece in pieces).decode().splitlines()[-1:] == last
        assert any(piece.note for piece in pieces) == follow
        assert f"job {name}" in found.about[-1]


def test_a_completed_job_is_reported_alike(access: RunAccess) -> None:
    with access:
        check_completed(access, "a", "saved a.json")


def test_the_state_has_every_job_and_the_last_lines_of_what_runs(access: RunAccess) -> None:
    with access:
        document = access.look()
        assert {row["id"]: row["status"] for row in document["jobs"]} == {"a": "completed", "b": "running"}
        assert access.alive(document)
        (row,) = (row for row in document["jobs"] if row["id"] == "b")
        assert access.tail(row) == "20%"
        assert {spec.id for spec in access.manifest.jobs} == {"a", "b"}
        assert not access.begin(), "its manager has begun"


def test_a_log_is_given_by_attempt_and_by_lines(access: RunAccess) -> None:
    with access:
        assert b"".join(piece.data for piece in access.log("a", 1, 2, follow=False).pieces) == (
            b"epoch 2\nsaved a.json\n"
        )
        with pytest.raises((UseError, FailedError), match="attempt 7"):
            list(access.log("a", 7, None, follow=False).pieces)


@pytest.mark.parametrize(
    "ask", [lambda there: there.evidence("c", 10), lambda there: there.log("c", None, None, follow=False)]
)
def test_a_job_that_does_not_exist_is_refused_with_the_nearest(
    access: RunAccess, ask: Callable[[RunAccess], Any]
) -> None:
    with access, pytest.raises(UseError, match="there is no job c"):
        ask(access)


def test_the_journal_is_reported_as_far_as_it_is_here(access: RunAccess, tmp_path: Path) -> None:
    needles = ['"AttemptEnded"']
    with access:
        if access.names:
            assert access.history(needles) == {"gpu-a": []}, "nothing was pulled"
            folder = assignment.host_folder(access.run, "gpu-a")
            folder.mkdir(parents=True)
            shutil.copy(tmp_path / "host" / RUN_ID / "journal.jsonl", folder)
        (records,) = access.history(needles).values()
        assert [type(record.event).__name__ for record in records] == ["AttemptEnded"]
        if access.names:
            (folder / "journal.jsonl").write_text('{"AttemptEnded" is not JSON\n')
            assert access.history(needles) == {}


def test_what_completed_jobs_wrote_is_counted_or_said_to_be_away(access: RunAccess) -> None:
    with access:
        found = access.results(access.look(full=True))
        assert found.found == {"a": 0}
        assert found.numbers == {}
        assert found.away == (("a",) if access.names else ())


@pytest.mark.parametrize(
    ("verb", "jobs"), [("cancel", ("b",)), ("retry", ("a",)), ("accept", ("a",)), ("pause", ()), ("resume", ())]
)
def test_a_request_reaches_the_manager_once_and_its_answer_comes_back(
    access: RunAccess, monkeypatch: pytest.MonkeyPatch, verb: str, jobs: tuple[str, ...]
) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Asked:
        asked.append(request)
        return Asked(Answer(request.id, True, "done", request.jobs), True)

    monkeypatch.setattr(requests, "ask", lambda _run, request: answer(request))
    monkeypatch.setattr(
        Hosted, "ask", lambda _self, meant, *_: {name: answer(one) for name, one in meant.items()}, raising=False
    )
    with access:
        document = access.look(full=True)
        (outcome,) = access.request(document, Request("r-1", verb, jobs), start=True)
    assert [(one.verb, one.jobs) for one in asked] == [(verb, jobs)]
    assert isinstance(outcome.asked, Asked)
    assert outcome.host == "".join(access.names)


def test_one_place_tells_where_a_run_lives(tmp_path: Path) -> None:
    tell(tmp_path / RUN_ID)
    run = Run.at(tmp_path / RUN_ID)
    assert isinstance(open_run(run), LocalRun)
    assignment.write(run, Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", (PART,)))
    (tmp_path / "workers.yaml").write_text("workers: {}\n")
    with open_run(run) as there:
        assert isinstance(there, RemoteRun)
        assert there.names == ["gpu-a"]
