"""What happens to a run's directory while the run goes on, or between two managers: one run lives through all of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import processes
from queue_manager.core.events import seal, unseal
from queue_manager.core.requests import Request
from queue_manager.remote import control
from tests.e2e.runs import Run, World, job, manifest, until, wait_for


def _copy_over(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


def _flood(run: Run) -> None:
    for n in range(300):
        (run.paths.inbox / f"odd{n}.json").write_text("{")


def _strange_inbox(run: Run) -> None:
    os.mkfifo(run.paths.request("fifo"))
    run.paths.request("dangling").symlink_to("/nowhere/at/all")
    run.paths.request("device").symlink_to("/dev/zero")


def _paused(run: Run) -> None:
    assert run.manager is not None
    run.manager.send_signal(signal.SIGSTOP)
    run.manager.send_signal(signal.SIGCONT)


def _second_manager(run: Run) -> None:
    run.paths.lock.unlink()
    second = subprocess.run(run.argv(), env=run.world.environment, capture_output=True, text=True, timeout=150)
    assert run.manager is not None
    assert second.returncode == 2
    assert f"is held by another manager: process {run.manager.pid} on " in second.stderr


def _remove_folders(run: Run) -> None:
    shutil.rmtree(run.paths.inbox)
    shutil.rmtree(run.paths.answer("x").parent)


LIVE: dict[str, tuple[Callable[[Run], Any], str | None]] = {
    # what is done: how, and the condition that has to come
    "the journal replaced by a copy": (lambda run: _copy_over(run.paths.journal), "was replaced by another file"),
    "the journal cut in the middle": (lambda run: os.truncate(run.paths.journal, 300), "300 bytes, not"),
    "the journal emptied": (lambda run: os.truncate(run.paths.journal, 0), "0 bytes, not"),
    "the journal removed": (lambda run: run.paths.journal.unlink(), "was deleted while the run is active"),
    "the journal overwritten": (lambda run: run.paths.journal.write_text("notes\n"), "kept as journal.jsonl.damaged-"),
    "the state removed": (lambda run: run.paths.state.unlink(), None),
    "the state overwritten": (lambda run: run.paths.state.write_bytes(b"\0" * 5000), None),
    "the logs removed": (lambda run: shutil.rmtree(run.paths.log_dir), None),
    "the lock removed": (_second_manager, None),
    "the inbox flooded": (_flood, None),
    "FIFO, device and dangling link in the inbox": (_strange_inbox, None),
    "the wrapper removed": (lambda run: run.paths.wrapper.unlink(), None),
    "the screenrc overwritten": (lambda run: run.paths.screenrc.write_text("nonsense\n"), None),
    "the manager stopped for a moment": (_paused, None),
    "answers and inbox removed": (_remove_folders, None),
}


def _cut_last_line(run: Run) -> None:
    with run.paths.journal.open("ab") as file:
        file.write(b'{"seq":99999,"at":"2026-01-01T00:00:00.000Z","event":"Pau')


def _flip(run: Run) -> None:
    """One bit of a line about the first job's end."""
    data = run.paths.journal.read_bytes()
    at = data.index(b'"completed"')
    run.paths.journal.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


