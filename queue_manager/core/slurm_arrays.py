"""How attempts that ask Slurm for the same are cut into tasks, and tasks into arrays. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from queue_manager.core import slurm_time

ARRAY = 1000
"""Tasks of one array where the cluster does not say how many it takes: MaxArraySize is 1001 where a site has not set
it."""
_TIME = ("--time=", "-t=")
_Item = TypeVar("_Item")


class Cut(NamedTuple):
    """`options`: sbatch's for each task; `size`: how many attempts a task runs at most, in turn."""

    options: tuple[str, ...]
    size: int


def cut(options: Sequence[str], bundle: int, count: int, most: float | None = None) -> Cut:
    """Return how `count` attempts with sbatch's `options` for one of them are cut into tasks of at most `bundle`.

    The time limit of a task is the sum of its attempts', so that there are fewer of them where the partition allows
    less: `most` seconds, None where that is not known. They are spread evenly.
    """
    options = tuple(options)
    if bundle <= 1 or count <= 1:
        return Cut(options, 1)
    each = time_limit(options)
    size = min(bundle, count)
    if each is not None and most is not None and each * size > most:
        size = max(1, int(most // each))
    size = -(-count // -(-count // size))
    if each is None or size == 1:
        return Cut(options, size)
    asked = f"--time={slurm_time.words(each * size)}"
    return Cut(tuple(asked if _is_time(option) else option for option in options), size)


def time_limit(options: Sequence[str]) -> float | None:
    """Return the time limit that sbatch's options ask for, in seconds; None where they name none."""
    named = [option.partition("=")[2] for option in options if _is_time(option)]
    return slurm_time.seconds(named[-1]) if named else None


def _is_time(option: str) -> bool:
    return option.startswith(_TIME)


def tasks(items: Sequence[_Item], size: int) -> list[list[_Item]]:
    """Return what each task runs, in order."""
    return [list(items[first : first + size]) for first in range(0, len(items), size)]


def arrays(items: Sequence[_Item], size: int, most: int = ARRAY) -> list[list[list[_Item]]]:
    """Return the arrays: for each of their tasks what it runs. `most`: tasks of one array."""
    return tasks(tasks(items, size), most)
