"""Threads that wait for Slurm's commands beside the loop, and keep no manager from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

_Work = Callable[[], None]


class Workers:
    """Up to `count` threads that carry out calls in order. They end with the process, whatever they wait for: a command
    of Slurm may wait for minutes, and what it has done by then is found out by the next manager."""

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._calls: SimpleQueue[_Work | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, call: _Work) -> None:
        """Have a call carried out, after those before it. It must not raise."""
        if self._closed:
            return
        self._calls.put(call)
        if len(self._threads) < self._count:
            thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None and not self._closed:
            call()

    def close(self) -> None:
        """Begin nothing more."""
        self._closed = True
        for _ in self._threads:
            self._calls.put(None)
