"""Logs of a job on a host: followed whatever happens there and on the way, and believed only where they are such."""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.adapters import facts
from queue_manager.core import events as ev
from queue_manager.remote import control
from skill.common.errors import FailedError
from skill.hosts.connection import Host, Unreachable
from skill.hosts.registry import Worker
from skill.runs import assignment, remote_logs
from skill.runs.assignment import SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from skill.runs.remote import RemoteRun
from skill.runs.remote_logs import Asker, Piece
from tests.skill.story import RUN_ID, Story, job, manifest

DROPPED = Unreachable("root@gpu-a dropped the connection", "dropped")
Step = Callable[[], object]


class There(RemoteRun):
    """A run on hosts whose answers come from the host's own code here; one step of `steps` is done before each.

    A step may give an Unreachable, and that is the answer.
    """

    def __init__(self, root: Path, *steps: Step | Unreachable) -> None:
        self.folders = {"gpu-a": root / "a" / RUN_ID, "gpu-b": root / "b" / RUN_ID}
        self.steps: Iterator[Step | Unreachable] = iter(steps)
        self.limit: int | None = None
        super().__init__(Run.at(root / RUN_ID), self.on("gpu-a"))

    @staticmethod
    def on(host: str) -> Assigned:
        return Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", (Part(host, ("a",), SUBMITTED),))

    def way(self, name: str) -> Host | Unreachable:
        return Host(Worker(name), Path("/nowhere/known_hosts"))

    def refresh(self) -> None:
        pass

    def call(self, name: str, request: Mapping[str, Any], timeout: float = 0.0) -> Any:  # noqa: ARG002
        step = next(self.steps, None)
        if isinstance(step, Unreachable):
            return step
        if step is not None:
            step()
        return json.loads(json.dumps(control.answer(f"{self.folders[name]}", {"limit": self.limit, **request})))


@pytest.fixture(autouse=True)
def _managed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "holder", lambda _lock: facts.Holder(1, ""))


class Job:
    """Job `a` on a host: attempts begin and end, and write."""

    def __init__(self, root: Path, ids: tuple[str, ...] = ("a",)) -> None:
        root.mkdir(parents=True)
        self.story = Story(manifest(*(job(name) for name in ids)), root)
        self.written = b""
        self.publish()

    @property
    def n(self) -> int:
        return self.story.state.job("a").n

    def publish(self) -> None:
        self.story.write()
        self.published = self.n

    def begin(self) -> None:
        """The next attempt: the log of the last one is moved aside, as the manager does it. Not published."""
        paths, n = self.story.paths, self.n
        if n:
            self.story.end("a", "failed_other", error="broke", due=1e9).tell_retry("a")
        if paths.log("a").exists():
            paths.log("a").replace(paths.earlier_log("a", n, {row.id for row in self.story.manifest.jobs}))
        self.story.start("a")

    def say(self, text: bytes) -> None:
        self.written += text
        with self.story.paths.log("a").open("ab") as file:
            file.write(text)

    def end(self) -> None:
        self.story.end("a")
        self.publish()


def follow(there: There, lines: int | None = None, most: int = 500) -> tuple[bytes, list[str]]:
    """All that is printed of the log, and the notes."""
    ask = Asker(there, "a")
    data, notes = b"", []
    for piece in itertools.islice(remote_logs.follow_log(ask, lines, ask.again, lambda _seconds: None), most):
        data += piece.data
        notes += [piece.note] if piece.note else []
    return data, notes


STEPS = st.lists(
    st.sampled_from(["say", "silent", "begin", "begin silently", "publish", "drop", "nothing"]), max_size=30
)


@settings(deadline=None)  # what a disk takes says nothing of the promise
@given(STEPS, st.sampled_from([None, 1, 3]))
def test_whatever_happens_every_byte_of_every_attempt_comes_once_and_in_order(
    steps: list[str], limit: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "holder", lambda _lock: facts.Holder(1, ""))
        there = There(Path(folder))
        there.limit = limit
        one = Job(there.folders["gpu-a"])
        count = itertools.count()

        def act(step: str) -> None:
            if step.startswith("begin"):
                if one.n - one.published > 1:
                    one.publish()  # as far as the state may be behind
                one.begin()
                if step == "begin":
                    one.say(b"begin %d\n" % one.n)
            elif step == "say" and one.n:
                one.say(b"line %d\n" % next(count))
            elif step == "publish":
                one.publish()

        def script() -> Iterator[Step | Unreachable]:
            for step in steps:
                yield DROPPED if step == "drop" else partial(act, step)
            if not one.n:
                one.begin()
            yield one.end

        there.steps = script()
        data, notes = follow(there)
        assert data == one.written
        assert notes[-1] == "completed, exit code 0"


