"""The scripts that a task of Slurm runs, without Slurm: several attempts in turn, of which each has its own end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.layout import RunPaths
from queue_manager.slurm import attempt_files
from queue_manager.slurm.attempt_files import Taken
from queue_manager.slurm.batches import Batches, Task

PATIENCE = 20.0


class Node:
    """A node that runs one task of a batch, whose jobs are given by their scripts."""

    def __init__(self, root: Path, scripts: Mapping[str, str]) -> None:
        self.paths = RunPaths.of(root)
        self.run_dir = RunDir(self.paths)
        self.run_dir.prepare()
        self.store = Batches(self.paths, "key", "run")
        for name, script in scripts.items():
            self.run_dir.prepare_attempt(name, 1, f"echo {name} >>../../ran\n{script}\n", {})
        other = Task("elsewhere", 1, "tag")
        self.batch = self.store.make([[other], [Task(name, 1, f"tag-{name}") for name in scripts]], 0.0)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = {"ARRAY_TASK_ID": "1", "JOB_ID": "8", "EXPORT_ENV": "x"}
        environment = {**os.environ, **{f"SLURM_{name}": value for name, value in variables.items()}}
        self.process = subprocess.Popen(
            ["bash", str(self.batch.directory / "task.sh")], cwd=self.batch.directory, env=environment
        )

    def signal(self, number: int) -> bool:
        assert self.process is not None
        self.process.send_signal(number)
        return True

    def wait(self) -> None:
        assert self.process is not None
        assert self.process.wait(PATIENCE) == 0

    def go(self) -> None:
        self.start()
        self.wait()

    @property
    def ran(self) -> list[str]:
        path = self.paths.root / "ran"
        return path.read_text().split() if path.exists() else []

    def code(self, name: str) -> int | None:
        record = self.run_dir.exit_record(name, 1)
        return None if record is None else record.code

    def has_claimed(self, name: str) -> bool:
        return isinstance(attempt_files.taken(self.paths.attempt(name, 1)), Taken)

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def node_of(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def make(**scripts: str) -> Node:
        made.append(Node(tmp_path / "a run", scripts))
        return made[-1]

    yield make
    for node in made:
        if node.process is not None and node.process.poll() is None:
            node.process.kill()
            node.process.wait()


def test_attempts_run_in_turn_and_each_has_its_end(node_of: Callable[..., Node]) -> None:
    node = node_of(one="exit 3", two='echo "$WAVEQUEUE_TAG/$SLURM_EXPORT_ENV"', three="kill -9 $$", four="exit 0")
    node.go()
    assert node.ran == ["one", "two", "three", "four"]
    assert [node.code(name) for name in ("one", "two", "three", "four")] == [3, 0, 137, 0]
    assert node.paths.log("two").read_text() == "tag-two/\n"
    assert sorted(node.store.seen(node.store.ended)) == ["four~1", "one~1", "three~1", "two~1"]


def test_what_was_taken_back_does_not_run(node_of: Callable[..., Node]) -> None:
    node = node_of(one="", two="", three="")
    node.run_dir.revoke("two", 1, {})
    node.go()
    assert node.ran == ["one", "three"]
    assert node.code("two") is None


@pytest.mark.parametrize(("kill", "code"), [(False, 143), (True, 137)])
def test_one_attempt_is_ended_alone(node_of: Callable[..., Node], kill: bool, code: int) -> None:
    node = node_of(one="", two="sleep 60", three="")
    node.start()
    node.until(lambda: "two" in node.ran)
    node.signal(signal.SIGUSR2)  # nothing was left for it: it is of an attempt that has ended
    attempt_files.ask(node.paths.attempt("one", 1), kill)
    node.signal(signal.SIGUSR2)
    attempt_files.ask(node.paths.attempt("two", 1), kill)
    node.until(lambda: node.signal(signal.SIGUSR2) and node.code("two") is not None)
    node.wait()
    assert [node.code(name) for name in ("one", "two", "three")] == [0, code, 0]


def test_a_signal_that_a_job_outlives_leaves_its_exit_code(node_of: Callable[..., Node]) -> None:
    node = node_of(one="trap 'exit 7' TERM; echo on >>../../ran; while :; do sleep 0.01; done")
    node.start()
    node.until(lambda: "on" in node.ran)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
        node.signal(number)
    node.wait()
    assert node.code("one") == 7


def test_slurm_ends_what_runs_and_no_other_begins(node_of: Callable[..., Node]) -> None:
    node = node_of(one="", two="sleep 60", three="")
    node.start()
    node.until(lambda: "two" in node.ran)
    node.signal(signal.SIGTERM)
    node.wait()
    assert node.code("two") == 143
    assert not node.has_claimed("three")


def test_a_paused_run_begins_no_other(node_of: Callable[..., Node]) -> None:
    node = node_of(one="until [ -e ../../go ]; do sleep 0.02; done", two="")
    node.start()
    node.until(lambda: node.ran)
    paused = node.store.root / "paused"
    paused.touch()
    (node.paths.root / "go").touch()
    node.wait()
    assert (node.code("one"), node.has_claimed("two")) == (0, False)
    paused.unlink()
    node.go()
    assert node.ran == ["one", "two"], "what had run is not run again"


def test_a_task_that_slurm_starts_again_does_nothing(
    node_of: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(one="", two="")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    node.go()
    assert node.ran == []
