"""Jobs of one second on 16 slots of a real Slurm cluster, beside one plain `sbatch --array` of the same: how much
longer they take all together, and what the manager uses of a core. `python -m benchmarks.slurm [JOBS]`."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import psutil

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from tests import slurm_cluster
from tests.e2e.runs import World, wait_for
from tests.slurm_cluster import SlurmCluster

JOBS, SLOTS = 1000, 16
PATIENCE = 1800.0


def main(jobs: int = JOBS) -> None:
    """Measure, and print a table."""
    missing = slurm_cluster.missing()
    if missing is not None:
        print(f"\nSlurm: not measured: {missing}")
        return
    with tempfile.TemporaryDirectory() as folder:
        cluster = SlurmCluster(Path(folder) / "cluster")
        try:
            cluster.up()
            plain = _plain(cluster, Path(folder), jobs)
            ours, cpu, first = _ours(cluster, Path(folder), jobs)
        finally:
            cluster.down()
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


def _ours(cluster: SlurmCluster, folder: Path, jobs: int) -> tuple[float, float, float]:
    """Seconds until all have completed, CPU seconds of the manager, and seconds until the first job began."""
    (folder / "host").mkdir()
    world = World(folder / "host", cluster.environment)
    specs = tuple(JobSpec(f"j{n}", "sleep 1", "main", gpus=0, slurm={"cpus": 1}) for n in range(jobs))
    run = world.run(Manifest("bench", specs, (Phase("main"),), cwd=str(folder), launcher=SLURM), poll=5.0)
    try:
        begin = time.monotonic()
        manager = run.start()
        wait_for(lambda: any(run.paths.log_dir.glob("j*.log")), PATIENCE)
        first = time.monotonic() - begin
        used = 0.0
        while manager.poll() is None:
            times = psutil.Process(manager.pid).cpu_times()
            used = times.user + times.system
            time.sleep(0.2)
        return time.monotonic() - begin, used, first
    finally:
        world.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
