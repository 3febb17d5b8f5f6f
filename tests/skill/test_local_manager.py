"""Whether a manager lives is asked without ever standing in the way of one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from queue_manager.core.layout import STALE_AFTER
from skill.common.errors import FailedError
from skill.runs import local_manager
from skill.runs.directory import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.at(tmp_path)


def hold(run: Run, pid: int, host: str | None = None, *, age: float = 0.0) -> None:
    """A lock file that names this process, and that nobody holds."""
    run.paths.lock.write_text(json.dumps({"pid": pid, "host": host or socket.gethostname(), "since": "x"}))
    os.utime(run.paths.lock, (time.time() - age,) * 2)


def gone() -> int:
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_without_a_lock_file_nobody_is_there(run: Run) -> None:
    assert not local_manager.is_alive(run)


def test_who_holds_the_lock_is_alive(run: Run) -> None:
    hold(run, os.getpid())
    with run.paths.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert local_manager.is_alive(run)
    assert not local_manager.is_alive(run), "a process id that another process has now is no manager"


def test_a_process_that_has_gone_is_no_manager_and_the_lock_is_not_touched(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(run, gone())
    monkeypatch.setattr(fcntl, "flock", lambda *_: pytest.fail("a manager that begins now would be refused"))
    assert not local_manager.is_alive(run)


def test_a_manager_of_another_host_is_asked_by_the_lock(run: Run) -> None:
    hold(run, gone(), "elsewhere")
    assert not local_manager.is_alive(run)
    with run.paths.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert local_manager.is_alive(run)


def test_a_manager_of_another_host_is_believed_as_long_as_it_shows_that_it_lives(run: Run) -> None:
    """The lock may not reach so far. Whether what our clock calls stale is so, the file server's says."""
    hold(run, gone(), "elsewhere")
    document = {"meta": {"launcher": "slurm", "manager": "running", "host": "elsewhere", "conditions": []}}
    beat = run.paths.lock.with_suffix(".beat")
    beat.touch()
    assert local_manager.is_alive(run)
    assert local_manager.goes_on(run, document, alive=True)
    assert document["meta"]["manager_on"] == "elsewhere"
    os.utime(beat, (0, time.time() - STALE_AFTER - 1))
    assert not local_manager.is_alive(run)
    run.paths.state.write_text(json.dumps(document)[:-1] + ",\n" + '"jobs": []}')
    assert not local_manager.goes_on(run, document, alive=False)
    beat.touch()  # it is asked again when some seconds have passed
    assert not local_manager.goes_on(run, document, alive=False)
    local_manager._asked.clear()
    assert local_manager.goes_on(run, document, alive=False)


def test_a_lock_file_that_was_only_just_made_is_a_manager_about_to_begin(run: Run) -> None:
    run.paths.lock.write_text("")
    assert local_manager.is_alive(run)
    os.utime(run.paths.lock, (time.time() - 60,) * 2)
    assert not local_manager.is_alive(run)


def test_looking_does_not_keep_the_lock(run: Run) -> None:
    hold(run, os.getpid())
    local_manager.is_alive(run)
    with run.paths.lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_manager_that_gives_up_is_quoted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    run.paths.manager_log.write_text("an old line\n")
    with pytest.raises(FailedError) as caught:
        local_manager.start(run)
    assert f"queue_manager: {run.paths.manifest}" in str(caught.value)
    assert "an old line" not in str(caught.value)


def test_the_command_needs_nothing_but_the_run(run: Run) -> None:
    words = local_manager.build_command(run, 0.5)
    assert words[:3] == [sys.executable, "-m", "queue_manager"]
    assert words[words.index("--poll") + 1] == "0.5"
    assert "--poll" not in local_manager.build_command(run, None)
    assert all(Path(word).is_absolute() for word in words if "/" in word)
