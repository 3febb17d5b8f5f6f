"""Runs on a real Slurm cluster, whose jobs note each time they run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from tests.e2e.runs import Run, World, until
from tests.e2e.runs import job as any_job
from tests.slurm_cluster import SlurmCluster

UNTIL_GO = until("go")
"""A command that runs until the test has it go on."""


def job(name: str, cmd: str, **fields: object) -> JobSpec:
    """A job that notes each time it runs."""
    noted = f"echo {name} $WAVEQUEUE_ATTEMPT >> ran; {cmd}"
    return any_job(name, noted, slurm={"cpus": 1, **dict(fields.pop("slurm", {}))}, **fields)  # type: ignore[call-overload]


def on_slurm(world: World, *jobs: JobSpec, phases: tuple[Phase, ...] = (Phase("main"),), **fields: object) -> Run:
    """A run of these jobs, in a work directory of their own; no manager yet."""
    (world.root / "work").mkdir()
    made = Manifest("test", jobs, phases, cwd=str(world.root / "work"), launcher=SLURM, **fields)  # type: ignore[arg-type]
    return world.run(made)


def ran(run: Run) -> Counter[str]:
    """How often each attempt of each job has run."""
    return Counter((run.world.root / "work" / "ran").read_text().splitlines())


def small_world(world: World, each: int = 3, **fields: object) -> Run:
    """Two teachers and `each` students of either, which read what their teacher has written."""
    teachers = [job(f"t{n}", f"sleep 0.2; echo {n} > t{n}", phase="teach", expected_output=f"t{n}") for n in (1, 2)]
    students = [
        job(
            f"s{n}_{k}",
            f"grep -qx {n} t{n} && echo > s{n}_{k}",
            phase="learn",
            depends_on=(f"t{n}",),
            expected_output=f"s{n}_{k}",
        )
        for n in (1, 2)
        for k in range(each)
    ]
    return on_slurm(world, *teachers, *students, phases=(Phase("teach"), Phase("learn", ("teach",), ("n",))), **fields)


def stand_in(world: World, cluster: SlurmCluster, script: str) -> dict[str, str]:
    """An environment in which sbatch is `script`, where REAL is the real one."""
    folder: Path = world.root / "bin"
    folder.mkdir(exist_ok=True)
    program = folder / "sbatch"
    made = folder / "sbatch.new"  # a manager may just be about to run the one that is there
    made.write_text("#!/bin/sh\n" + script.replace("REAL", str(cluster.bin / "sbatch")))
    made.chmod(0o755)
    made.replace(program)
    return {"PATH": f"{folder}:{world.environment['PATH']}"}
