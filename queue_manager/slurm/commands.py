"""What Slurm's commands are told, and what they answer. Pure; measured with Slurm 22.05."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

LISTING = ("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F|%K|%T|%r|%N|%j")
"""One look at all of a user's jobs. Never by their ids: one that is unknown makes squeue fail, two do not."""


class Listed(NamedTuple):
    """One task as squeue shows it. `array`: the ID of its array; `node`: where it runs or ran, empty if nowhere."""

    array: int
    state: str
    reason: str
    node: str


OVER = frozenset(
    {
        "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
        "OUT_OF_MEMORY", "REVOKED",
    }
)  # fmt: skip
LOST = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"})
"""The cluster ended it, and not the job."""


def listing(text: str) -> dict[tuple[str, int], Listed]:
    """Return the tasks of a listing, by the array's name and the task's index. Lines of other jobs that are no arrays
    are passed over."""
    found: dict[tuple[str, int], Listed] = {}
    for line in text.splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6 and parts[0].isdigit() and parts[1].isdigit():
            array, index, state, reason, node, name = parts
            # A name may be there twice, since Slurm may have started a task again: what is not over says more.
            known = found.get((name, int(index)))
            if known is None or known.state in OVER:
                found[name, int(index)] = Listed(int(array), state, reason, node)
    return found


def submit(options: Iterable[str], name: str, count: int, directory: Path) -> list[str]:
    """Return sbatch's arguments for one array of `count` tasks. `directory`: of the batch, with its script."""
    return [
        "sbatch", "--parsable", "--no-requeue", "--open-mode=append", "--export=ALL", f"--array=0-{count - 1}",
        f"--job-name={name}", f"--chdir={directory}", f"--output={directory}/%a.out", "--input=/dev/null", *options,
        str(directory / "task.sh"),
    ]  # fmt: skip


_ID = re.compile(r"(\d+)(?:;\S+)?\s*")


def submitted(text: str) -> int | None:
    """Return the ID that sbatch printed; None where there is none, or not yet all of it."""
    found = _ID.fullmatch(text) if text.endswith("\n") else None
    return None if found is None else int(found.group(1))


class Refused(Enum):
    """Why sbatch surely submitted nothing."""

    LIMIT = "a limit on submitted jobs"
    WRONG = "Slurm cannot run such a job"


_REFUSALS = {
    Refused.LIMIT: (
        "AssocMaxSubmitJobLimit", "QOSMaxSubmitJobPerUserLimit", "QOSMaxSubmitJobLimit", "AssocGrpSubmitJobsLimit",
        "QOSGrpSubmitJobsLimit", "job submit limit",
    ),
    Refused.WRONG: (
        "invalid partition specified", "Invalid account or account/partition combination", "Invalid qos specification",
        "Requested node configuration is not available", "Invalid feature specification", "Invalid generic resource",
        "Invalid job array specification", "Invalid --time specification", "unrecognized option",
        "does not look like a batch script", "Access/permission denied", "Invalid number of",
        "Requested time limit is invalid", "Memory specification can not be satisfied", "Pathname of a file",
        "More processors requested than permitted", "Unable to open file",
    ),
}  # fmt: skip


def refused(code: int, words: str) -> Refused | None:
    """Return why sbatch refused; None where it is not clear whether it did: a time-out, a lost connection."""
    if code == 0:
        return None
    for kind, phrases in _REFUSALS.items():
        if any(phrase.lower() in words.lower() for phrase in phrases):
            return kind
    return Refused.WRONG if code == 255 else None


def complaint(words: str) -> str:
    """Return what Slurm says of a failure, in one line."""
    lines = [line.partition("error: ")[2] or line for line in words.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(line.strip() for line in lines)) or "no reason given"


def ask_to_end(tasks: Sequence[str]) -> list[str]:
    """Return the command that sends TERM to the scripts of running tasks alone, which hand it on.

    With such an option scancel takes a task that waits for all of its array that wait, and tries for a minute: by then
    some of them run. So it is for tasks that run; and `end` has no option such as --name.
    """
    return ["scancel", "--quiet", "--batch", "--signal=TERM", *tasks]


def end(tasks: Sequence[str]) -> list[str]:
    """Return the command that ends tasks, running or waiting."""
    return ["scancel", "--quiet", *tasks]


def hold(tasks: Sequence[str]) -> list[str]:
    """Return the command that keeps tasks from starting."""
    return ["scontrol", "hold", ",".join(tasks)]


def release(tasks: Sequence[str]) -> list[str]:
    """Return the command that lets held tasks start."""
    return ["scontrol", "release", ",".join(tasks)]


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what a surrounding Slurm job has set: a job would be tied to its CPUs."""
    ours = ("SLURM_CONF",)
    return {
        name: value
        for name, value in environment.items()
        if name in ours or not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_"))
    }
