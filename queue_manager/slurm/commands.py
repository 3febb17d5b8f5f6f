"""What Slurm's commands are told, and what they answer. Pure; measured with Slurm 22.05."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

LISTING = ("squeue", "--me", "--noheader", "--array", "--states=all", "--format=%F|%K|%T|%r|%N|%S|%j")
"""One look at all of a user's jobs. Never by their ids: one that is unknown makes squeue fail, two do not."""


class Listed(NamedTuple):
    """One task as squeue shows it. `array`: the ID of its array; `node`: where it runs or ran, empty if nowhere;
    `expected`: when Slurm expects to start one that waits, in its words (the local time of the cluster), empty where it
    does not say."""

    array: int
    state: str
    reason: str
    node: str
    expected: str = ""


OVER = frozenset(
    {
        "COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE",
        "OUT_OF_MEMORY", "REVOKED",
    }
)  # fmt: skip
LOST = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"})
"""The cluster ended it, and not the job."""
NODE_LOST = frozenset({"NODE_FAIL", "BOOT_FAIL"})
NOT_STARTED = NODE_LOST | {"FAILED", "COMPLETED"}
"""What a task ended as that has not taken its attempt: where its node is named, that could not start it, or does not
see the run's directory."""


REST = -1
"""Stands for the index of tasks that were taken out of Slurm's queue before they began."""


def listing(text: str) -> dict[tuple[str, int], Listed]:
    """Return the tasks of a listing, by the array's name and the task's index. Lines of other jobs that are no arrays
    are passed over. Of an array of which all have left the queue that waited there, Slurm shows one line: see REST."""
    found: dict[tuple[str, int], Listed] = {}
    for line in text.splitlines():
        parts = line.split("|", 6)
        if len(parts) == 7 and parts[1:3] == ["N/A", "CANCELLED"]:
            parts[1] = str(REST)
        if len(parts) == 7 and parts[0].isdigit() and parts[1].lstrip("-").isdigit():
            array, index, state, reason, node, start, name = parts
            # A name may be there twice, since Slurm may have started a task again: what is not over says more.
            known = found.get((name, int(index)))
            if known is None or known.state in OVER:
                found[name, int(index)] = Listed(
                    int(array), state, reason, node, start if state == "PENDING" and start[:1].isdigit() else ""
                )
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
    NEVER = "no node is such as the job asks for, or the request is malformed"
    WRONG = "it takes no such job of this user"


NO_NODE = "Requested node configuration is not available"
_NEVER = (
    NO_NODE, "Invalid feature specification", "Invalid generic resource", "Invalid --time specification",
    "unrecognized option", "Invalid number of", "Requested time limit is invalid",
    "Memory specification can not be satisfied", "More processors requested than permitted",
)  # fmt: skip
_WRONG = (
    "invalid partition specified", "Invalid account or account/partition combination", "Invalid qos specification",
    "Invalid job array specification", "does not look like a batch script", "Access/permission denied",
    "Pathname of a file", "Unable to open file",
)  # fmt: skip
_LIMIT = re.compile(r"\b(?:Assoc|QOS)\w*?(?:Limit|Minutes)\b")
_OF_LIMITS = "job submit limit"
"""Is in the sentence that sbatch prints behind the name of every limit, also of one on the size or the time of jobs."""
_FULL = ("sleeping and retrying", "temporarily disabled, retrying")
_GAVE_UP = ("Resource temporarily unavailable", "Slurm job queue full", "temporarily disabled")
FULL = "MaxJobCount"
"""The limit on all jobs of a cluster. At it sbatch waits for two minutes, and is refused then."""


def refused(code: int, words: str) -> Refused | None:
    """Return why sbatch refused; None where it is not clear whether it did: a time-out, a lost connection."""
    if code == 0:
        return None
    if limit(words) is not None:
        return Refused.LIMIT
    if code == 255 or _has(words, _NEVER):
        return Refused.NEVER
    return Refused.WRONG if _has(words, _WRONG) or _LIMIT.search(words) is not None else None


def limit(words: str) -> str | None:
    """Return the limit on submitted jobs for which sbatch was refused, by Slurm's name; None where it was for none. A
    limit on the size or the time of jobs is no such limit: waiting does not help."""
    named = _LIMIT.findall(words)
    if named:
        return next((name for name in named if "Submit" in name), None)
    if _OF_LIMITS in words:
        return _OF_LIMITS
    last = words.rstrip().rpartition("\n")[2]
    return FULL if is_full(words) and _has(last, _GAVE_UP) else None


def is_full(words: str) -> bool:
    """Return whether sbatch, by what it has printed so far, waits since Slurm has as many jobs as it takes."""
    return _has(words, _FULL)


def is_away(words: str) -> bool:
    """Return whether a command found no controller to ask: it did not time out while one was busy."""
    return _has(words, ("Unable to contact slurm controller", "connect failure", "Connection refused"))


def is_unclear(words: str) -> bool:
    """Return whether a command failed since the controller is away or busy, and not for what it was asked."""
    return is_away(words) or _has(words, ("timed out", "temporarily unable", "temporarily unavailable"))


def _has(words: str, phrases: Iterable[str]) -> bool:
    return any(phrase.lower() in words.lower() for phrase in phrases)


CONFIGURATION = ("scontrol", "show", "config")


class Configuration(NamedTuple):
    """What a cluster says of itself; None where it does not. `max_array`: tasks that one array can have; `max_jobs`: of
    all users; `min_job_age`: seconds for which it lists a job that has ended."""

    max_array: int | None = None
    max_jobs: int | None = None
    min_job_age: int | None = None


def configuration(text: str) -> Configuration:
    """Return what `scontrol show config` says."""

    def number(name: str) -> int | None:
        found = re.search(rf"^(?:.*[ ,=])?{name}\s*=\s*(\d+)", text, re.MULTILINE)
        return None if found is None else int(found.group(1))

    arrays = [size for name in ("MaxArraySize", "max_array_tasks") if (size := number(name)) is not None]
    return Configuration(min(arrays, default=None), number("MaxJobCount"), number("MinJobAge"))


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


def ask_to_read(tasks: Sequence[str]) -> list[str]:
    """Return the command that has running tasks read which of their attempts is to be signalled, see `wrapper`."""
    return ["scancel", "--quiet", "--batch", "--signal=USR2", *tasks]


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
