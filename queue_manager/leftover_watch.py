"""Watches what a job's command left running: who it is, and whether it uses CPU or a card."""

from __future__ import annotations

from collections.abc import Sequence

from queue_manager import processes
from queue_manager.core.boundary import Leftovers
from queue_manager.core.events import Proc

_AFTER = 1.0
"""Seconds of watching until it is told."""
_BUSY = 0.05
"""Cores: what only waits, or serves a page now and then, uses less."""


class LeftoverWatch:
    """One attempt's leftovers, looked at again and again after its command has ended."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._cpu: dict[Proc, float] = {}

    def look(self, procs: Sequence[Proc], now: float) -> Leftovers | None:
        """What these processes do; None until that is known."""
        cpu = {proc: processes.cpu_seconds(proc) for proc in procs}
        if self._since is None:
            self._since, self._cpu = now, cpu
        spent = now - self._since
        if spent < _AFTER:
            return None
        busy: list[str] = []
        idle: list[str] = []
        for proc in procs:
            works = cpu[proc] - self._cpu.get(proc, 0.0) > _BUSY * spent or processes.holds_card(proc)
            (busy if works else idle).append(processes.describe(proc))
        return Leftovers(tuple(busy), tuple(idle))
