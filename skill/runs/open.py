"""Which door leads to a run: the one place that asks whether it runs on this machine or on hosts."""

from __future__ import annotations

from skill.runs import assignment
from skill.runs.access import RunAccess
from skill.runs.directory import Run


def on_hosts(run: Run) -> bool:
    """Whether a run is on hosts, and not on this machine."""
    return assignment.path(run).exists()


def open_run(run: Run, *, once: bool = False) -> RunAccess:
    """Open a run, wherever it lives. `once`: hardly more than one look at it is wanted, which then comes sooner.

    Raises FailedError, and UseError for a fault in workers.yaml.
    """
    if on_hosts(run):
        from skill.runs.remote import RemoteRun  # a run on this machine need not pay for what reaches hosts

        return RemoteRun.at(run, once=once)
    from skill.runs.local import LocalRun

    return LocalRun(run)
