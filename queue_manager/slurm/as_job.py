"""A manager that is a job of Slurm: it waits for its turn, has the next one queued, and ends before its time does."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from queue_manager.adapters.load import Loaded, UseError
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import HeldError, Lock
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import InvalidTransition, QueueState
from queue_manager.core.readings import Unreadable
from queue_manager.core.slurm_manager import AS_JOB
from queue_manager.daemon import Daemon
from queue_manager.slurm import commands, manager_job
from queue_manager.slurm.managers import Managers
from queue_manager.slurm.succession import Succession

LIFETIME = "WAVEQUEUE_MANAGER_LIFETIME"
"""Names the seconds after which a manager job hands over, where that is to be before Slurm's time limit."""
_AGAIN = 1.0
"""Seconds between looks at a lock that another has."""


class AsJob:
    """The life of one manager as a job of Slurm; `id`: of that."""

    def __init__(self, paths: RunPaths, job: int, managers: Managers, lifetime: float | None) -> None:
        self._paths, self.id, self._managers, self._lifetime = paths, job, managers, lifetime

    @staticmethod
    def wait(take: Callable[[], Lock]) -> Lock:
        """Take the lock, as soon as the manager before has ended or has shown no life for long: Slurm may have lost
        sight of it, while it goes on."""
        while True:
            try:
                return take()
            except HeldError:
                time.sleep(_AGAIN)

    def has_ended(self, holder: Mapping[str, object]) -> bool:
        """Whether the manager job that a lock names has ended, by Slurm's word."""
        listed = self._managers.listed()
        if isinstance(listed, Unreadable):
            return False
        return any(row.has_ended and row.job == holder.get("job") for row in listed)

    def serve(self, daemon: Daemon, state: QueueState, records: Sequence[Record]) -> bool:
        """Follow the run to its end, or until the job's time ends. Returns whether it has finished.

        The next manager is cancelled once the run has finished, and after a fault of ours: it would meet the same.
        """
        if state.finished is not None and not RunDir(self._paths).requests():
            daemon.close(finished=True)
            return True
        daemon.when_halted = "running"
        begun = [record.at for record in records if isinstance(record.event, ev.ManagerStarted)]
        succession = Succession(
            self._managers, state.manifest, self.id, lambda: manager_job.delay([*begun, time.time()], time.time())
        )
        succession.begin()
        timer = threading.Timer(self._lifetime or 0.0, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        if self._lifetime is not None:
            timer.start()
        is_last = False
        try:
            is_last = daemon.serve()
            return is_last
        except InvalidTransition:
            is_last = True
            raise
        finally:
            timer.cancel()
            succession.close(cancel=is_last)


def begin(paths: RunPaths, run: Loaded) -> AsJob:
    """Prepare a manager that was started as a job. Raises UseError.

    What Slurm sets for a job leaves the environment: the jobs of the run would be tied to the CPUs of this one.
    """
    job, lifetime = os.environ.get("SLURM_JOB_ID", ""), os.environ.get(LIFETIME, "")
    if not job.isdigit():
        raise UseError(f"{AS_JOB} is for a job of Slurm; without it the manager runs here")
    kept = commands.scrubbed(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    managers = Managers(paths, run.state.run_id or paths.root.name, os.environ)
    return AsJob(paths, int(job), managers, float(lifetime) if lifetime else None)
