"""What it costs to follow the health of jobs: the manager's CPU with 8 jobs that each write 10 lines a second, looking
at their logs and not, side by side; its turnaround, both ways; and what is read of a log of 1 GiB."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks import turnaround
from queue_manager.adapters.log_reader import HEAD, MOST, LogReader
from tests.e2e.runs import Run, World, job, manifest, wait_for

JOBS, LINES = 8, 10
SECONDS = 60.0
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

    before = "import queue_manager.health_watch as h; h.FIRST = h.EVERY = 1e9; "


def cpu(root: Path, kind: type[Run]) -> float:
    """Percent of a core that a manager uses while its jobs write."""
    world = World(root)
    try:
        (root / "writes.py").write_text(WRITES)
        jobs = [job(f"j{n}", f"{sys.executable} {root / 'writes.py'}") for n in range(JOBS)]
        run = _as(world.run(manifest(*jobs, max_parallel=JOBS), poll=5), kind)
        run.start()
        for n in range(JOBS):
            run.wait_running(f"j{n}")
        assert run.manager is not None
        process = psutil.Process(run.manager.pid)
        time.sleep(SECONDS / 4)  # it compiles its patterns at its first look
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        time.sleep(SECONDS)
        used = sum(process.cpu_times()[:2]) - before
        if kind is _Looking:
            wait_for(lambda: (run.jobs()["j0"]["health"] or {}).get("step"), say="a step that was read")
        return 100 * used / (time.monotonic() - began)
    finally:
        world.close()


def gap(root: Path, kind: type[Run]) -> float:
    """Median milliseconds from one short job's end to the next one's start."""
    world = World(root)
    try:
        (root / "run").mkdir()
        os.mkfifo(root / "run" / "nothing")
        jobs = [job(f"j{n}", turnaround.COMMAND) for n in range(turnaround.JOBS)]
        run = _as(world.run(manifest(*jobs, max_parallel=turnaround.SLOTS), poll=5), kind)
        if run.go() != 0:
            raise RuntimeError(run.story())
        return turnaround.timing(run.directory).gap
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
    shares: dict[type[Run], list[float]] = {_Looking: [], _Blind: []}
    gaps: dict[type[Run], list[float]] = {_Looking: [], _Blind: []}
    for _ in range(3):
        for kind in (_Blind, _Looking):
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                shares[kind].append(cpu(Path(directory), kind))
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                gaps[kind].append(gap(Path(directory), kind))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        first, later = large_log(Path(directory))
    with_it, without = (statistics.median(shares[kind]) for kind in (_Looking, _Blind))
    print(f"Health of {JOBS} jobs that each write {LINES} lines a second (medians of three)")
    print(f"  the manager's CPU {without:6.3f} % of a core without it, {with_it:6.3f} % with it", end="")
    print(f" ({with_it - without:+.3f}; at most {SHARE})")
    with_it, without = (statistics.median(gaps[kind]) for kind in (_Looking, _Blind))
    print(f"  median gap between jobs {without:6.1f} ms without it, {with_it:6.1f} ms with it", end="")
    print(f" ({100 * (with_it / without - 1):+.1f} %; at most {TURNAROUND:.0f})")
    print(f"  a log of 1 GiB: {first:.1f} ms for the first look, {later:.1f} ms for one after 10 MiB more", end="")
    print(f"; at most {(MOST + HEAD) >> 10} KiB are read")


if __name__ == "__main__":
    main()
