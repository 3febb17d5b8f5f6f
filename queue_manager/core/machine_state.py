"""The machine in a run's state: its manager, what blocks the queue on it, and its planned end.

Changed only by `QueueState.apply`.
"""

from __future__ import annotations

from copy import copy

from queue_manager.core import events as ev
from queue_manager.core.state_types import Bound, Teardown


class MachineState:
    """Times in epoch seconds.

    `host`, `pid`, `ticks`: the manager, and `boot` the boot that it started in (at `booted_at`); `away`: seconds that
    the machine was down. `conditions`: what blocks the queue, in words and since when, by kind; `launch_failures`:
    number of failed launches in a row, the last at `launch_failed_at`. `bound`: the limit that the run has reached,
    `lifted`: kinds of limits that a person has lifted; `teardown`: the end of the machine, once decided.
    """

    def __init__(self) -> None:
        self.host = ""
        self.pid = 0
        self.boot = ""
        self.ticks = 0
        self.booted_at: float = 0.0
        self.away: float = 0.0
        self.conditions: dict[str, tuple[str, float]] = {}
        self.launch_failures = 0
        self.launch_failed_at: float | None = None
        self.bound: Bound | None = None
        self.lifted: frozenset[str] = frozenset()
        self.teardown: Teardown | None = None

    # -- asked --------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> str | None:
        """Why no more jobs are started: the run has reached a limit, or its machine is being ended."""
        if self.teardown is not None and self.teardown.done:
            return f"its machine is being shut down: {self.teardown.reason}"
        return None if self.bound is None else f"{self.bound.text}; to continue anyway: wavequeue resume"

    @property
    def launch_retry_at(self) -> float | None:
        """When to try the next launch after failed ones: 1, 2, 4 … 60 seconds later; None if none failed."""
        if self.launch_failed_at is None:
            return None
        return self.launch_failed_at + min(60.0, 2.0 ** min(self.launch_failures - 1, 6))

    def copy(self) -> MachineState:
        """Return an independent copy."""
        made = copy(self)
        made.conditions = dict(self.conditions)
        return made

    # -- called by apply ----------------------------------------------------------------------------------------------

    def manager_started(self, event: ev.ManagerStarted, at: float) -> None:
        """Record a new manager."""
        if event.boot != self.boot:  # whatever was decided about the machine, it has begun anew
            self.teardown, self.booted_at = None, at
        self.host, self.pid, self.boot, self.ticks = event.host, event.pid, event.boot, event.ticks
        self.away += event.away

    def launched(self) -> None:
        """Record a successful launch."""
        self.launch_failures, self.launch_failed_at = 0, None

    def not_launched(self, at: float) -> None:
        """Record a failed launch."""
        self.launch_failures += 1
        self.launch_failed_at = at

    def condition_began(self, event: ev.ConditionBegan, at: float) -> None:
        """Record what blocks the queue, or its new text."""
        since = self.conditions.get(event.kind, ("", at))[1]
        self.conditions[event.kind] = (event.text, since)

    def resumed(self) -> None:
        """Record that a person resumed the run: launches are tried at once, and the reached limit is lifted."""
        self.launched()
        if self.bound is not None:
            self.lifted |= {self.bound.kind}
        self.bound = self.teardown = None