def test_attempts_that_passed_while_nobody_could_look_are_read_too(tmp_path: Path) -> None:
    there = There(tmp_path)
    one = Job(there.folders["gpu-a"], ("a", "a.1"))  # whose log is not that of the first attempt
    one.begin()
    one.say(b"first\n")
    one.publish()

    def meanwhile() -> None:
        one.say(b"its end\n")
        one.begin()  # writes nothing
        one.begin()
        one.say(b"third\n")
        one.begin()
        one.say(b"fourth\n")
        one.end()

    there.steps = iter([lambda: None, DROPPED, DROPPED, meanwhile])
    data, notes = follow(there)
    assert data == b"first\nits end\nthird\nfourth\n"
    assert notes == [
        f"unreachable: {DROPPED.reason}; trying again until it answers",
        "gpu-a is reachable again",
        "attempt 3 begins",
        "attempt 4 begins",
        "completed, exit code 0",
    ]


def test_following_begins_with_the_last_lines(tmp_path: Path) -> None:
    there = There(tmp_path)
    one = Job(there.folders["gpu-a"])
    one.begin()
    one.say(b"one\ntwo\nthree\n")
    one.publish()
    there.steps = iter([lambda: None, lambda: one.say(b"four\n"), one.end])
    assert follow(there, lines=1)[0] == b"three\nfour\n"


def test_a_job_that_goes_to_another_host_is_followed_there(tmp_path: Path) -> None:
    there = There(tmp_path)
    one, other = Job(there.folders["gpu-a"]), Job(there.folders["gpu-b"])
    one.begin()
    one.say(b"on a\n")
    one.publish()
    there.steps = iter([lambda: None, DROPPED])

    def refresh() -> None:
        there.assigned = there.on("gpu-b")
        other.begin()
        other.say(b"on b\n")
        other.end()

    there.refresh = refresh  # type: ignore[method-assign]
    data, notes = follow(there)
    assert data == b"on a\non b\n"
    assert notes[1:] == ["gpu-b is reachable again", "it is on gpu-b now", "completed, exit code 0"]


def test_following_ends_where_it_is_in_vain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = There(tmp_path, Unreachable("another host key", "host_key"), Unreachable("no shell", "shell"))
    one = Job(there.folders["gpu-a"])
    for words in ("another host key", "no shell"):
        with pytest.raises(FailedError, match=f"gpu-a: {words}"):
            follow(there)
    monkeypatch.setattr(there, "way", lambda _name: Unreachable("no host gpu-a", "name"))
    there.steps = iter([DROPPED])
    with pytest.raises(FailedError, match="gpu-a: "):
        follow(there)
    one.begin()
    one.publish()
    monkeypatch.setattr(facts, "holder", lambda _lock: None)
    with pytest.raises(FailedError, match=r"the manager on gpu-a has died.*wavequeue resume"):
        follow(there)


def test_a_large_log_is_read_in_pieces_up_to_where_it_ended(tmp_path: Path) -> None:
    there = There(tmp_path)
    there.limit = 4
    one = Job(there.folders["gpu-a"])
    one.begin()
    one.say(b"0123456789")
    one.publish()
    ask = Asker(there, "a")
    first = ask(attempt=None, lines=None)
    assert isinstance(first, Piece)
    there.steps = iter([lambda: None, one.begin])  # the log gets another name in the middle
    assert b"".join(remote_logs.read(ask, first, None)) == one.written
    there.steps = iter([DROPPED])
    with pytest.raises(FailedError, match=r"gpu-a: .* up to byte 4 of 10"):
        list(remote_logs.read(ask, first, 1))


