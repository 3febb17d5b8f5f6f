"""Calls Slurm's commands beside the loop, since each may wait for a controller that is busy or away."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from queue_manager.core.readings import Unreadable
from queue_manager.slurm import batches, commands, partitions
from queue_manager.slurm.accounting import Accounting
from queue_manager.slurm.batches import Answer, Batch
from queue_manager.slurm.commands import Configuration, Listed
from queue_manager.slurm.partitions import Partition
from queue_manager.slurm.shared_listing import SharedListing
from queue_manager.slurm.workers import Workers

TOLD_AT_ONCE = 200
PATIENCE = 60.0
"""Seconds for a command that asks or cancels. A controller that is away makes it wait for 9 to 18."""


class Listing(NamedTuple):
    """What Slurm showed of all tasks, or why it did not. `asked`: when it was asked (epoch seconds)."""

    tasks: Mapping[tuple[str, int], Listed] | Unreadable
    asked: float


class Cluster:
    """The cluster as one run uses it. Answers come later, and `wake` is called then, from another thread. `clock` gives
    epoch seconds; `shared`: where other runs of this user find what was listed."""

    def __init__(
        self, environment: Mapping[str, str], clock: Callable[[], float], shared: SharedListing | None = None
    ) -> None:
        self._environment, self._clock, self._shared = commands.scrubbed(environment), clock, shared
        self.wake: Callable[[], None] = lambda: None
        self._submitting = Workers(1, "sbatch")
        self._asking = Workers(1, "squeue")
        self._telling = Workers(4, "scancel")  # scancel tries for a minute where a task is just ending
        self._guard = threading.Lock()
        self._answers: list[tuple[Batch, Answer]] = []
        self._untold: dict[Callable[[Sequence[str]], list[str]], dict[tuple[str, int], None]] = {}
        """Tasks that a command is to be run about, by what makes it: one call for those of one turn."""
        self._looking = self._configuring = False
        self.listing: Listing | None = None
        self.accounting = Accounting(self._run, self._asking.submit)
        self.configuration: Configuration | Unreadable | None = None
        self.sending: Batch | None = None
        """The batch for which sbatch is at work."""
        self.partitions: Mapping[str, Partition] | None = None
        self._asks_partitions = False

    def submit(self, batch: Batch, options: Sequence[str], extra: Mapping[str, str]) -> None:
        """Have a batch submitted, after those before it. `extra`: more that its jobs inherit."""
        self._submitting.submit(partial(self._submit, batch, options, {**self._environment, **extra}))

    def _submit(self, batch: Batch, options: Sequence[str], environment: Mapping[str, str]) -> None:
        self.sending = batch
        answer = batches.call(batch, options, environment)
        self.sending = None
        with self._guard:
            self._answers.append((batch, answer))
        self.wake()

    def answers(self) -> list[tuple[Batch, Answer]]:
        """How the submissions ended that have ended since this was asked last."""
        with self._guard:
            found, self._answers = self._answers, []
        return found

    def configure(self) -> None:
        """Have Slurm asked how it is configured, unless it is being asked."""
        if not self._configuring:
            self._configuring = True
            self._asking.submit(self._configure)

    def _configure(self) -> None:
        done = self._run(commands.CONFIGURATION)
        words = done if isinstance(done, str) else done.stderr if done.returncode else ""
        if commands.is_unclear(words):
            self.configuration = Unreadable(f"scontrol: {commands.complaint(words)}")
        else:  # a cluster that keeps it to itself has one all the same
            self.configuration = commands.configuration("" if isinstance(done, str) else done.stdout)
        self._configuring = False
        self.wake()

    def look(self, age: float = 0.0) -> None:
        """Have Slurm asked what it has of all tasks, unless it is being asked, or another run of this user has asked
        within so many seconds."""
        if not self._looking:
            self._looking = True
            self._asking.submit(partial(self._look, age))

    def _look(self, age: float) -> None:
        found = self._shared.read(self._clock() - age) if age and self._shared is not None else None
        is_new = found is not None and (self.listing is None or found[0] > self.listing.asked)
        self.listing = Listing(commands.listing(found[1]), found[0]) if found is not None and is_new else self._ask()
        self._looking = False
        self.wake()

    def _ask(self) -> Listing:
        asked = self._clock()
        done = self._run(commands.LISTING)
        if isinstance(done, str):
            return Listing(Unreadable(f"squeue: {done}"), asked)
        if done.returncode:
            return Listing(Unreadable(f"squeue: {commands.complaint(done.stderr)}"), asked)
        if self._shared is not None:
            self._shared.write(asked, done.stdout)
        return Listing(commands.listing(done.stdout), asked)

    def look_at_partitions(self) -> None:
        """Have Slurm asked, once, which partitions there are; without an answer they count as none."""
        if not self._asks_partitions:
            self._asks_partitions = True
            self._asking.submit(self._look_at_partitions)

    def _look_at_partitions(self) -> None:
        done = self._run(partitions.LISTING)
        self.partitions = {} if isinstance(done, str) else partitions.partitions(done.stdout)
        self.wake()

    def tell(self, make: Callable[[Sequence[str]], list[str]], tasks: Iterable[tuple[str, int]]) -> None:
        """Have a command run about tasks, each by its array's name and its index. IDs are used again, so they are
        looked up just before. Whether it did anything is seen in the listing alone: Slurm says 0 in any case."""
        with self._guard:
            untold = self._untold.setdefault(make, {})
            is_first = not untold
            untold.update(dict.fromkeys(tasks))
            if is_first and untold:
                self._telling.submit(partial(self._tell_all, make))

    def _tell_all(self, make: Callable[[Sequence[str]], list[str]]) -> None:
        with self._guard:
            tasks = self._untold.pop(make)
        self._tell(make, list(tasks))

    def _tell(self, make: Callable[[Sequence[str]], list[str]], tasks: Sequence[tuple[str, int]]) -> None:
        there = self._ask().tasks
        if isinstance(there, Unreadable):
            return
        rows = [(row, task[1]) for task in tasks if (row := there.get(task)) is not None]
        only_running = make in (commands.ask_to_end, commands.ask_to_read)
        found = [
            f"{row.array}_{index}"
            for row, index in rows
            if (row.state == "RUNNING" if only_running else row.state not in commands.OVER)
        ]
        for first in range(0, len(found), TOLD_AT_ONCE):
            self._run(make(found[first : first + TOLD_AT_ONCE]))
        self.look()

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str] | str:
        """How a command ended, or why it did not."""
        try:
            return subprocess.run(
                argv,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=PATIENCE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)

    def close(self) -> None:
        """Begin nothing more. A submission that is under way ends by itself, and a later manager sees how."""
        self._submitting.close()
        self._asking.close()
        self._telling.close()
