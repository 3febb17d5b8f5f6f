"""What a cluster's limits mean for jobs that sbatch itself would take. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from queue_manager.core import slurm_arrays, slurm_time
from queue_manager.slurm import partitions
from queue_manager.slurm.partitions import Partition

ASSOCIATIONS = ("sacctmgr", "--noheader", "--parsable2", "show", "associations", "format=Account,MaxJobs,MaxSubmitJobs")
"""How many jobs a user may have; it works only where there is accounting. `user=NAME` follows."""


def over_time(options: Sequence[str], known: Mapping[str, Partition]) -> str | None:
    """Return why a job with sbatch's options would wait forever, since it asks for more time than any of its
    partitions allows: sbatch takes it nevertheless. None where it would not."""
    wanted = slurm_arrays.time_limit(options)
    there = partitions.of(options, known)
    if wanted is None or not there or any(wanted <= one.max_time for one in there):
        return None
    most = max(there, key=lambda one: one.max_time)
    asked = "no time limit" if math.isinf(wanted) else f"a time limit of {slurm_time.clock(wanted)}"
    return (
        f"it asks for {asked}, and partition {most.name} allows {slurm_time.clock(most.max_time)} at most: it would "
        "wait forever (PartitionTimeLimit); set slurm: {time}, or timeout, to less"
    )


def closed(asked: Iterable[Sequence[str]], known: Mapping[str, Partition]) -> list[str]:
    """Return, of all partitions that jobs with these options may run in, those that start none now, in words."""
    found = {one.name: one.state for options in asked for one in partitions.of(options, known) if one.state != "UP"}
    return [f"partition {name} is {state}: no job starts there now" for name, state in found.items()]


def most_jobs(text: str, account: str | None) -> tuple[int | None, int | None]:
    """Return how many jobs a user may have running, and submitted, from a listing of ASSOCIATIONS; None: no limit.
    `account`: that of the jobs, None where it is the user's default."""
    rows = [line.split("|") for line in text.splitlines() if line.count("|") >= 2]
    mine = [row for row in rows if account is None or row[0] == account]
    running, submitted = ([int(row[at]) for row in mine if row[at].isdigit()] for at in (1, 2))
    return min(running, default=None), min(submitted, default=None)
