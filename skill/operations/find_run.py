"""Find the run that a command is about."""

from __future__ import annotations

from pathlib import Path

from queue_manager.core.layout import project_fault
from skill.common.errors import UseError
from skill.runs import directory
from skill.runs.directory import Run
from skill.runs.open import on_hosts


def find_run(name: str | None = None) -> Run:
    """Return the run with this name, this beginning of a name, or in this directory; None: the newest. Raises
    UseError."""
    return directory.find(name, Path.cwd(), Path.home())


def is_near(run: Run) -> bool:
    """Whether a run lies in the present directory, below it, or beside a spec of one of its parents."""
    cwd = Path.cwd()
    return run.root.is_relative_to(cwd) or run.root.parent.parent in cwd.parents


def check_name(name: str) -> None:
    """Raise UseError where another run is meant by a name that a new one would have, or no run can have it."""
    fault = project_fault(name)
    if fault:
        raise UseError(f"--name {name} {fault}")
    taken = next((run for run in directory.known(Path.cwd(), Path.home()) if directory.title(run.id) == name), None)
    if taken is not None:
        raise UseError(f"there is a run with the name {name} ({taken.id}); choose another name")


def find_run_on_hosts(name: str | None = None) -> Run:
    """Return a run as `find_run` does, among runs on hosts only. Raises UseError for a run on this machine."""
    if name is None:
        found = next((run for run in directory.known(Path.cwd(), Path.home()) if on_hosts(run)), None)
        if found is None:
            raise UseError("no run was submitted to hosts; submit one with: wavequeue submit SPEC")
        return found
    run = find_run(name)
    if not on_hosts(run):
        raise UseError(f"run {run.id} runs on this machine: its results are already here")
    return run
