"""Check that a run's directory exists and has room, and that its journal and lock are this manager's."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path

from queue_manager.adapters import host
from queue_manager.adapters.journal import Journal, JournalChangedError
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import Lock
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths

_log = logging.getLogger(__name__)

PACE = 1.0
"""Seconds between looks."""
SHOWN = 20.0
"""Seconds for which a journal that was put back is shown as a condition."""
_BEING_DELETED = 1.0
"""Seconds in which a directory that is being deleted loses more than its journal."""


class RunGoneError(Exception):
    """Somebody has deleted the run's directory."""


class RunTakenError(RunGoneError):
    """Another manager has taken the run, since this one was taken for dead."""


class Guard:
    """Watches the directory of one run. `disk` and `journal`: what is wrong with them, or None; while `disk` is not
    None nothing may be launched."""

    def __init__(self, run_dir: RunDir, journal: Journal, lock: Lock) -> None:
        self._paths, self._run_dir, self._journal, self._lock = run_dir.paths, run_dir, journal, lock
        self.disk: str | None = None
        self.journal: str | None = None
        self._shown_until = self.due = 0.0

    def look(self, now: float) -> None:
        """Check that there is room to launch, and that protected files are unchanged. Raises RunGoneError, also where
        another manager has the run."""
        if now < self.due:
            return
        self.due = now + PACE
        if now >= self._shown_until:
            self.journal = None
        unwritten = None
        try:
            self._check_journal(now)
        except OSError as error:
            unwritten = f"{self._paths.journal} cannot be restored: {error.strerror}"
        self._lock.renew()
        self._check_lock()
        full = unwritten or next(filter(None, map(host.no_room, (self._paths.root, self._paths.log_dir))), None)
        if full is None:
            if self.disk is not None:
                self._run_dir.restore_ballast()
            self.disk = None
        elif self.disk is None:
            self.disk = f"{full}; nothing starts until there is" if unwritten is None else full
            self._run_dir.drop_ballast()  # room to say so

    def append(self, records: list[Record], urgent: bool, now: float) -> None:
        """Append records to the journal, which is restored first if others have changed it. Raises OSError (nothing is
        written) and RunGoneError."""
        self._check_lock()
        try:
            self._journal.append(records, urgent)
        except JournalChangedError as error:
            self._restore(error, now)
            self._journal.append(records, urgent)
        self._check_lock()  # before anything is done because of them

    def _check_journal(self, now: float) -> None:
        try:
            self._journal.check()
        except JournalChangedError as error:
            self._restore(error, now)

    def _restore(self, error: JournalChangedError, now: float) -> None:
        """Restore all that is known of the journal, in one step."""
        self._check_lock()
        if error.errno == errno.ENOENT:
            self._raise_if_gone()
        kept = self._journal.restore()
        self.journal = f"{error.strerror}; everything that this manager wrote was restored" + (
            f", and what was there is kept as {kept.name}" if kept else ""
        )
        self._shown_until = now + SHOWN
        _log.error(self.journal)

    def _check_lock(self) -> None:
        if self._lock.is_lost():
            raise RunTakenError(
                f"another manager has {self._paths.root}: {self._lock.taken_by()}; this one ends, and leaves all to it"
            )

    def _raise_if_gone(self) -> None:
        """Distinguish a deleted journal from a directory that is being deleted."""
        until = time.monotonic() + _BEING_DELETED
        while True:
            if _is_gone(self._paths):
                raise RunGoneError(
                    f"{self._paths.root} was deleted; its manager stops; running jobs are left to finish"
                )
            if time.monotonic() > until:
                return
            time.sleep(0.05)


def _is_gone(paths: RunPaths) -> bool:
    beside: tuple[Path, ...] = (paths.wrapper, paths.screenrc, paths.alerts, paths.manager_log, paths.inbox)
    return not paths.root.exists() or sum(not path.exists() for path in beside) > 1
