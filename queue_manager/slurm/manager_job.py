"""The manager as a job of Slurm: what sbatch is told, and what squeue shows of such jobs. Pure.

All manager jobs of a run have one name and depend on `singleton`: Slurm starts the next one when the one before has
ended, however it ended. So there is no ID to remember, of which Slurm may have lost the meaning.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core import slurm_needs
from queue_manager.core.layout import shared_name
from queue_manager.core.manifest import Manifest
from queue_manager.core.slurm_manager import AS_JOB
from queue_manager.slurm.commands import LOST, OVER

WARNING = 120
"""Seconds before the time limit at which Slurm has the manager end, so that the next one follows."""
SOON, LIVES, LATER = 600.0, 5, 600
"""Of a run that had more than LIVES managers in SOON seconds, the next one starts after LATER seconds."""


class Row(NamedTuple):
    """A manager job as squeue shows it."""

    job: int
    state: str
    reason: str
    node: str

    @property
    def goes_on(self) -> bool:
        """Whether it runs, or may still start."""
        return self.state not in OVER

    @property
    def has_ended(self) -> bool:
        """Whether its process is surely gone. On a node that Slurm has lost it may live on."""
        return self.state in OVER and self.state not in LOST


def name(run_id: str, key: str) -> str:
    """Return the name of a run's manager jobs. `key`: see layout.run_key."""
    return f"wq.{run_id[:60]}.{shared_name(key)[:8]}.manager"


def listing(job_name: str) -> list[str]:
    """Return the command that lists all manager jobs of a run."""
    return [
        "squeue", "--me", "--noheader", "--states=all", f"--name={job_name}", "--format=%i|%T|%r|%N|%j",
    ]  # fmt: skip


def rows(text: str, job_name: str) -> list[Row]:
    """Return the manager jobs that squeue printed, oldest first."""
    found = []
    for line in text.splitlines():
        parts = line.split("|", 4)
        if len(parts) == 5 and parts[0].isdigit() and parts[4] == job_name:
            found.append(Row(int(parts[0]), *parts[1:4]))
    return sorted(found)


def settings(manifest: Manifest) -> dict[str, Any]:
    """Return what a manager job asks for: the partition, account and qos that all jobs have in common, and what the
    spec says of the manager under `slurm`."""
    found: dict[str, Any] = {}
    for key in ("partition", "account", "qos"):
        values = {str((job.slurm or {}).get(key, "")) for job in manifest.jobs}
        if len(values) == 1 and "" not in values:
            (found[key],) = values
    return {**found, **(manifest.slurm_manager or {})}


def submit(asked: Mapping[str, Any], job_name: str, script: Path, log: Path, after_s: int = 0) -> list[str]:
    """Return sbatch's arguments for one manager job; `after_s`: seconds that it waits at least."""
    return [
        "sbatch", "--parsable", "--no-requeue", "--open-mode=append", "--export=ALL", "--dependency=singleton",
        f"--job-name={job_name}", f"--chdir={script.parent}", f"--output={log}", "--input=/dev/null", "--ntasks=1",
        f"--signal=B:TERM@{WARNING}", *([f"--begin=now+{after_s}"] if after_s else []), *slurm_needs.options(asked),
        str(script),
    ]  # fmt: skip


def script(command: Sequence[str]) -> str:
    """Return the script of a manager job. It becomes the manager, so that a signal of Slurm reaches that."""
    return f"#!/bin/bash\n# wavequeue: the manager of a run, as a job of Slurm\nexec {shlex.join([*command, AS_JOB])}\n"


def delay(begun: Iterable[float], now: float) -> int:
    """Return the seconds that the next manager waits at least. `begun`: when managers of the run have begun; all in
    epoch seconds. A manager that fails each time as it begins must not start without end."""
    return LATER if sum(now - at < SOON for at in begun) > LIVES else 0


def words(found: Iterable[Row]) -> str | None:
    """Say where the next manager is; None if there is none."""
    row = next((row for row in found if row.goes_on), None)
    if row is None:
        return None
    if row.state == "PENDING":
        why = "" if row.reason in ("None", "") else f": {row.reason}"
        return f"waits in Slurm's queue (job {row.job}{why})"
    place = f" on {row.node}" if row.node else ""
    return f"is being started by Slurm{place} (job {row.job})"
