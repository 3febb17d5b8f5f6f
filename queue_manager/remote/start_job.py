"""Start the manager of a run as a job of Slurm."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence

from queue_manager.adapters import facts
from queue_manager.adapters.files import append_to
from queue_manager.adapters.load import UseError, read_manifest
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import RunPaths
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import managers
from queue_manager.slurm.managers import Managers

SOON = 20.0
"""Seconds for a manager to take the run once Slurm has started it."""
_QUEUED = 5.0
"""Seconds for Slurm to start it: on a cluster that is busy it waits for long."""
_BEGIN = 60.0
_AGAIN = 0.25
_OTHERS = "a partition, account or qos of its own is set by slurm: {manager: {partition: NAME}} at the top of the spec"


def start(paths: RunPaths, run_id: str, command: Sequence[str], environment: Mapping[str, str]) -> int | str:
    """See to it that a manager holds the run, or that one is queued: its process, 0 where that is unknown yet; or what
    failed. `command` runs a manager here. Raises OSError.

    Submitted twice at once, the second one is queued behind the first. Before the first one the state is written here,
    with the environment of the user.
    """
    holder = facts.held_by(paths.lock)
    if holder is not None:
        return holder
    try:
        manifest = read_manifest(paths.manifest)[0]
    except UseError as error:
        return str(error)
    if manifest.launcher != SLURM:
        return f"run {run_id} does not run on Slurm; its manager runs where it is started: --manager login"
    fault = None if paths.journal.exists() else _begin(paths, command, environment)
    if fault is not None:
        return fault
    begun = facts.state_meta(paths.state).get("run_id")
    known = Managers(paths, str(begun or run_id), environment)
    listed = known.listed()
    if isinstance(listed, Unreadable):
        return f"Slurm cannot be asked whether a manager is queued: {listed.reason}"
    managers.write_script(paths, command)
    if not any(row.goes_on for row in listed):
        refused = known.submit(manifest)
        listed = known.listed()
        if isinstance(listed, Unreadable) or not any(row.goes_on for row in listed):
            why = refused or "Slurm does not list it"
            return f"the manager could not be submitted: {why}; {_OTHERS}"
    return _wait(paths, known)


def _begin(paths: RunPaths, command: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Have the first state of a run written. Returns why that failed."""
    with append_to(paths.manager_log) as log:
        try:
            done = subprocess.run(
                [*command, "--begin"],
                cwd=paths.root,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
                timeout=_BEGIN,
            )
        except subprocess.TimeoutExpired:
            return f"the run's state could not be written in {_BEGIN:.0f} s; see {paths.manager_log}"
    return None if done.returncode == 0 else done.stderr.decode(errors="replace").strip()


def _wait(paths: RunPaths, known: Managers) -> int | str:
    """Wait while Slurm starts it, and while it takes the run."""
    begun = started = time.monotonic()
    while True:
        holder = facts.held_by(paths.lock)
        now = time.monotonic()
        if holder is not None:
            return holder
        listed = known.listed()
        if isinstance(listed, Unreadable):
            return 0
        row = next((row for row in listed if row.goes_on), None)
        if row is None:
            if facts.state_meta(paths.state).get("manager") == "finished":
                return 0
            last = listed[-1].state if listed else "it is not listed"
            return f"the manager has ended as it began (Slurm: {last}); see {paths.manager_log}"
        if row.state == "PENDING":
            started = now
        if (now - begun > _QUEUED and row.state == "PENDING") or now - started > SOON:
            return 0
        time.sleep(_AGAIN)
