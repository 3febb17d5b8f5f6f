"""Runs on a real Slurm cluster, beside one plain `sbatch --array` of the same jobs.

`python -m benchmarks.slurm [JOBS]`: jobs of one second on 16 slots, how much longer they take all together, and what
the manager uses of a core.

`python -m benchmarks.slurm large [JOBS] [SECONDS]`: a run of 10,000 jobs, of which the cluster holds 64 at a time: when
the first begins; the manager's CPU time for each job that ends and, once all that runs goes on for long, at rest; and
what the controller spends on its requests. Each part takes so many seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from tests import slurm_cluster
from tests.e2e.runs import Run, World, wait_for
from tests.slurm_cluster import SlurmCluster

JOBS, SLOTS = 1000, 16
LARGE, LARGE_SLOTS, EACH, PART = 10_000, 64, 20, 180.0
"""Jobs, how many of them run at a time, seconds that each takes, and seconds of a part of the measurement."""
SETTLES = 60.0
"""Seconds from the begin until all is submitted, and the end of the run is estimated once."""
PATIENCE = 1800.0


@contextlib.contextmanager
def _cluster(folder: Path, slots: int) -> Iterator[SlurmCluster]:
    cluster = SlurmCluster(folder / "cluster", cpus=slots // 2, max_jobs=3 * LARGE)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def main(jobs: int = JOBS) -> None:
    """Measure, and print a table."""
    missing = slurm_cluster.missing()
    if missing is not None:
        print(f"\nSlurm: not measured: {missing}")
        return
    with tempfile.TemporaryDirectory() as folder, _cluster(Path(folder), SLOTS) as cluster:
        plain = _plain(cluster, Path(folder), jobs)
        ours, cpu, first = _ours(cluster, Path(folder), jobs)
    print(f"\n{jobs} jobs of 1 s on {SLOTS} slots of Slurm; ideal {jobs / SLOTS:.1f} s")
    print(f"  {'sbatch --array':<44} {plain:8.1f} s")
    print(f"  {'wavequeue, and to it (at most 1.15)':<44} {ours:8.1f} s {ours / plain:6.2f}")
    print(f"  {'from its start to the first job':<44} {first:8.2f} s")
    print(f"  {'its manager, of a core':<44} {100 * cpu / ours:8.2f} %")


def _plain(cluster: SlurmCluster, folder: Path, jobs: int) -> float:
    script = folder / "plain.sh"
    script.write_text(f"#!/bin/bash\nsleep 1\n: >{folder}/plain/$SLURM_ARRAY_TASK_ID\n")
    (folder / "plain").mkdir()
    begin = time.monotonic()
    cluster.call("sbatch", f"--array=0-{jobs - 1}", "--cpus-per-task=1", "--output=/dev/null", str(script))
    wait_for(lambda: len(os.listdir(folder / "plain")) == jobs, PATIENCE)
    return time.monotonic() - begin


@contextlib.contextmanager
def _run(cluster: SlurmCluster, folder: Path, jobs: int, command: str) -> Iterator[Run]:
    (folder / "host").mkdir()
    world = World(folder / "host", cluster.environment)
    specs = tuple(JobSpec(f"j{n}", command, "main", gpus=0, slurm={"cpus": 1}) for n in range(jobs))
    try:
        yield world.run(Manifest("bench", specs, (Phase("main"),), cwd=str(folder), launcher=SLURM), poll=5.0)
    finally:
        world.close()


def _ours(cluster: SlurmCluster, folder: Path, jobs: int) -> tuple[float, float, float]:
    """Seconds until all have completed, CPU seconds of the manager, and seconds until the first job began."""
    with _run(cluster, folder, jobs, "sleep 1") as run:
        begin = time.monotonic()
        manager = run.start()
        wait_for(lambda: any(run.paths.log_dir.glob("j*.log")), PATIENCE)
        first = time.monotonic() - begin
        used = 0.0
        while manager.poll() is None:
            with contextlib.suppress(psutil.Error):
                used = _cpu(manager.pid)
            time.sleep(0.2)
        return time.monotonic() - begin, used, first


def _cpu(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class _Spent(NamedTuple):
    """What was used in a while. `seconds` that it took; `ended`: jobs that ended in it; `cpu` seconds of the manager;
    `controller`: seconds that Slurm's controller spent on requests of the manager's commands."""

    seconds: float
    ended: int
    cpu: float
    controller: float

    @property
    def share(self) -> float:
        """Percent of a core that the manager used."""
        return 100 * self.cpu / self.seconds


def large(jobs: int = LARGE, part: float = PART) -> None:
    """Measure a large run, and print a table."""
    missing = slurm_cluster.missing()
    if missing is not None:
        print(f"\nSlurm: not measured: {missing}")
        return
    with tempfile.TemporaryDirectory() as name, _cluster(Path(name), LARGE_SLOTS) as cluster:
        folder = Path(name)
        command = f"[ -e {folder}/long ] && sleep 100000; sleep {EACH}"
        with _run(cluster, folder, jobs, command) as run:
            begin = time.monotonic()
            manager = run.start()
            wait_for(lambda: any(run.paths.log_dir.glob("j*.log")), PATIENCE)
            first = time.monotonic() - begin
            time.sleep(SETTLES)
            going = _spent(cluster, run, manager.pid, part)
            (folder / "long").touch()
            time.sleep(EACH + SETTLES)
            rests = _spent(cluster, run, manager.pid, part)
    each = 1000 * (going.cpu - rests.share / 100 * going.seconds) / max(1, going.ended)
    pace = (1.0 - rests.share) / 100 / (each / 1000)
    print(f"\n{jobs} jobs, {LARGE_SLOTS} at a time on Slurm, {EACH} s each")
    print(f"  {'from the start to the first job (at most 10)':<52} {first:8.2f} s")
    print(
        f"  {f'manager, {going.ended / going.seconds:.1f} jobs ending each second, of a core':<52} {going.share:8.2f} %"
    )
    print(f"  {'manager, for each job beside what it uses at rest':<52} {each:8.1f} ms")
    print(f"  {'manager at rest, of a core (at most 1)':<52} {rests.share:8.2f} %")
    print(f"  {'jobs ending each second with which it uses 1 %':<52} {pace:8.2f}")
    for what, one in (("", going), (" at rest", rests)):
        share = 100 * one.controller / one.seconds
        print(f"  {f'controller, for its requests{what} (at most 0.5)':<52} {share:8.3f} %")


def _spent(cluster: SlurmCluster, run: Run, pid: int, seconds: float) -> _Spent:
    begin, cpu, ended, controller = time.monotonic(), _cpu(pid), _ended(run), _requests(cluster)
    time.sleep(seconds)
    took = time.monotonic() - begin
    return _Spent(took, _ended(run) - ended, _cpu(pid) - cpu, _requests(cluster) - controller)


def _ended(run: Run) -> int:
    """How many jobs have completed."""
    return run.paths.journal.read_bytes().count(b'"AttemptEnded"')


_LISTING = re.compile(r"REQUEST_JOB_(?:USER_)?INFO\s.*?total_time:(\d+)")
_SUBMITTING = re.compile(r"REQUEST_SUBMIT_BATCH_JOB\s.*?total_time:(\d+)")


def _requests(cluster: SlurmCluster) -> float:
    """Seconds that the controller has spent on squeue and sbatch by now."""
    text = cluster.call("sdiag").partition("RPC statistics by user")[0]
    return sum(int(us) for one in (_LISTING, _SUBMITTING) for us in one.findall(text)) / 1e6


if __name__ == "__main__":
    if sys.argv[1:2] == ["large"]:
        large(*map(int, sys.argv[2:4]))
    else:
        main(*map(int, sys.argv[1:2]))
