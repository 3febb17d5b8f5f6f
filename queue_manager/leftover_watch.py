"""Watches what a job's command left running: who it is, and whether it uses CPU or a card, or writes."""

from __future__ import annotations

from collections.abc import Sequence

from queue_manager.adapters import processes
from queue_manager.adapters.processes import Activity
from queue_manager.adapters.serving import serving
from queue_manager.core.boundary import Leftovers
from queue_manager.core.events import Proc
from queue_manager.core.readings import Unreadable

_AFTER = 1.0
"""Seconds of watching until it is told."""
_BUSY = 0.05
"""Cores: what only waits, or serves a page now and then, uses less."""
_WRITES = 1 << 10
"""Bytes a second: what writes so much, as a download or a log does, works though it uses hardly any CPU."""
_NOTHING = Activity(0.0, 0)


class LeftoverWatch:
    """One attempt's leftovers, looked at again and again after its command has ended.

    `idle_since`: since when none of them has used CPU or written (epoch seconds); None while one does.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._done: dict[Proc, Activity] = {}
        self.idle_since: float | None = None

    def look(self, procs: Sequence[Proc], now: float, onward: bool = False) -> Leftovers | None:
        """What these processes do; None until that is known. `onward`: what they do from now on is looked at apart."""
        done = {proc: _done(proc) for proc in procs}
        if self._since is None:
            self._since, self._done = now, done
        since, spent = self._since, now - self._since
        if spent < _AFTER:
            return None
        active: list[Proc] = []
        rest: list[Proc] = []
        for proc in procs:
            before = self._done.get(proc, _NOTHING)
            works = done[proc].cpu - before.cpu > _BUSY * spent or done[proc].written - before.written > _WRITES * spent
            (active if works else rest).append(proc)
        if active:
            self.idle_since = None
        elif self.idle_since is None:
            self.idle_since = since
        if onward:
            self._since, self._done = now, done
        serves = serving(rest)
        holds = [proc for proc in rest if proc not in serves and processes.holds_card(proc)]
        idle = [proc for proc in rest if proc not in serves and proc not in holds]
        return Leftovers(
            _described([*active, *holds]), _described(idle), _described([one for one in rest if one in serves])
        )


def _described(procs: Sequence[Proc]) -> tuple[str, ...]:
    return tuple(processes.describe(proc) for proc in procs)


def _done(proc: Proc) -> Activity:
    found = processes.activity([proc])
    return Activity(processes.cpu_seconds(proc), 0) if isinstance(found, Unreadable) else found
