"""`python -m queue_manager.remote.slurm_scripts --output DIR`: write what would be submitted to Slurm for a manifest,
and print what that is as one JSON document. Submits nothing.

The manifest comes on stdin. All is made by the code that submits: only sbatch itself is not called, and its call is
written into a file in its place.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from queue_manager.adapters import files
from queue_manager.adapters.distributed import Ports
from queue_manager.adapters.evidence import Patterns
from queue_manager.adapters.files import make_directory, write_text
from queue_manager.adapters.named_values import NamedValues
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.adapters.shared_ports import SharedPorts
from queue_manager.code_watch import CodeWatch
from queue_manager.core import events as ev
from queue_manager.core import shell_paths
from queue_manager.core.events import Record
from queue_manager.core.layout import HostPaths, RunPaths, run_key, session_name
from queue_manager.core.manifest import Manifest, ManifestError, decode
from queue_manager.core.model import QueueState
from queue_manager.host_jobs import HostJobs
from queue_manager.launchers.process import Process
from queue_manager.launchers.script import Given
from queue_manager.slurm import batches
from queue_manager.slurm.batches import Batch
from queue_manager.slurm.cluster import Cluster
from queue_manager.slurm.engine import Engine
from queue_manager.slurm.launch import GATHERS
from queue_manager.slurm.pools import MARK
from queue_manager.slurm.watch import BOOT

SUBMIT = "submit.sh"
_README = """\
# What `wavequeue submit --engine slurm` would submit

Nothing was submitted. Each directory below `slurm/batches` is one array:

- `task.sh` is what each of its tasks runs, and `attempt.sh` runs one attempt;
- `tasks` names the attempts, and at the end of each line the task that runs it;
- `submit.sh` holds the call of sbatch.

What an attempt runs is in `attempts/JOB~1/job.sh`. In a run it also loads the environment that the run was started
with.

The manager submits an array once what its jobs wait for has completed, and has at most {most} jobs with Slurm at a
time. Jobs that are to be tried again are submitted as arrays of their own.

{rows}
"""


class Written(Cluster):
    """A cluster to which nothing is submitted: the call of sbatch is written beside each batch. `made`: the batches,
    with these calls."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__(environment, time.time)
        self.made: list[tuple[Batch, list[str]]] = []

    def submit(self, batch: Batch, options: Sequence[str], extra: Mapping[str, str]) -> None:
        """Write the call that would submit a batch. Values of `extra` are secrets, and left out."""
        argv = batches.command(batch, options)
        lines = ["#!/bin/bash", *(f"# export {name}=…  # of .env, or of the environment" for name in extra)]
        write_text(batch.directory / SUBMIT, "\n".join([*lines, f"exec {shlex.join(argv)}"]) + "\n")
        self.made.append((batch, argv))

    def look_at_partitions(self) -> None:
        """Ask at once. Without Slurm here, no partition is known."""
        if self.partitions is None:
            self._look_at_partitions()

    def ask(self) -> None:
        """Ask how the cluster is configured."""
        self._configure()


class _AnyCode(CodeWatch):
    """Which code the jobs find is known once they are submitted."""

    def at_launch(self, now: float) -> str | None:  # noqa: ARG002
        return None


class _NoPorts(Ports):
    """Ports are reserved once the jobs are submitted."""

    def take(self, job: str, n: int) -> int | None:  # noqa: ARG002
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the scripts and print the document. 0; 1 with `fault` in it; 2 where stdin holds no manifest."""
    parser = argparse.ArgumentParser(
        prog="python -m queue_manager.remote.slurm_scripts", description="Write what would be submitted to Slurm."
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="a new or empty directory")
    options = parser.parse_args(arguments)
    try:
        manifest = decode(sys.stdin.buffer.read().decode())
    except (ManifestError, UnicodeDecodeError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        print(json.dumps(write(shell_paths.whole(manifest, os.environ), options.output.absolute()), ensure_ascii=False))
    except OSError as error:
        print(json.dumps({"fault": f"{error.filename or options.output}: {error.strerror}"}))
        return 1
    return 0


def write(manifest: Manifest, root: Path) -> dict[str, Any]:
    """Write the scripts of a manifest below `root`, which is new or empty. Raises OSError.

    Returns `batches`: [{directory, phase, tasks, jobs: 0 for allocations that jobs share, command: sbatch's}], in the
    order in which they are submitted.
    """
    paths = RunPaths.of(root)
    for directory in (paths.root, paths.attempts):
        make_directory(directory)
    run_dir, environment, now = RunDir(paths), dict(os.environ), time.time()
    state = QueueState(manifest)
    state.apply(Record(1, now, ev.RunStarted(manifest.project, manifest.project, "")))
    key = run_key(state.run_id, os.path.realpath(root))
    cluster = Written(environment)
    cluster.ask()
    jobs = HostJobs(paths, state, environment)
    engine = Engine(state, run_dir, key, HostPaths.of(root), environment, Patterns, time.time, 5.0, cluster)
    engine.look(now)
    ports = _NoPorts(root / "ports", key, BOOT, SharedPorts(SharedDirectory(root), BOOT))
    code = _AnyCode(state, environment, jobs.run_cwd(), now, lambda: None)
    given = Given(files.umask(), run_cwd=jobs.run_cwd())
    named = NamedValues(environment, jobs.run_cwd())
    launch = engine.launch(state, run_dir, Process(environment), key, given, ports, named, code)
    rows: list[dict[str, Any]] = []
    for phase in state.phases:
        before = len(cluster.made)
        for job in [one for one in state.jobs if one.spec.phase == phase.name]:
            spec = job.spec
            starting = ev.AttemptStarting(spec.id, 1, 1, session_name(state.run_id, spec.id, 1), BOOT)
            state.apply(Record(state.seq + 1, now, starting))
            assert job.attempt is not None
            engine.watch.follow(job.order, jobs.spec(job), job.attempt, jobs.cwd(job))
            launch.start(job, job.attempt, jobs.cwd(job), now)
        launch.flush(now + GATHERS)
        rows += [_row(batch, phase.name, argv, root) for batch, argv in cluster.made[before:]]
    cluster.close()
    _tidy(paths)
    lines = [
        f"- `{row['directory']}`: {row['jobs']} jobs of phase {row['phase']} in {row['tasks']} tasks" for row in rows
    ]
    write_text(root / "README.md", _README.format(most=engine.admission.window.most, rows="\n".join(lines)))
    return {"batches": rows}


def _row(batch: Batch, phase: str, argv: Sequence[str], root: Path) -> dict[str, Any]:
    return {
        "directory": str(batch.directory.relative_to(root)),
        "phase": phase,
        "tasks": len(batch.tasks),
        "jobs": sum(not name.startswith(MARK) for name in batch.attempts),
        "command": list(argv),
    }


def _words(row: Mapping[str, Any]) -> str:
    if not row["jobs"]:
        return f"phase {row['phase']}, allocations that its jobs share: {row['tasks']}"
    return f"phase {row['phase']}, jobs: {row['jobs']}, tasks: {row['tasks']}"


def _tidy(paths: RunPaths) -> None:
    """Remove what only a run needs."""
    for path in (paths.wrapper, paths.screenrc, *paths.attempts.glob("*/gate")):
        with contextlib.suppress(OSError):
            path.unlink()
    for directory in (paths.inbox, paths.answer("x").parent):
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
