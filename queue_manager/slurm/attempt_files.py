"""What a task leaves in the directory of its attempt: its claim and its signs of life."""

from __future__ import annotations

import re
from typing import NamedTuple

from queue_manager.adapters.claims import read_text
from queue_manager.core.boundary import Claim, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import AttemptPaths
from queue_manager.core.readings import Unreadable
from queue_manager.slurm.wrapper import CLAIM

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


def was_told_to_end(files: AttemptPaths) -> bool:
    """Return whether TERM has come to the task: from the cluster, from a person, or from the manager."""
    return (files.root / "told").exists()


def had_all_time(files: AttemptPaths) -> bool:
    """Return whether an attempt met the time limit of an allocation that it had from its beginning, see `pilot`."""
    return (files.root / "limit").exists()
