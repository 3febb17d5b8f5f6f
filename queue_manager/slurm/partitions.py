"""A cluster's partitions, as `scontrol show partition --oneliner` shows them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from queue_manager.core import slurm_time

LISTING = ("scontrol", "show", "partition", "--oneliner")


class Partition(NamedTuple):
    """`max_time`: of a job, in seconds, infinite where there is no limit; `default_time`: of one that asks for none,
    None where that is `max_time`; `state`: UP, DOWN, DRAIN or INACTIVE."""

    name: str
    is_default: bool
    max_time: float
    default_time: float | None
    state: str


def partitions(text: str) -> dict[str, Partition]:
    """Return the partitions of a listing, by name. What a line does not say counts as unlimited and up."""
    found = {}
    for line in text.splitlines():
        fields = dict(word.partition("=")[::2] for word in line.split())
        name = fields.get("PartitionName")
        if name is not None:
            most = slurm_time.seconds(fields.get("MaxTime", "UNLIMITED"))
            usual = slurm_time.seconds(fields.get("DefaultTime", "NONE"))
            is_default, state = fields.get("Default") == "YES", fields.get("State", "UP")
            found[name] = Partition(name, is_default, math.inf if most is None else most, usual, state)
    return found


def asked(options: Sequence[str]) -> list[str]:
    """Return the partitions that sbatch's options name: it takes the one where a job starts first."""
    found = ""
    words = iter(options)
    for word in words:
        if word in ("-p", "--partition"):
            found = next(words, "")
        elif word.startswith("--partition="):
            found = word.partition("=")[2]
        elif word.startswith("-p") and not word.startswith("--"):
            found = word[2:].lstrip("=")
    return [name for name in found.split(",") if name]


def of(options: Sequence[str], known: Mapping[str, Partition]) -> list[Partition]:
    """Return those of the known partitions in which a job with sbatch's options may run."""
    names = asked(options)
    if not names:
        return [one for one in known.values() if one.is_default]
    return [known[name] for name in names if name in known]


def longest(options: Sequence[str], known: Mapping[str, Partition]) -> float | None:
    """Return the longest time that a job with sbatch's options may ask for in all of its partitions, in seconds; None
    where none of them is known."""
    return min((one.max_time for one in of(options, known)), default=None)
