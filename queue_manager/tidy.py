"""What is left to do for an attempt that has ended, beside the loop: its log is made plain, its directory removed.

An attempt's directory is there until all of that is done. So a manager that is started again finds what an earlier one
has left, and does it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.launchers import LAUNCHERS
from queue_manager.core.model import Job, QueueState

_log = logging.getLogger(__name__)


class Tidy:
    """Of one run."""

    def __init__(self, state: QueueState, run_dir: RunDir) -> None:
        self._state, self._run_dir = state, run_dir
        self._has_terminal = LAUNCHERS[state.manifest.launcher].has_terminal
        self._helper: ThreadPoolExecutor | None = None
        self._stop = threading.Event()

    def catch_up(self) -> None:
        """Do so for what an earlier manager has left. What it got ready and never began is gone when this returns: an
        attempt of that number may begin at any time."""
        kept = [(name, n) for name, n in self._run_dir.kept_attempts() if name in self._state.order_of]
        for name, n in kept:
            if n > self._state.job(name).n:
                self._run_dir.forget(name, n)
        self.begin((name, n) for name, n in kept if _is_over(self._state.job(name), n))

    def begin(self, attempts: Iterable[tuple[str, int]]) -> None:
        """Do so for attempts whose end is in the journal, in this order."""
        for job, n in attempts:
            if self._helper is None:
                self._helper = ThreadPoolExecutor(1, "tidy")
            self._helper.submit(self._tidy, job, n)

    def _tidy(self, job: str, n: int) -> None:
        if self._stop.is_set():
            return
        try:
            if self._has_terminal:
                self._run_dir.make_log_plain(job, n, self._state.order_of, self._stop.is_set)
        except OSError as error:  # it stays as it is, which every reader takes as well
            _log.warning("the log of attempt %d of %s keeps its line ends: %s", n, job, error)
        if not self._stop.is_set():
            self._run_dir.forget(job, n)

    def close(self, finish: bool) -> None:
        """End: when all is done, else at once."""
        if not finish:
            self._stop.set()
        if self._helper is not None:
            with contextlib.suppress(RuntimeError):
                self._helper.shutdown(wait=True, cancel_futures=not finish)


def _is_over(job: Job, n: int) -> bool:
    """Whether an attempt has ended."""
    return n < job.n or (n == job.n and job.attempt is None)
