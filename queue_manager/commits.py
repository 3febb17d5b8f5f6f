"""Puts what a turn decided on disk, before anything is done because of it, and waits where the disk takes nothing."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable

from queue_manager.adapters.clock import Clock
from queue_manager.adapters.guard import Guard
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.publish import Publisher

_log = logging.getLogger(__name__)

AGAIN = 1.0
"""Seconds until the disk is tried again."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Commits:
    """The records of one run. `stalled`: why the journal takes nothing, in words; None while it does."""

    def __init__(self, state: QueueState, run_dir: RunDir, guard: Guard, publisher: Publisher, clock: Clock) -> None:
        self._state, self._run_dir, self._guard = state, run_dir, guard
        self._publisher, self._clock = publisher, clock
        self.stalled: str | None = None
        self._error: OSError | None = None

    def append(self, records: list[Record]) -> bool:
        """Try once to put records into the journal. Returns whether it took them; if not, there is some room now to
        tell of it, and `wait` is to be called before anything else is done."""
        try:
            self._guard.append(records, any(ev.urgent(record.event) for record in records), self._clock.now())
        except OSError as error:
            self._error = error
            self._run_dir.drop_ballast()
            self._tell(error)
            return False
        self._error = self.stalled = None
        return True

    def wait(self, records: list[Record], halted: Callable[[], bool]) -> None:
        """Try until the journal takes them. Nothing that others wait for may be held meanwhile. Raises OSError once it
        is to halt."""
        while self._error is not None:
            time.sleep(AGAIN)
            if not self.append(records) and halted():
                raise self._error

    def _tell(self, error: OSError) -> None:
        """Tell of it past the journal."""
        now = self._clock.now()
        if self.stalled is None:
            why = "the disk is full" if error.errno in _FULL else "nothing can be written"
            self.stalled = f"{why}: {self._run_dir.paths.journal}: {error.strerror}"
            _log.error(self.stalled)
            self._publisher.alert_now("disk", self.stalled, now, self._state.seq)
        self._publisher.changed()
        self._publisher.stalled("disk", self.stalled, now)
