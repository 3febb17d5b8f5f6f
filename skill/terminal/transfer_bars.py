"""Show how much of the code has been sent to each host: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from skill.common.units import size_text
from skill.terminal import live

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LEAST = 4 << 20
"""Bytes below which nothing is shown: they are sent before anyone has read it."""
_EVERY = 20.0
"""Seconds between lines where there is no terminal."""


class TransferBars:
    """Receives how many bytes of how many were sent to a host; used in a `with` block. `say` gets the lines where
    there is no terminal. Hosts are served by a thread each."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._told: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> TransferBars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def report(self, host: str, sent: int, total: int) -> None:
        """Show that `sent` of `total` bytes were sent to a host."""
        if total < _LEAST:
            return
        with self._lock:
            if sys.stderr.isatty():
                self._draw(host, sent, total)
            else:
                self._tell(host, sent, total)

    def _tell(self, host: str, sent: int, total: int) -> None:
        now = self._clock()
        if host not in self._told:
            self._say(f"{host}: sending {size_text(total)} of code")
        elif now - self._told[host] >= _EVERY and sent < total:
            self._say(f"{host}: {size_text(sent)} of {size_text(total)} sent")
        else:
            return
        self._told[host] = now

    def _draw(self, host: str, sent: int, total: int) -> None:
        if self._bars is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

            self._bars = Progress(
                "{task.description}", BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(),
                TimeRemainingColumn(), console=live.console(error=True),
            )  # fmt: skip
            self._bars.start()
        if host not in self._tasks:
            self._tasks[host] = self._bars.add_task(host, total=total)
        self._bars.update(self._tasks[host], completed=min(sent, total), total=total)
