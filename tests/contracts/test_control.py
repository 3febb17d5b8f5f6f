"""The host's end of the verbs that follow a run, called as it is over SSH: a request on stdin, a document on stdout."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from queue_manager.adapters import facts
from queue_manager.core.layout import RunPaths
from queue_manager.core.machine import parse_acknowledged
from queue_manager.core.requests import Request, encode_request
from queue_manager.remote import control
from tests.e2e.runs import ROOT, World, job, manifest, until, wait_for
from tests.skill import story as stories
from tests.skill.story import Story

IDENTITY = "0123456789abcdef0123456789abcdef"


def call(home: Path, run: str | Path, **asked: Any) -> dict[str, Any]:
    """What the host's end answers: one line, whatever is asked. In this process: see `call_over_ssh`."""
    out, err, stdin = io.StringIO(), io.StringIO(), io.TextIOWrapper(io.BytesIO(json.dumps(asked).encode()))
    here = mock.patch.dict(os.environ, HOME=str(home)), mock.patch.object(sys, "stdin", stdin)
    with here[0], here[1], contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = control.main([str(run)])
    assert err.getvalue() == ""
    return parsed(out.getvalue(), code)


def call_over_ssh(home: Path, run: str | Path, **asked: Any) -> dict[str, Any]:
    """What it answers as a process of its own, as which it is started over SSH."""
    done = subprocess.run(
        [sys.executable, "-m", "queue_manager.remote", "control", str(run)],
        env={**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)},
        input=json.dumps(asked), capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.stderr == ""
    return parsed(done.stdout, done.returncode)


def parsed(out: str, code: int) -> dict[str, Any]:
    assert out.count("\n") == 1
    document: dict[str, Any] = json.loads(out)
    assert code == ("fault" in document)
    return document


def ask(home: Path, run: str | Path, request: Request, **asked: Any) -> dict[str, Any]:
    return call(home, run, op="ask", request=json.loads(encode_request(request)), **asked)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".wavequeue" / "runs").mkdir(parents=True)
    (tmp_path / ".wavequeue" / "host_id").write_text(IDENTITY + "\n")
    return tmp_path


def place(home: Path, *names: str) -> Story:
    """A run of these jobs on a host, told event by event."""
    root = home / ".wavequeue" / "runs" / stories.RUN_ID
    return Story(stories.manifest(*(stories.job(name) for name in names)), root)


def written(home: Path, job_id: str, text: bytes, name: str = "") -> Path:
    paths = RunPaths.of(home / ".wavequeue" / "runs" / stories.RUN_ID)
    paths.log_dir.mkdir(parents=True, exist_ok=True)
    path = paths.log_dir / (name or f"{job_id}.log")
    path.write_bytes(text)
    return path


def text(answer: dict[str, Any]) -> bytes:
    return base64.b64decode(answer["data"])


def test_a_process_of_its_own_answers_the_same(home: Path) -> None:
    place(home, "a", "b").complete("a").start("b").write()
    written(home, "b", b"epoch 3\n")
    for run, asked in ((stories.RUN_ID, {"op": "look"}), ("gone", {"op": "look"}), (stories.RUN_ID, {"op": "explode"})):
        assert call_over_ssh(home, run, **asked) == call(home, run, **asked)


# -- look -------------------------------------------------------------------------------------------------------------


def test_a_look_gives_the_overview_and_the_ends_of_running_logs(home: Path) -> None:
    names = [f"j{n}" for n in range(200)]
    place(home, *names).complete("j0").start("j1").write()
    written(home, "j1", b"x" * 5000 + b"\nepoch 3\n")
    found = call(home, stories.RUN_ID, op="look")
    assert (found["state"]["overview"], found["state"]["jobs_total"], len(found["state"]["jobs"])) == (True, 200, 52)
    assert found["tails"]["j1"].endswith("x\nepoch 3\n")
    assert len(found["tails"]["j1"]) <= 1024
    assert found["alive"] is False
    assert found["added"] == []
    whole = call(home, stories.RUN_ID, op="look", full=True)["state"]
    assert len(whole["jobs"]) == 200
    assert "overview" not in whole


