"""Watches what a job's command left running: who it is, and whether it uses CPU or a card, or writes."""

from __future__ import annotations

from collections.abc import Sequence

from queue_manager import processes
from queue_manager.core.boundary import Leftovers
from queue_manager.core.events import Proc
from queue_manager.core.readings import Unreadable
from queue_manager.processes import Activity

_AFTER = 1.0
"""Seconds of watching until it is told."""
_BUSY = 0.05
"""Cores: what only waits, or serves a page now and then, uses less."""
_WRITES = 1 << 10
"""Bytes a second: what writes so much, as a download or a log does, works though it uses hardly any CPU."""
_NOTHING = Activity(0.0, 0)


class LeftoverWatch:
    """One attempt's leftovers, looked at again and again after its command has ended."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._done: dict[Proc, Activity] = {}

    def look(self, procs: Sequence[Proc], now: float) -> Leftovers | None:
        """What these processes do; None until that is known."""
        done = {proc: _done(proc) for proc in procs}
        if self._since is None:
            self._since, self._done = now, done
        spent = now - self._since
        if spent < _AFTER:
            return None
        busy: list[str] = []
        idle: list[str] = []
        for proc in procs:
            before = self._done.get(proc, _NOTHING)
            works = done[proc].cpu - before.cpu > _BUSY * spent or done[proc].written - before.written > _WRITES * spent
            (busy if works or processes.holds_card(proc) else idle).append(processes.describe(proc))
        return Leftovers(tuple(busy), tuple(idle))


def _done(proc: Proc) -> Activity:
    found = processes.activity([proc])
    return Activity(processes.cpu_seconds(proc), 0) if isinstance(found, Unreadable) else found
