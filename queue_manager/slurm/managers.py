"""The manager jobs of a run: list, submit and cancel them. Each call waits for Slurm, whose controller may be away."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from queue_manager.adapters import facts
from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.core.layout import RunPaths, run_key
from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import commands, manager_job
from queue_manager.slurm.manager_job import Row

PATIENCE = 60.0
"""Seconds for squeue and scancel."""
_AT_LIMIT = 180.0
"""Seconds for sbatch, which waits at a cluster's limit on jobs."""


class Managers:
    """The manager jobs of one run, named after its id and its directory."""

    def __init__(self, paths: RunPaths, run_id: str, environment: Mapping[str, str]) -> None:
        self._paths, self._environment = paths, commands.scrubbed(environment)
        self.name = manager_job.name(run_id, run_key(run_id, os.path.realpath(paths.root)))

    def listed(self) -> list[Row] | Unreadable:
        """All of them that Slurm knows, oldest first."""
        done = self._run(manager_job.listing(self.name), PATIENCE)
        if isinstance(done, str):
            return Unreadable(f"squeue: {done}")
        if done.returncode:
            return Unreadable(f"squeue: {commands.complaint(done.stderr)}")
        return manager_job.rows(done.stdout, self.name)

    def submit(self, manifest: Manifest, after_s: int = 0) -> str | None:
        """Have one more wait for its turn. Returns why that did not work, in Slurm's words; whether it did is seen in
        the list alone, since sbatch may submit and say that it did not."""
        asked = manager_job.settings(manifest)
        argv = manager_job.submit(asked, self.name, self._paths.manager_job, self._paths.manager_log, after_s)
        done = self._run(argv, _AT_LIMIT)
        if isinstance(done, str):
            return f"sbatch: {done}"
        return f"sbatch: {commands.complaint(done.stderr)}" if done.returncode else None

    def cancel(self, but: int | None) -> None:
        """End all of them except the job `but`. IDs are used again, so that they are looked up just before."""
        found = self.listed()
        if not isinstance(found, Unreadable):
            jobs = [str(row.job) for row in found if row.goes_on and row.job != but]
            if jobs:
                self._run(commands.end(jobs), PATIENCE)

    def _run(self, argv: Sequence[str], patience: float) -> subprocess.CompletedProcess[str] | str:
        """How a command ended, or why it did not."""
        try:
            return subprocess.run(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=patience,
            )
        except FileNotFoundError:
            return f"{argv[0]} is not installed here, or not in PATH"
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)


def of_directory(paths: RunPaths) -> Managers | None:
    """The manager jobs of a run that has them; None where its manager runs where it is started."""
    if not paths.manager_job.exists():
        return None
    run_id = facts.state_meta(paths.state).get("run_id")
    return Managers(paths, str(run_id or paths.root.name), os.environ)


def next_one(paths: RunPaths, manager: str) -> str | None:
    """Say where the next manager of a run is that nobody holds; None if none will come by itself. `manager`: what the
    state says of it; one that has finished is followed by another if a request waits. Where Slurm cannot be asked,
    that is said: it may come."""
    is_due = manager == "running" or (manager == "finished" and any(paths.inbox.glob("*.json")))
    found = of_directory(paths) if is_due else None
    listed = None if found is None else found.listed()
    if listed is None or isinstance(listed, Unreadable):
        return None if listed is None else f"is unknown, since Slurm cannot be asked: {listed.reason}"
    return manager_job.words(listed)


def write_script(paths: RunPaths, command: Sequence[str]) -> Path:
    """Write what a manager job runs, and by which a run is known to have them. Raises OSError."""
    make_directory(paths.manager_job.parent)
    write_whole(paths.manager_job, [manager_job.script(command).encode()])
    return paths.manager_job