@pytest.mark.parametrize(("left", "gone"), [({1}, 1), ({1, 2}, 0), (set(), 2)])
def test_of_the_jobs_that_a_dead_manager_left_those_without_a_screen_are_counted(
    home: Path, left: set[int], gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = place(home, "a", "b", "c").complete("a").start("b").start("c")
    paths = story.write()
    document = json.loads(paths.state.read_text())
    for number, row in enumerate(document["jobs"]):
        row["screen_pid"] = number or None
    paths.state.write_text(json.dumps(document))
    monkeypatch.setattr(facts, "is_session", lambda pid, _name: pid in left)
    assert control.look(paths, {"full": True})["gone"] == gone
    with monkeypatch.context() as patch:
        patch.setattr(facts, "holder", lambda _lock: facts.Holder(7, ""))
        assert control.look(paths, {"full": True})["gone"] is None
    document["meta"]["launcher"] = "slurm"  # of those a process here says nothing
    paths.state.write_text(json.dumps(document))
    assert control.look(paths, {"full": True})["gone"] is None


def test_a_process_counts_as_a_session_only_by_its_name() -> None:
    assert not facts.is_session(os.getpid(), "wq.run.a.1")
    assert not facts.is_session(1 << 30, "wq.run.a.1")
    child = subprocess.Popen(["wq.run.a.1", "1000"], executable="sleep")
    wait_for(lambda: facts.is_session(child.pid, "wq.run.a.1"), say="its command line")  # comes with exec(2)
    assert not facts.is_session(child.pid, "wq.run.a")
    child.kill()
    child.wait()


def test_a_run_whose_manager_has_not_begun_has_no_state(home: Path) -> None:
    place(home, "a").paths.root.mkdir()
    assert call(home, stories.RUN_ID, op="look") == {
        "state": None, "alive": False, "gone": 0, "tails": {}, "added": [],
    }  # fmt: skip


def test_what_cannot_be_done_is_reported_in_words(home: Path) -> None:
    assert call(home, "gone", op="look") == {"fault": "run gone does not exist"}
    story = place(home, "a")
    story.write()
    assert "not a valid request" in call(home, stories.RUN_ID, op="explode")["fault"]
    assert (
        "unknown request 'explode'"
        in call(home, stories.RUN_ID, op="ask", request={"id": "x", "verb": "explode"})["fault"]
    )
    assert call(home, stories.RUN_ID, op="log", job="b")["fault"] == "there is no job b"
    story.paths.state.write_text("{")
    assert "cannot be read" in call(home, stories.RUN_ID, op="look")["fault"]


def test_nothing_is_done_on_another_machine(home: Path) -> None:
    paths = place(home, "a").write()
    found = ask(home, stories.RUN_ID, Request("pause-1", "pause"), host_id="f" * 32)
    assert "not the machine" in found["fault"]
    assert not paths.inbox.exists()
    assert call(home, stories.RUN_ID, op="look", host_id=IDENTITY)["state"] is not None


# -- ask --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _room(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir(exist_ok=True)


def test_a_request_is_carried_out_once_and_answered_as_often_as_it_is_sent(world: World) -> None:
    run = world.run(manifest(job("a", until("stop")), job("b", "true"), max_parallel=1))
    run.start()
    run.wait_running("a")
    request = Request("cancel-1", "cancel", ("b",))
    first = ask(world.home, run.directory, request)
    assert first == {
        "answer": {"id": "cancel-1", "ok": True, "text": "cancelled: 1 job", "jobs": ["b"]},
        "alive": True,
    }
    assert ask(world.home, run.directory, request) == first
    assert sum(event["event"] == "RequestTaken" for event in run.events()) == 1
    (run.directory / "stop").touch()
    assert run.finish() == 3


def test_a_request_that_nobody_takes_lies_there_for_the_next_manager(world: World) -> None:
    run = world.run(manifest(job("a", "sleep 60"), job("b", "true"), max_parallel=1))
    run.start()
    run.wait_running("a")
    run.kill()
    assert ask(world.home, run.directory, Request("cancel-1", "cancel", ("a",))) == {"answer": None, "alive": False}
    assert run.paths.request("cancel-1").stat().st_mode & 0o777 == 0o600
    assert run.go() == 3
    assert run.statuses() == {"a": "cancelled", "b": "completed"}
    assert ask(world.home, run.directory, Request("cancel-1", "cancel", ("a",)))["answer"]["ok"] is True


def test_a_manager_that_does_not_answer_is_not_waited_for_without_end(world: World) -> None:
    run = world.run(manifest(job("a", "sleep 60")))
    manager = run.start()
    run.wait_running("a")
    manager.send_signal(signal.SIGSTOP)
    found = ask(world.home, run.directory, Request("pause-1", "pause"), patience=0.2)
    assert found == {"answer": None, "alive": True}
    manager.send_signal(signal.SIGCONT)
    wait_for(lambda: ask(world.home, run.directory, Request("pause-1", "pause"))["answer"])


# -- log --------------------------------------------------------------------------------------------------------------


def test_a_log_is_read_on_from_where_one_was(home: Path) -> None:
    place(home, "a").start("a").write()
    path = written(home, "a", b"one\ntwo\n")
    first = call(home, stories.RUN_ID, op="log", job="a")
    assert (first["begin"], first["size"], text(first), first["newest"]) == (0, 8, b"one\ntwo\n", True)
    path.write_bytes(b"one\ntwo\nthree\n")
    then = call(home, stories.RUN_ID, op="log", job="a", file=first["file"], offset=8)
    assert (then["begin"], text(then)) == (8, b"three\n")
    assert text(call(home, stories.RUN_ID, op="log", job="a", offset=4, limit=3)) == b"two"


def test_a_log_that_was_moved_aside_is_read_to_its_end_and_then_the_next_one_from_its_beginning(home: Path) -> None:
    place(home, "a").start("a").end("a", "failed_other", due=stories.T0).tell_retry("a").start("a").write()
    old = written(home, "a", b"first attempt\n", "a.1.log")
    written(home, "a", b"second\n")
    name = f"{old.stat().st_dev}:{old.stat().st_ino}"
    rest = call(home, stories.RUN_ID, op="log", job="a", file=name, offset=6)
    assert (text(rest), rest["newest"], rest["attempt"]) == (b"attempt\n", False, 1)
    after = call(home, stories.RUN_ID, op="log", job="a", file="0:0", offset=14)
    assert (after["begin"], text(after), after["newest"], after["attempt"]) == (0, b"second\n", True, None)
    assert text(call(home, stories.RUN_ID, op="log", job="a", attempt=1)) == b"first attempt\n"


@pytest.mark.parametrize(
    ("content", "lines", "begin"),
    [
        (b"a\nb\nc\n", 2, 2),
        (b"a\nb\nc", 2, 2),
        (b"a\nb\nc\n", 9, 0),
        (b"a\nb\nc\n", 0, 6),
        (b"\n\n\n", 2, 1),
        (b"", 3, 0),
        (b"x" * 200_000 + b"\nend\n", 1, 200_001),
        (b"x\ry\rz\nend\n", 2, 0),
    ],
)
def test_the_last_lines_of_a_log(home: Path, content: bytes, lines: int, begin: int) -> None:
    place(home, "a").start("a").write()
    written(home, "a", content)
    found = call(home, stories.RUN_ID, op="log", job="a", lines=lines)
    assert (found["begin"], text(found)) == (begin, content[begin:])


def test_a_job_that_has_written_nothing_has_no_log(home: Path) -> None:
    place(home, "a").write()
    found = call(home, stories.RUN_ID, op="log", job="a")
    assert [found[name] for name in ("file", "begin", "size", "data", "newest")] == [None, 0, 0, "", True]


def test_a_log_comes_with_the_state_of_its_job_and_whether_anything_may_still_end_it(home: Path) -> None:
    story = place(home, "a", "b").start("a").start("b")
    story.write()
    document = story.document()
    document["jobs"][0]["screen_pid"] = os.getpid()
    document["jobs"][1]["screen_pid"] = 2**22 + 1  # more than any process has
    story.paths.state.write_text(json.dumps(document))
    one, other = (call(home, stories.RUN_ID, op="log", job=name) for name in "ab")
    assert [(row["id"], row["status"]) for row in one["state"]["jobs"]] == [("a", "running")]
    assert (one["state"]["jobs_total"], one["goes_on"], other["goes_on"]) == (2, True, False)


# -- acknowledge ------------------------------------------------------------------------------------------------------


def test_what_is_home_is_noted_and_never_less(home: Path) -> None:
    paths = place(home, "a").complete("a").write()
    assert call(home, stories.RUN_ID, op="acknowledge", seq=7) == {"seq": 7}
    assert parse_acknowledged(paths.acknowledged.read_text()) == 7
    assert call(home, stories.RUN_ID, op="acknowledge", seq=3) == {"seq": 7}
    assert parse_acknowledged(paths.acknowledged.read_text()) == 7
    assert "not the machine" in call(home, stories.RUN_ID, op="acknowledge", seq=9, host_id="f" * 32)["fault"]


# -- journal ----------------------------------------------------------------------------------------------------------


def test_lines_of_the_journal_are_found_by_what_they_hold(home: Path) -> None:
    story = place(home, "a", "b").complete("a").start("b")
    paths = story.write()
    with paths.journal.open("a") as file:
        file.write('{"seq":99,"job":"a" cut off')
    found = call(home, stories.RUN_ID, op="journal", needles=['"job":"a"'])["lines"]
    assert [json.loads(line)["event"] for line in found] == ["AttemptStarting", "AttemptStarted", "AttemptEnded"]


def test_what_is_started_on_hosts_imports_no_more_than_it_uses() -> None:
    """A look at a host takes as long as this does, and so does the start of every manager."""
    heavy = (
        "queue_manager.adapters.evidence",
        "queue_manager.core.boundary",
        "queue_manager.adapters.load",
        "socket",  # where a job asks for a port
        "tempfile",
        "shutil",  # with which argparse would ask for the width of the terminal
        "hashlib",  # to read a manifest
        "psutil",  # once a job may be idle
        "http.client",
        "urllib.request",
        "ctypes",
        "pynvml",  # where NVIDIA's library is there
        "queue_manager.slurm",  # where Slurm runs the jobs
        "queue_manager.core.diagnosis",  # once a job has failed
    )
    shown = f"print([name for name in {heavy} if name in sys.modules])"
    modules = ("remote.control", "adapters.metric_files", "manager", "remote.preflight")
    options = "queue_manager.manager._parse(['--manifest', 'm', '--state', 's', '--log-dir', 'l'])"
    looks = (f"import queue_manager.{module}; {shown}" for module in modules)
    program = "; ".join(["import sys", *looks, options, shown])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=150, check=True
    )
    assert done.stdout.splitlines() == [str(list(heavy[:count])) for count in (0, 1, 3, 3, 3)]
