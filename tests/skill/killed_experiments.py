"""Experiments that are killed and rerun: whatever is killed, and when, there is exactly one result for each item.

`python -m tests.skill.killed_experiments FOLDER` tries it, in a process of its own: it forks for each kill, and to fork
one in which pytest runs takes many times as long.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skill.research.checkpoint_helper import Checkpoint

ITEMS = [f"item {n}" for n in range(25)]
WANTED = [item.upper() for item in ITEMS]


def experiment(path: Path, every: int = 10, after: Callable[[int], None] = lambda _: None) -> None:
    """Work through the items. `after` is called with the number of each once its result is in."""
    with Checkpoint(str(path), len(ITEMS), every) as saved:
        for item in saved.rest(ITEMS):
            saved.add(item.upper())
            after(len(saved.results))


def results(path: Path) -> list[str]:
    found: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return found


def forked(act: Callable[[], None]) -> int:
    """Do something in a process of its own. Returns its exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_after(path: Path, every: int, number: int) -> None:
    """Work until so many items have their result, and be killed then."""
    code = forked(lambda: experiment(path, every, lambda n: kill_me() if n == number else None))
    assert code == -signal.SIGKILL, code


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def rerun(path: Path) -> list[int]:
    """Do it again to its end. Returns the numbers of the items that were done."""
    again: list[int] = []
    experiment(path, after=again.append)
    assert results(path) == WANTED, results(path)
    return again


def killed_after_every_item_a_rerun_has_exactly_all_results(folder: Path, every: int) -> None:
    for number in range(1, len(ITEMS) + 1):
        path = folder / str(number) / "results.json"
        killed_after(path, every, number)
        assert not path.exists(), path
        again: list[int] = []
        experiment(path, every, again.append)
        assert results(path) == WANTED, results(path)
        rest = list(range(number // every * every + 1, len(ITEMS) + 1))
        assert again == rest, f"what was saved is not done again: {again}"
        there = [one.name for one in path.parent.iterdir()]
        assert there == ["results.json"], there


def killed_again_and_again_it_ends_all_the_same(folder: Path) -> None:
    path = folder / "results.json"
    for number in range(1, len(ITEMS) + 1):
        killed_after(path, 1, number)
    experiment(path, 1)
    assert results(path) == WANTED, results(path)


def killed_in_the_middle_of_each_write_nothing_is_torn(folder: Path, call: str) -> None:
    """Before and after every call by which something is written, as often as there are such calls."""
    kills = 0
    for at_call in range(1, 6):
        for is_after in (False, True):
            path = folder / f"{at_call}{is_after}" / "results.json"
            kills += forked(lambda path=path, at=(call, at_call, is_after): killed_at(path, *at)) != 0  # type: ignore[misc]
            again = rerun(path)
            if call == "unlink":
                assert again == [], f"nothing is removed before all of it is elsewhere: {again}"
            elif call == "replace":
                saved = 10 * min(2, at_call - 1 + is_after)
                assert again == [] or again[0] == saved + 1, again
    assert kills > 0, call


def killed_at(path: Path, call: str, at_call: int, is_after: bool) -> None:
    """Work, and be killed before or after so many calls of a function of os."""
    real, seen = getattr(os, call), 0

    def fatal(*arguments: Any, **options: Any) -> object:
        nonlocal seen
        seen += 1
        if seen == at_call and not is_after:
            kill_me()
        value = real(*arguments, **options)
        if seen == at_call:
            kill_me()
        return value

    setattr(os, call, fatal)
    experiment(path)


def main(folder: Path) -> None:
    # What a killed process wrote is there; only a power cut would need it on the disk.
    setattr(os, "fsync", lambda _: None)  # noqa: B010
    for every in (1, 10, 50):
        killed_after_every_item_a_rerun_has_exactly_all_results(folder / f"every {every}", every)
    killed_again_and_again_it_ends_all_the_same(folder / "again")
    for call in ("replace", "fsync", "unlink", "open"):
        killed_in_the_middle_of_each_write_nothing_is_torn(folder / call, call)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    print("done")
