"""Slurm's accounting, as one witness more: how a task ended that its queue has forgotten.

Many clusters have none, and it may lag, fail or be away: then all is as without it. Tasks are asked for by the names of
their arrays, since their IDs are used again.
"""

from __future__ import annotations

import pwd
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from queue_manager.slurm.commands import OVER, Listed

_EARLIER = 86_400.0
"""Seconds before its batch was made from which a task is looked for: clocks differ."""
_NONE = ("accounting storage is disabled", "accounting_storage/none")
_TASK = re.compile(r"(\d+)_(\d+)")

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str] | str"]


def command(names: Iterable[str], since: float) -> list[str]:
    """Return the command for all tasks of these arrays. `since`: when the first of them was made (epoch seconds)."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - _EARLIER))
    columns = "--format=JobID,State,NodeList,JobName"
    return [
        "sacct", "--noheader", "--parsable2", "--allocations", f"--starttime={start}", f"--name={','.join(names)}",
        columns,
    ]  # fmt: skip


def ended(text: str) -> dict[tuple[str, int], Listed]:
    """Return the tasks that have ended, by the array's name and the task's index. `reason`: by whom, where a person has
    cancelled it."""
    found = {}
    for line in text.splitlines():
        parts = line.split("|", 3)
        task = _TASK.fullmatch(parts[0]) if len(parts) == 4 else None
        if task is None:
            continue
        state, _, by = parts[1].partition(" ")
        if state in OVER:
            found[parts[3], int(task.group(2))] = Listed(int(task.group(1)), state, _person(by), parts[2])
    return found


def _person(by: str) -> str:
    """`by 1000`, with the user's name where this machine knows it; empty where nobody is named."""
    uid = by.removeprefix("by ").strip()
    try:
        return f"by {pwd.getpwuid(int(uid)).pw_name}" if uid else ""
    except (ValueError, KeyError, OverflowError):
        return f"by user {uid}"


class Accounting:
    """What sacct said of tasks. `run` runs a command, and `submit` has something done beside the loop."""

    def __init__(self, run: Run, submit: Callable[[Callable[[], None]], object]) -> None:
        self._run, self._submit = run, submit
        self._guard = threading.Lock()
        self._wanted: dict[tuple[str, int], float] = {}
        self._rows: dict[tuple[str, int], Listed] = {}
        self._is_asking = False
        self._listed_at = 0.0
        self.is_absent = False

    def row(self, task: tuple[str, int], since: float) -> Listed | None:
        """Return how a task ended that is not listed any more, by the name of its array and its index; None where that
        is not known, or not yet: then the next `look` asks. `since`: when its batch was made."""
        with self._guard:
            row = self._rows.get(task)
            if row is None and not self.is_absent:
                self._wanted[task] = since
        return row

    def look(self, listed_at: float) -> None:
        """Have sacct asked for what is wanted, once for each look at the queue: that of `listed_at`."""
        with self._guard:
            if not self._wanted or self._is_asking or self.is_absent or listed_at == self._listed_at:
                return
            self._is_asking, self._listed_at = True, listed_at
            wanted, self._wanted = self._wanted, {}
        self._submit(lambda: self._look(wanted))

    def _look(self, wanted: dict[tuple[str, int], float]) -> None:
        done = self._run(command(sorted({name for name, _ in wanted}), min(wanted.values())))
        with self._guard:
            self._is_asking = False
            if isinstance(done, str):
                self.is_absent = "No such file" in done
            elif done.returncode:
                self.is_absent = any(words in done.stderr for words in _NONE)
            else:
                self._rows.update({task: row for task, row in ended(done.stdout).items() if task in wanted})
