"""Keeps one manager job waiting behind the one that runs, so that the run goes on however that ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from queue_manager.core.manifest import Manifest
from queue_manager.core.readings import Unreadable
from queue_manager.slurm.managers import Managers

_log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between looks whether it is still there: an administrator, or a crash of Slurm, may have removed it."""
FIRST = 10.0
"""Seconds that a manager waits at its beginning for the next one to be queued."""


class Succession:
    """Works beside the loop of the manager that runs as `job`. `delay`: see manager_job.delay."""

    def __init__(self, managers: Managers, manifest: Manifest, job: int, delay: Callable[[], int]) -> None:
        self._managers, self._manifest, self._job, self._delay = managers, manifest, job, delay
        self._closing = threading.Event()
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._work, name="succession", daemon=True)
        self._said: str | None = None

    def begin(self) -> None:
        """Begin, and wait a while for the next manager to be queued: then this one may end at any moment."""
        self._thread.start()
        self._looked.wait(FIRST)

    def _work(self) -> None:
        while True:
            self.ensure()
            self._looked.set()
            if self._closing.wait(EVERY):
                return

    def ensure(self) -> None:
        """Submit the next manager, unless one waits. Where Slurm cannot be asked, nothing is submitted."""
        listed = self._managers.listed()
        fault = None
        if isinstance(listed, Unreadable):
            fault = listed.reason
        elif not any(row.goes_on and row.job != self._job for row in listed):
            fault = self._managers.submit(self._manifest, self._delay())
        if fault is not None and fault != self._said:
            _log.warning("the next manager could not be submitted, and is tried again: %s", fault)
        self._said = fault

    def close(self, cancel: bool) -> None:
        """Submit nothing more; `cancel` what waits, once the run has finished."""
        self._closing.set()
        self._thread.join()
        if cancel:
            self._managers.cancel(self._job)
