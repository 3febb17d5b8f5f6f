"""A pilot in this process: what it does with orders, signals, memory and time. Its attempts are real scripts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.layout import RunPaths, run_key
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.slurm import pilot as piloting
from queue_manager.slurm.batches import Batches, Task
from queue_manager.slurm.orders import Orders
from queue_manager.slurm.packing import Offer
from queue_manager.slurm.pilot import Pilot
from tests.e2e.runs import until, wait_for


class Bench:
    """One pilot of one pool, and a clock that a test moves on. `gpus`: what NVML says."""

    def __init__(self, root: Path, seconds: float = 10_000.0) -> None:
        self.paths = RunPaths.of(root)
        self.key = run_key("run", str(root))  # what has the tag of an attempt may be killed
        self.run_dir = RunDir(self.paths)
        self.run_dir.prepare()
        self.orders = Orders(root / "slurm/pools/one")
        self.store = Batches(self.paths, self.key, "run")
        self.batch = self.store.make([[Task("@one", 0, "")]], 0.0, "true")
        self.orders.make()
        self.now = time.monotonic()
        self.gpus: Cards | Unreadable = Cards((Card(0, "GPU-0", "A", 10_000, 0),))
        environment = {
            "PATH": os.environ["PATH"], "SLURM_JOB_ID": "8", "SLURM_ARRAY_TASK_ID": "0", "SLURMD_NODENAME": "n1",
            "SLURM_JOB_NAME": self.batch.name, "SLURM_JOB_END_TIME": str(int(time.time() + seconds)),
        }  # fmt: skip
        self.pilot = Pilot(self.paths, self.orders, self.batch.directory, self.key, 0.1, environment)
        self.pilot._nvml.read = lambda: self.gpus  # type: ignore[method-assign]

    def offer(self, name: str, command: str = "sleep 100", mib: int = 3000, limit: float | None = None) -> Path:
        """The directory of its attempt."""
        files = self.run_dir.prepare_attempt(name, 1, command, {})
        self.orders.offer(Offer(f"{name}~1", name, f"{self.key}/{name}/1", mib, False, limit, (0, 0)))
        return files.root

    def turn(self, after: float = 0.0) -> int | None:
        self.now += after
        return self.pilot._turn(self.now)

    def until(self, holds: Callable[[], object]) -> None:
        """Turn until something holds."""
        wait_for(lambda: self.turn() is not None or holds())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "run")
    yield made
    end(made)


def end(bench: Bench) -> None:
    for one in bench.pilot._running.values():
        one.process.send_signal(signal.SIGTERM)
        one.process.wait()


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_pilot_ends_when_it_has_had_nothing_to_do_for_a_while_and_at_once_when_the_run_is_over(bench: Bench) -> None:
    assert bench.turn() is None
    assert bench.turn(piloting.LINGER - 1.0) is None
    assert bench.turn(2.0) == 0


def test_the_end_of_the_run_is_the_end_of_an_idle_pilot(bench: Bench) -> None:
    bench.orders.end()
    assert bench.turn() == 0


def test_a_run_that_was_deleted_needs_no_pilot(bench: Bench) -> None:
    bench.orders.directory.rmdir()
    assert bench.turn() == 0


def test_gpus_that_do_not_answer_are_waited_for_and_not_for_ever(bench: Bench) -> None:
    bench.offer("a")
    bench.gpus = Unreadable("the driver hangs")
    assert bench.turn() is None
    assert bench.turn(piloting.LINGER + 1.0) is None
    assert bench.turn(piloting.BLOCKED) == 1


def test_nothing_begins_while_the_run_is_paused_and_no_gpu_is_kept_for_that(bench: Bench) -> None:
    bench.offer("a")
    (bench.store.root / "paused").touch()
    assert bench.turn() is None
    assert not bench.pilot._running
    assert bench.turn(piloting.LINGER + 1.0) == 0


def test_what_another_pilot_has_taken_is_left_to_it(bench: Bench) -> None:
    root, mine = bench.offer("a"), bench.offer("b", "true")
    (root / "claim").write_text("slurm n2 9 1 77 0 other\n")
    bench.until((mine / "exit").exists)
    assert bench.pilot._done >= {"a~1"}
    assert not (root / "exit").exists()


def test_an_attempt_ends_as_it_is_told_and_leaves_nothing_running(bench: Bench) -> None:
    root = bench.offer("a", "(trap '' TERM; exec sleep 100) & sleep 100")
    bench.until((root / "claim").exists)
    bench.orders.stop("a~1", kill=False)
    bench.until(lambda: text(root / "exit"))
    assert text(root / "exit") == "143\n"
    assert not (root / "told").exists(), "that would mean that its allocation has ended"
    bench.until(lambda: not bench.pilot._running)
    wait_for(lambda: bench.pilot._scan.tagged() == {}, say="its processes to be killed")


def test_a_deaf_attempt_is_killed(bench: Bench) -> None:
    root = bench.offer("a", "trap '' TERM; touch deaf; while :; do sleep 100; done")
    bench.until((root / "deaf").exists)
    bench.orders.stop("a~1", kill=True)
    bench.until(lambda: text(root / "exit"))
    assert text(root / "exit") == "137\n"


def test_what_takes_too_long_is_ended_though_no_manager_lives(bench: Bench) -> None:
    root = bench.offer("a", limit=50.0)
    bench.until((root / "claim").exists)
    bench.turn(49.0)
    assert not (root / "stop").exists()
    bench.turn(2.0)
    bench.until(lambda: text(root / "exit") == "143\n")


def test_an_attempt_whose_script_was_killed_has_a_record_all_the_same(bench: Bench) -> None:
    root = bench.offer("a", "touch begun; sleep 100")
    bench.until((root / "begun").exists)
    bench.pilot._running["a~1"].process.kill()
    bench.until(lambda: text(root / "exit") == "137\n")
    assert (bench.store.ended / "a~1").exists()
    wait_for(lambda: bench.pilot._scan.tagged() == {}, say="its processes to be killed")


@pytest.mark.parametrize(
    ("seconds", "late", "had_all"), [(30.0, 0.0, True), (10_000.0, 0.0, False), (100.0, 65.0, False)]
)
def test_the_end_of_the_allocation_is_told_to_all_and_who_had_all_of_its_time_is_marked(
    tmp_path: Path, seconds: float, late: float, had_all: bool
) -> None:
    bench = Bench(tmp_path / "run", seconds)
    bench.now += late
    root = bench.offer("a")
    bench.until((root / "claim").exists)
    bench.pilot._hear(signal.SIGTERM, None)
    bench.until(lambda: text(root / "exit") == "143\n")
    assert (root / "told").exists()
    assert (root / "limit").exists() is had_all
    bench.until(lambda: not bench.pilot._running)
    bench.offer("b")
    assert bench.turn() == 0, "nothing begins any more"


def test_nothing_begins_for_which_too_little_time_is_left(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "run", 100.0)
    root = bench.offer("a", until("go"))
    bench.until((root / "claim").exists)
    bench.now += 60.0
    (root / "go").touch()
    bench.until(lambda: not bench.pilot._running)
    bench.offer("b")
    assert bench.turn() == 0


def test_what_no_gpu_can_hold_fails_with_the_reason_as_its_last_words(bench: Bench) -> None:
    root = bench.offer("a", mib=20_000)
    bench.turn()
    assert text(root / "exit") == "1\n"
    words = (
        "wavequeue: needs 20000 MiB on 1 GPU; the largest GPU has 10000 MiB; ask for another by slurm: gres, constraint"
    )
    assert text(bench.paths.log_dir / "a.log") == f"{words}\n"
