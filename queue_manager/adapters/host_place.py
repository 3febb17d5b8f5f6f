"""The place of this host among those that have one home, such as NFS: leases, runs and identity of each are its own."""

from __future__ import annotations

from pathlib import Path

from queue_manager.adapters import facts
from queue_manager.core.layout import HostPaths, RunPaths


def of(home: Path) -> HostPaths:
    """The place of this host in a home of its user."""
    base = HostPaths.of(home).root
    root = Path(facts.place(base))
    return HostPaths(root, None if root == base else base)


def here() -> HostPaths:
    """The place of this host in the home of this process."""
    return of(Path.home())


def of_slurm() -> HostPaths:
    """The place of runs on Slurm in the home of this process: their managers run on one machine after the other."""
    base = HostPaths.of(Path.home()).root
    return HostPaths(base / "slurm", base)


def of_run(own: HostPaths, run_id: str) -> HostPaths:
    """The place of a run: this host's (`own`), or that of another host with this home if the run is on Slurm. The login
    nodes of a cluster share their home, and each can follow such a run, whichever it was submitted to."""
    if not (own.runs / run_id).is_dir():
        base = own.base or own.root
        for root in (base, *sorted(own.others.glob("*"))):
            if RunPaths.of(root / "runs" / run_id).slurm.is_dir():
                return HostPaths(root, None if root == base else base)
    return own