GOOD: dict[str, Any] = {"goes_on": True, "file": "1:2", "begin": 0, "size": 3, "data": "YWJj", "attempt": None}


def answer(**changes: Any) -> dict[str, Any]:
    document = Story(manifest(job("a"))).start("a").document()
    return {**GOOD, "state": {**document, "jobs": [{**document["jobs"][0], "error": "\x1b[2J"}]}, **changes}


def test_what_a_host_says_is_shown_without_commands_for_the_terminal() -> None:
    found = remote_logs.read_answer(answer(), "gpu-a", "a")
    assert isinstance(found, Piece)
    assert (found.data, found.file, found.row["error"], found.row["host"]) == (b"abc", "gpu-a 1:2", r"\x1b[2J", "gpu-a")


@pytest.mark.parametrize(
    "changes",
    [
        {"state": None}, {"state": {}}, {"state": []}, {"data": "not base64!"}, {"data": 3}, {"begin": -1},
        {"size": True}, {"file": 7}, {"goes_on": "yes"}, {"state": Story(manifest(job("b"))).document()},
        {"state": Story(manifest(job("a"), job("b"))).document()},
    ],
)  # fmt: skip
def test_what_is_no_log_is_reported_in_words(changes: dict[str, Any]) -> None:
    found = remote_logs.read_answer(answer(**changes), "gpu-a", "a")
    assert isinstance(found, str)
    assert found.startswith("what it sent is not a")
    assert isinstance(remote_logs.read_answer({}, "gpu-a", "a"), str)


def test_lines_of_a_journal_that_are_none_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = There(tmp_path)
    story = Story(manifest(job("a"))).start("a").end("a", "stuck", error="\x1b[2J broke")
    lines: list[Any] = [ev.encode(record) for record in story.records if getattr(record.event, "job", "") == "a"]
    bad = [
        "{", 7, None, lines[-1].replace('"stuck"', "[]"), lines[-1].replace('"stuck"', '"sad"'),
        lines[0].replace('"n":1', '"n":[1]'), lines[-1].replace('"exit_code":1', '"exit_code":"1"'),
    ]  # fmt: skip
    assert not set(bad) & set(lines)
    monkeypatch.setattr(there, "call", lambda *_: {"lines": [*bad, *lines]})
    found = remote_logs.records(there, "gpu-a", "a", reachable=True)
    assert [type(record.event).__name__ for record in found] == ["AttemptStarting", "AttemptStarted", "AttemptEnded"]
    assert getattr(found[-1].event, "error", "") == r"\x1b[2J broke"
    monkeypatch.setattr(there, "call", lambda *_: {"lines": 3})
    assert remote_logs.records(there, "gpu-a", "a", reachable=True) == []


def test_where_a_host_is_not_reached_what_was_pulled_of_it_tells(tmp_path: Path) -> None:
    there = There(tmp_path)
    there.run.root.mkdir()
    assignment.write(there.run, there.assigned._replace(pulled={"gpu-a": "2026-01-01T10:00:00.000Z"}))
    there.assigned = assignment.read(there.run) or there.assigned
    assert remote_logs.pulled(there, "gpu-a", "a", None) is None
    assert remote_logs.records(there, "gpu-a", "a", reachable=False) == []
    one = Job(assignment.host_folder(there.run, "gpu-a"))
    assert remote_logs.pulled(there, "gpu-a", "a", None) is None, "it had not started when it was pulled"
    one.begin()
    one.say(b"one\n")
    one.begin()
    one.say(b"two\n")
    one.publish()
    newest, first = (remote_logs.pulled(there, "gpu-a", "a", attempt) for attempt in (None, 1))
    assert newest is not None
    assert first is not None
    assert (newest.path.read_bytes(), first.path.read_bytes()) == (b"two\n", b"one\n")
    assert newest.age.startswith("pulled ")
    assert newest.age.endswith(" ago")
    assert remote_logs.pulled(there, "gpu-a", "a", 3) is None
    assert len(remote_logs.records(there, "gpu-a", "a", reachable=False)) == 5
    os.rename(newest.path.parent, newest.path.parent.with_name("elsewhere"))
    assert remote_logs.pulled(there, "gpu-a", "a", None) is None, "a path of the host is no path here"