def _lose_lines(run: Run) -> None:
    lines = run.paths.journal.read_bytes().splitlines(keepends=True)
    run.paths.journal.write_bytes(b"".join(lines[: len(lines) // 2]))


def _fifo_for_state(run: Run) -> None:
    run.paths.state.unlink()
    os.mkfifo(run.paths.state)


BETWEEN: dict[str, tuple[Callable[[Run], Any], str | None]] = {
    # what is done while no manager lives: how, and what the next one says when it refuses
    "a torn last line": (_cut_last_line, None),
    "a damaged state": (lambda run: run.paths.state.write_text('{"meta": {"format": "wavequeue-st'), None),
    "a state that is a FIFO": (_fifo_for_state, None),
    "a flipped bit": (_flip, "(job s0): its checksum does not match"),
    "lines lost at the end": (_lose_lines, "ends at line"),
    "a lost journal": (lambda run: run.paths.journal.unlink(), "has lost its journal.jsonl"),
    "an empty journal": (lambda run: os.truncate(run.paths.journal, 0), "is empty, but"),
}


def _repair(run: Run, **asked: Any) -> dict[str, Any]:
    """What `queue_manager.remote.control` answers, asked in this process: a new one takes longer than the repair."""
    return control.answer(f"{run.directory}", {"op": "repair", **asked})


def _control(run: Run, **asked: Any) -> dict[str, Any]:
    """The same from a process of its own."""
    result = subprocess.run(
        [sys.executable, "-m", "queue_manager.remote.control", str(run.directory)],
        env=run.world.environment, input=json.dumps(asked), capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def _state(run: Run) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        return run.state() if run.paths.state.is_file() else {}
    return {}


def _step(run: Run, name: str) -> None:
    """Let the next job go, and wait until it has completed."""
    (run.directory / f"go_{name}").touch()
    try:
        wait_for(lambda: {row["id"]: row for row in _state(run).get("jobs", [])}.get(name, {}).get("completed"))
    except AssertionError:
        raise AssertionError(f"{name} does not complete:\n{run.story()[-3000:]}") from None


def _refused(run: Run) -> str:
    assert run.go() == 2, run.stderr
    assert len(run.stderr.strip().splitlines()) == 1
    return run.stderr


def _shows(run: Run, words: str) -> bool:
    return any(words in alert["text"] for alert in run.alerts() if alert["kind"] == "journal")


def test_a_run_lives_through_whatever_happens_to_its_directory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in world.environment.items():  # of the host, for what is asked in this process
        monkeypatch.setenv(variable, value)
    names = [f"s{n}" for n in range(len(LIVE) + len(BETWEEN))]
    cmds = {name: f"echo {name} >> starts; {until('go_' + name)}; echo done > out_{name}" for name in names}
    jobs = [job(name, cmd, expected_output=f"out_{name}") for name, cmd in cmds.items()]
    run = world.run(manifest(*jobs, max_parallel=1))
    steps = iter(names)
    run.start()
    run.wait_running("s0")
    for what, (change, condition) in LIVE.items():
        change(run)
        _step(run, next(steps))
        if condition is not None:
            wait_for(partial(_shows, run, condition), say=what)
            assert b"\0" not in run.paths.journal.read_bytes()
    assert run.ask(Request("after", "resume")).ok
    assert run.manager is not None
    for what, (change, says) in BETWEEN.items():
        run.kill()
        change(run)
        if says is not None:
            result = _refused(run)
            assert says in result, what
            assert f"wavequeue repair {run.directory}" in result
            shown = _repair(run)
            assert (shown["needed"], shown["done"]) == (True, False), what
            assert says in _refused(run)  # it was only looked at
            done = _repair(run, do=True)
            assert done["done"] is True, what
            assert bool(done["kept"]) is run.paths.journal.with_name((done["kept"] or ["x"])[-1]).exists()
        run.start()
        _step(run, next(steps))
    assert run.finish() == 0, run.stderr
    assert set(run.statuses().values()) == {"completed"}
    assert (run.directory / "starts").read_text().split() == names  # each once, none again
    assert [alert for alert in run.alerts() if alert["kind"] == "repaired"]
    assert _control(run, op="repair") | {"counts": {}} == {
        "run_id": run.state()["meta"]["run_id"], "needed": False, "faults": [], "damaged": [],
        "lines": len(list(run.events())), "counts": {}, "changes": {}, "changed": 0, "lost": [], "kept": [],
        "done": False,
    }  # fmt: skip
    assert world.sessions() == []


def test_a_manager_that_has_given_its_run_up_is_waited_for_until_it_has_ended(world: World) -> None:
    run = world.run(manifest(job("a", "true")))
    assert run.go() == 0, run.story()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as ending:
        found = processes.look_up(ending.pid)
        assert isinstance(found, processes.Stat)
        lines = [json.loads(unseal(line)[0]) for line in run.paths.journal.read_text().splitlines()]
        for line in lines:
            if line["event"] == "ManagerStarted":
                line["pid"], line["ticks"] = found.proc
        run.paths.journal.write_text("".join(f"{seal(json.dumps(line))}\n" for line in lines))
        second = run.start()
        with pytest.raises(subprocess.TimeoutExpired):  # it waits
            second.wait(timeout=0.5)
        ending.communicate()
    assert run.finish() == 0, run.story()
