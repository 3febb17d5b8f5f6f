"""Turnaround: 200 jobs of 0.2 s on 4 slots, by the queue manager and by a bare loop, one after the other, three times,
with each launcher.

The bare loop does the least that any such queue must: a pidfd for each job, an fsync for each start, and `screen -dmS`
or a bash of its own session.
A gap is the time from one job's end to the next one's start on the same slot, as the jobs report: slots
are taken in the order in which they became free. (To give each start the latest end instead would leave the mean as
it is, but pull the median down wherever jobs end together.)
"""

from __future__ import annotations

import os
import select
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.e2e.runs import World, job, manifest

JOBS, SLOTS, SECONDS = 200, 4, 0.2
# bash waits and tells the time without starting a process, so that the gap holds nothing of the job.
COMMAND = f"s=$EPOCHREALTIME; read -t {SECONDS} <> nothing; echo $s $EPOCHREALTIME > times_$WAVEQUEUE_JOB_ID"


class Timing(NamedTuple):
    """`gap`: median in ms; `makespan`: of the ideal."""

    gap: float
    makespan: float


def by_manager(root: Path, launcher: str) -> Timing:
    """All jobs through a real manager."""
    world = World(root)
    try:
        (root / "run").mkdir()
        os.mkfifo(root / "run" / "nothing")
        run = world.run(
            manifest(*[job(f"j{n}", COMMAND) for n in range(JOBS)], max_parallel=SLOTS, launcher=launcher), poll=5
        )
        if run.go() != 0:
            raise RuntimeError(run.story())
        return timing(run.directory)
    finally:
        world.close()


def by_bare_loop(root: Path, launcher: str) -> Timing:
    """All jobs by nothing but pidfd, fsync and what starts a job."""
    world = World(root)
    environment = dict(world.environment)
    waiting = [f"j{n}" for n in range(JOBS)]
    journal = os.open(root / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    poll = select.poll()
    os.mkfifo(root / "nothing")
    begun = []

    def start() -> None:
        name = waiting.pop(0)
        os.write(journal, f"{name}\n".encode())
        os.fsync(journal)
        environment["WAVEQUEUE_JOB_ID"] = name
        if launcher == "process":
            begun.append(subprocess.Popen(["bash", "-c", COMMAND], env=environment, cwd=root, start_new_session=True))
            pid = begun[-1].pid
        else:
            fifo = root / f"pid_{name}"
            os.mkfifo(fifo)
            command = ["screen", "-dmS", name, "bash", "-c", f"echo $$ > {fifo}; {COMMAND}"]
            subprocess.Popen(command, env=environment, cwd=root).wait()
            pid = int(fifo.read_text())
        poll.register(os.pidfd_open(pid), select.POLLIN)

    try:
        for _ in range(SLOTS):
            start()
        running = SLOTS
        while running:
            for fd, _ in poll.poll():
                poll.unregister(fd)
                os.close(fd)
                running -= 1
                if waiting:
                    start()
                    running += 1
        return timing(root)
    finally:
        for process in begun:
            process.wait()
        os.close(journal)
        world.close()


def timing(directory: Path, jobs: int = JOBS) -> Timing:
    """What so many jobs reported in a run's directory."""
    times = sorted(
        (float(begun), float(ended))
        for path in directory.glob("times_*")
        for begun, ended in [path.read_text().split()]
    )
    if len(times) != jobs:
        raise RuntimeError(f"{len(times)} of {jobs} jobs reported their times")
    ends = sorted(ended for _, ended in times)
    gaps = [begun - ended for (begun, _), ended in zip(times[SLOTS:], ends)]
    ideal = jobs * SECONDS / SLOTS
    return Timing(statistics.median(gaps) * 1000, (max(end for _, end in times) - times[0][0]) / ideal)


def main() -> None:
    """Print the tables."""
    for launcher, most in (("screen", 1.6), ("process", 2.5)):
        _compare(launcher, most)


def _compare(launcher: str, most: float) -> None:
    ways: list[tuple[str, Callable[[Path, str], Timing]]] = [("bare loop", by_bare_loop), ("queue manager", by_manager)]
    found: dict[str, list[Timing]] = {name: [] for name, _ in ways}
    for _ in range(3):
        for name, way in ways:
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
                found[name].append(way(Path(directory), launcher))
    print(f"{JOBS} jobs of {SECONDS} s on {SLOTS} slots, launcher {launcher} (medians of three; at most {most}x)")
    gaps = {name: statistics.median(timing.gap for timing in timings) for name, timings in found.items()}
    for name, timings in found.items():
        makespan = statistics.median(timing.makespan for timing in timings)
        ratio = gaps[name] / gaps["bare loop"]
        print(
            f"  {name:14} median gap {gaps[name]:6.1f} ms ({ratio:4.2f}x)   makespan {makespan:5.3f} of ideal",
            flush=True,
        )


if __name__ == "__main__":
    main()
