"""A run's hosts, asked over SSH: what a host answers is looked through, and silence is no answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from queue_manager.core.manifest import encode
from queue_manager.core.requests import Request
from skill.hosts.connection import Unreachable
from skill.runs import assignment
from skill.runs.assignment import LOST, PLANNED, SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from skill.runs.remote import RemoteRun
from tests.skill.story import RUN_ID, Story, job, manifest
from tests.sshd import Sshd

PAUSE = Request("pause-1", "pause")


class Answering:
    """A run with one job on a host that answers whatever is written into `answer`, and keeps what it was asked."""

    def __init__(self, root: Path, host: Sshd) -> None:
        self.host, self.answer, self.asked = host, host.home / "answer", host.home / "asked"
        python = host.home / "python"
        python.write_text("#!/bin/sh\ncat > ~/asked; cat ~/answer\n")
        python.chmod(0o755)
        self.run = Run.at(root / "experiment_queue" / RUN_ID)
        self.run.root.mkdir(parents=True)
        self.run.paths.manifest.write_text(encode(manifest(job("a"))))
        YAML(typ="safe").dump({"workers": {"gpu-a": host.entry()}}, root / "workers.yaml")
        self.place(Part("gpu-a", ("a",), SUBMITTED, "w", "w", "f" * 32, str(python), "0" * 32))

    def place(self, *parts: Part) -> None:
        created = "2026-01-01T10:00:00.000Z"
        assignment.write(self.run, Assigned(RUN_ID, "demo", "sha", created, str(self.run.root.parents[1]), parts))

    def say(self, **fields: Any) -> None:
        state = Story(manifest(job("a"))).start("a").document()
        self.answer.write_text(json.dumps({"state": state, "alive": True, "tails": {}, "added": [], **fields}))

    def look(self) -> dict[str, Any]:
        with RemoteRun.at(self.run) as there:
            document = there.look()
        row: dict[str, Any] = document["meta"]["hosts"][0]
        return row


def look(state: dict[str, Any], **fields: Any) -> str:
    """An answer to a look, as JSON."""
    return json.dumps({"state": state, "alive": False, "tails": {}, "added": [], **fields})


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Answering]:
    with Sshd(tmp_path / "host") as host:
        yield Answering(tmp_path, host)


def test_an_answer_is_taken_and_what_is_no_answer_leaves_what_was_known(answering: Answering) -> None:
    answering.say()
    row = answering.look()
    assert (row["manager"], row["reachable"], row["counts"]) == ("running", True, {"running": 1})
    assert json.loads(answering.asked.read_text()) == {"op": "look", "full": False, "host_id": "f" * 32}
    document = Story(manifest(job("a"))).complete("a").document("finished")
    for fields, says in (
        ("Welcome to the machine\n", "its answer cannot be understood (exit code 0); restore the runtime there with"),
        ("[" * 100_000, "its answer cannot be understood"),
        ('{"fault": "no run \\u001b[2J"}', r"no run \x1b[2J"),
        (look({**document, "jobs": 3}), "jobs: expected array, got int"),
        (look(document, alive=""), "what it sent is not a view"),
        (look(Story(manifest(job("a"), job("b"))).document()), "jobs: b is not a job of this run"),
        (look({**document, "x": "X"}).replace('"X"', "[" * 900 + "]" * 900), "its answer cannot be understood"),
        (look({**document, "x": "X"}).replace('"X"', "9" * 400), "its answer cannot be understood"),
        (look(document).replace('"updated": "2026-01-', '"updated": "2026-13-'), "is not a time: 2026-13-"),
    ):
        answering.answer.write_text(fields)
        row = answering.look()
        assert says in row["reason"]
        assert (row["manager"], row["answered"], row["counts"]) == ("running", True, {"running": 1})
        assert row["age_s"] > 0


def test_without_a_word_from_its_host_a_run_is_not_taken_for_ended(answering: Answering) -> None:
    answering.host.stop()
    with RemoteRun.at(answering.run) as there:
        document = there.look()
        assert (document["meta"]["manager"], document["counts"]) == ("running", {"pending": 1})
        assert "has not been read yet" in document["meta"]["conditions"][0]["text"]
        assert isinstance(there.ask({"gpu-a": PAUSE})["gpu-a"], Unreachable)


def test_a_host_that_is_registered_no_longer_is_unknown_and_stops_nothing(answering: Answering) -> None:
    answering.say()
    mine = assignment.read(answering.run)
    assert mine is not None
    answering.place(*mine.parts, Part("gpu-z", (), SUBMITTED, python="/p", runtime="0" * 32))
    with RemoteRun.at(answering.run) as there:
        first, second = there.look()["meta"]["hosts"]
        found = there.call("gpu-z", {"op": "look"})
    assert (first["reachable"], second["reachable"]) == (True, False)
    assert "there is no host gpu-z; did you mean gpu-a?" in second["reason"]
    assert isinstance(found, Unreachable)


def test_a_host_that_got_nothing_yet_is_not_asked(answering: Answering) -> None:
    answering.place(Part("gpu-a", ("a",), PLANNED))
    with RemoteRun.at(answering.run) as there:
        document = there.look()
        assert "wavequeue submit" in str(there.ask({"gpu-a": PAUSE})["gpu-a"])
    assert document["meta"]["manager"] == "halted"
    assert "gpu-a: its jobs were not sent there yet" in document["meta"]["conditions"][0]["text"]
    assert not answering.asked.exists()


@pytest.mark.parametrize(
    ("answer", "alive", "answered"), [(None, True, False), (None, False, True), ("cancelled: 1 job", True, True)]
)
def test_a_host_that_was_given_up_is_reported_until_it_has_taken_it(
    answering: Answering, answer: str | None, alive: bool, answered: bool
) -> None:
    mine = assignment.read(answering.run)
    assert mine is not None
    answering.place(mine.parts[0]._replace(state=LOST, moved=("a",)))
    request = f"revoke-{RUN_ID}"
    fields = None if answer is None else {"id": request, "ok": True, "text": answer, "jobs": ["a"]}
    answering.say(alive=alive, answer=fields)
    for _ in range(2):
        answering.look()
    after = assignment.read(answering.run)
    assert after is not None
    assert after.parts[0].revoked is answered
    asked = json.loads(answering.asked.read_text())
    assert asked["op"] == ("look" if answered else "ask"), "it is not told twice"
    if not answered:
        assert (asked["request"]["id"], asked["request"]["verb"], asked["request"]["jobs"]) == (
            request,
            "cancel",
            ["a"],
        )
