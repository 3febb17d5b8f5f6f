"""What it costs to follow the health of jobs: the manager's CPU with 8 jobs that each write 10 lines a second, looking
at their logs and not, at the same time; its turnaround, both ways; and what is read of a log of 1 GiB. It takes less
than two minutes."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import turnaround
from queue_manager.adapters.log_reader import HEAD, MOST, LogReader
from queue_manager.health_watch import EVERY
from tests.e2e.runs import Run, World, job, manifest, wait_for

JOBS, LINES = 8, 10
SECONDS = 30.0
SHORT, TIMES = 60, 3
"""Jobs of a run by which the gap between two is measured, and such runs of each kind."""
SHARE, TURNAROUND = 0.1, 5.0
"""Percent of a core, and of the median gap between two jobs, that it may cost."""
# The lines of a bar and of a step, by turns, as a job writes them.
WRITES = (
    "import time\n"
    "for n in range(10**9):\n"
    "    print(f'step {n}/100000 | loss {1 / (n + 1):.5f} | lr 1.0e-04 | 12.5 it/s | more is logged', flush=True)\n"
    f"    time.sleep({1 / LINES})\n"
)


class _Looking(Run):
    """A run whose manager looks at logs; started as the other one is, so that they differ in nothing else."""

    before = ""

    def argv(self, python: str = sys.executable) -> list[str]:
        found = super().argv(python)
        at = found.index("-m")
        call = "import runpy; runpy.run_module('queue_manager', run_name='__main__', alter_sys=True)"
        return [*found[:at], "-c", self.before + call, *found[at + 2 :]]


class _Blind(_Looking):
    """A run whose manager never looks at a log."""

    before = (
        "import queue_manager.health_watch as h; h.FIRST = h.EVERY = h.LEAST = 1e9; "
        "h.HealthWatch.look_at_end = lambda *_: {}; "
    )


def cpu(root: Path) -> dict[type[Run], float]:
    """Percent of a core that each kind of manager uses while its jobs write, both at the same time."""
    (root / "writes.py").write_text(WRITES)
    worlds = {kind: World(_made(root / kind.__name__)) for kind in (_Looking, _Blind)}
    try:
        runs = {}
        for kind, world in worlds.items():
            jobs = [job(f"j{n}", f"{sys.executable} {root / 'writes.py'}") for n in range(JOBS)]
            runs[kind] = _as(world.run(manifest(*jobs, max_parallel=JOBS), poll=5), kind)
            runs[kind].start()
        for run in runs.values():
            for n in range(JOBS):
                run.wait_running(f"j{n}")
        wait_for(lambda: (runs[_Looking].jobs()["j0"]["health"] or {}).get("step"), say="a step that was read")
        time.sleep(2 * EVERY)  # young attempts are looked at more often
        before, began = {kind: _ran(run) for kind, run in runs.items()}, time.monotonic()
        time.sleep(SECONDS)
        passed = time.monotonic() - began
        return {kind: 100 * (_ran(run) - before[kind]) / passed for kind, run in runs.items()}
    finally:
        for world in worlds.values():
            world.close()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _ran(run: Run) -> float:
    """Seconds of CPU time that a manager has used, to the nanosecond; psutil counts hundredths."""
    assert run.manager is not None
    threads = Path(f"/proc/{run.manager.pid}/task").iterdir()
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def gap(root: Path, kind: type[Run]) -> float:
    """Median milliseconds from one short job's end to the next one's start."""
    world = World(root)
    try:
        (root / "run").mkdir()
        os.mkfifo(root / "run" / "nothing")
        jobs = [job(f"j{n}", turnaround.COMMAND) for n in range(SHORT)]
        run = _as(world.run(manifest(*jobs, max_parallel=turnaround.SLOTS), poll=5), kind)
        if run.go() != 0:
            raise RuntimeError(run.story())
        return turnaround.timing(run.directory, SHORT).gap
    finally:
        world.close()


def _as(run: Run, kind: type[Run]) -> Run:
    return kind(run.world, run.directory, run.poll, run.run_id)


def large_log(root: Path) -> tuple[float, float]:
    """Milliseconds for the first and for a later look at a log of 1 GiB that grows by 10 MiB between the two."""
    log = root / "large.log"
    line = b"step 120/5000 | loss 0.31234 | lr 1.0e-04 | 12.5 it/s\n"
    with log.open("wb") as file:
        block = line * (1 << 14)
        for _ in range((1 << 30) // len(block)):
            file.write(block)
    reader, times = LogReader(log), []
    for _ in range(2):
        began = time.perf_counter()
        news = reader.read()
        times.append(1000 * (time.perf_counter() - began))
        size = sum(map(len, news.lines)) + len(news.lines)
        if not news.gap or size > MOST + HEAD:
            raise RuntimeError(f"{size} bytes were read")
        with log.open("ab") as file:
            file.write(block * ((10 << 20) // len(block)))
    return times[0], times[1]


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        shares = cpu(Path(directory))
    gaps: dict[type[Run], list[float]] = {_Looking: [], _Blind: []}
    for _ in range(TIMES):
        for kind in (_Blind, _Looking):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                gaps[kind].append(gap(Path(directory), kind))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        first, later = large_log(Path(directory))
    with_it, without = shares[_Looking], shares[_Blind]
    print(f"Health of {JOBS} jobs that each write {LINES} lines a second, for {SECONDS:.0f} s")
    print(f"  the manager's CPU {without:6.3f} % of a core without it, {with_it:6.3f} % with it", end="")
    print(f" ({with_it - without:+.3f}; at most {SHARE})")
    with_it, without = (statistics.median(gaps[kind]) for kind in (_Looking, _Blind))
    print(
        f"  median gap between {SHORT} jobs {without:6.1f} ms without it, {with_it:6.1f} ms with it",
        end="",
    )
    print(f" ({100 * (with_it / without - 1):+.1f} %; at most {TURNAROUND:.0f})")
    print(f"  a log of 1 GiB: {first:.1f} ms for the first look, {later:.1f} ms for one after 10 MiB more", end="")
    print(f"; at most {(MOST + HEAD) >> 10} KiB are read")


if __name__ == "__main__":
    main()
