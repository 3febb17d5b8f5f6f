"""Watches what a job's command left running: who it is, and whether it uses CPU or a card, or writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from queue_manager.adapters import processes
from queue_manager.adapters.serving import serving
from queue_manager.core import idle
from queue_manager.core.boundary import Leftovers
from queue_manager.core.events import Proc, Work
from queue_manager.core.readings import Unreadable

_AFTER = 1.0
"""Seconds of watching until it is reported."""


class LeftoverWatch:
    """One attempt's leftovers, looked at again and again after its command has ended.

    `known`: the look since which the journal has them idle. `idle`: the look since which none of them has used CPU or
    written; None while one does.
    """

    def __init__(self, known: Work | None = None) -> None:
        self._known = known
        self._since: float | None = None
        self._done: dict[Proc, Work] = {}
        self.idle: Work | None = None

    def look(self, procs: Sequence[Proc], now: float, onward: bool = False) -> Leftovers | None:
        """What these processes do; None until that is known. `onward`: what they do from now on is looked at apart."""
        done = {proc: _done(proc, now) for proc in procs}
        if self._since is None:
            self._since, self._done = now, done
        since, spent = self._since, now - self._since
        if spent < _AFTER:
            return None
        active: list[Proc] = []
        rest: list[Proc] = []
        for proc in procs:
            before = self._done.get(proc, Work(since, 0.0, 0, 0, 0))
            (active if idle.left_works(before, done[proc]) else rest).append(proc)
        if active:
            self.idle = None
        elif self.idle is None:
            self.idle = idle.left_since(self._known, _all(self._done, since), _all(done, now))
        self._known = None
        if onward:
            self._since, self._done = now, done
        serves = serving(rest)
        holds = [proc for proc in rest if proc not in serves and processes.holds_card(proc)]
        others = [proc for proc in rest if proc not in serves and proc not in holds]
        return Leftovers(
            _described([*active, *holds]), _described(others), _described([one for one in rest if one in serves])
        )


def _described(procs: Sequence[Proc]) -> tuple[str, ...]:
    return tuple(processes.describe(proc) for proc in procs)


def _done(proc: Proc, now: float) -> Work:
    found = processes.activity([proc])
    cpu, written = (processes.cpu_seconds(proc), 0) if isinstance(found, Unreadable) else found
    return Work(now, cpu, written, 0, 0)


def _all(done: Mapping[Proc, Work], at: float) -> Work:
    """What they have done together."""
    return Work(at, sum(one.cpu for one in done.values()), sum(one.written for one in done.values()), 0, 0)
