"""What a task leaves in the directory of its attempt: its claim, its signs of life, and why it ended."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters.claims import read_text
from queue_manager.adapters.files import write_whole
from queue_manager.adapters.regular import open_regular
from queue_manager.core.boundary import Claim, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import AttemptPaths
from queue_manager.core.readings import Unreadable
from queue_manager.slurm.wrapper import CLAIM

_MOST = 16384
"""Bytes of a task's output that are read: the jobs' own goes into their logs."""
_MOST_GPUS = 64
_LINE = re.compile(rf"{CLAIM} (\S+) (\d+) (\d+) (\d+)(?: (\S+)(?: (\S+))?)?\n")


class Taken(NamedTuple):
    """Who runs an attempt: the task with the ID `job` (of its own, not its array's), as process `pid` of `node`.

    `gpus`: their indices there; none where it has none, or they have other names. `pilot`: where a pilot runs it, the
    name of its batch, in which `task` is its index.
    """

    node: str
    job: int
    task: int
    pid: int
    at_ns: int
    gpus: tuple[int, ...] = ()
    pilot: str = ""

    @property
    def claim(self) -> Claim:
        """As the core knows it: process IDs prove nothing on another machine, so the job's ID stands beside them."""
        return Claim(Proc(self.pid, self.job), Proc(self.job, self.task), self.at_ns)


def taken(files: AttemptPaths) -> Taken | Revoked | Unreadable | None:
    """Return who has the claim of an attempt; None if nobody has. It appears whole, by link(2)."""
    try:
        text, at_ns = read_text(files.claim)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return Unreadable(f"{files.claim}: {error.strerror}")
    found = _LINE.fullmatch(text)
    if found is not None:
        job, task, pid = map(int, found.groups()[1:4])
        return Taken(found.group(1), job, task, pid, at_ns, _indices(found.group(5) or ""), found.group(6) or "")
    return Revoked() if text == "revoked\n" else Unreadable(f"{files.claim} cannot be parsed")


def _indices(text: str) -> tuple[int, ...]:
    """Read a list of GPUs as Slurm writes it: `0,1`, `0-3`. UUIDs of GPUs and names of their slices are no indices."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal() or len(part) > 9:
            return ()
        found += range(int(first), int(last or first) + 1)
    return tuple(found[:_MOST_GPUS])


def beat_ns(files: AttemptPaths) -> int | None:
    """Return when a task last showed that it lives (ns, by the file server's clock); None if it never has."""
    try:
        return (files.root / "beat").stat().st_mtime_ns
    except OSError:
        return None


def beats(files: AttemptPaths, now_ns: Callable[[], int], within: float) -> bool:
    """Return whether a task has shown within so many seconds that it lives. `now_ns` gives the file server's time."""
    beat = beat_ns(files)
    try:
        return beat is not None and now_ns() - beat < within * 1_000_000_000
    except OSError:
        return True


def was_told_to_end(files: AttemptPaths) -> bool:
    """Return whether TERM has come to the task: from the cluster, from a person, or from the manager."""
    return (files.root / "told").exists()


def had_all_time(files: AttemptPaths) -> bool:
    """Return whether an attempt met the time limit of an allocation that it had from its beginning, see `pilot`."""
    return (files.root / "limit").exists()


def was_warned(files: AttemptPaths) -> bool:
    """Return whether a process of the job had USR1 from Slurm before its time limit, and waited for that."""
    try:
        return read_text(files.root / "warned")[0] == "1\n"
    except OSError:
        return False


def ran_out_of_memory(files: AttemptPaths) -> bool:
    """Return whether the kernel has killed a process of the job for want of memory."""
    return (files.root / "oom").exists()


def task_output(path: Path) -> str:
    """Return the end of what Slurm wrote into a task's own output; empty where there is none."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST))
            return file.read(_MOST).decode("utf-8", "replace")
    except OSError:
        return ""


def ask(files: AttemptPaths, kill: bool) -> None:
    """Leave a signal for an attempt whose task runs others as well: KILL if `kill`, else TERM. The task reads it once
    it is told to. Raises OSError."""
    write_whole(files.root / "stop", [b"KILL\n" if kill else b"TERM\n"], durable=False)
