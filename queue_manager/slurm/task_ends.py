"""Gathers what is known of a task's attempt that has ended: its output and log, and how Slurm ended it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from queue_manager.activity_watch import log_mark
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Ended, ExitRecord
from queue_manager.core.layout import AttemptPaths
from queue_manager.core.readings import Unreadable
from queue_manager.end_facts import EndFacts
from queue_manager.slurm import attempt_files
from queue_manager.slurm.accounting import Accounting
from queue_manager.slurm.attempt_files import Taken, had_all_time, was_told_to_end
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.ends import end, written
from queue_manager.slurm.fate import is_at_fault, is_doubtful
from queue_manager.slurm.followed import Followed
from queue_manager.slurm.sent import Sent

_KILLED = 137


class TaskEnds:
    """The ends of a run's attempts."""

    def __init__(self, run_dir: RunDir, facts: EndFacts, accounting: Accounting) -> None:
        self._run_dir, self._facts, self._accounting = run_dir, facts, accounting

    def forgotten(self, sent: Sent, task: int) -> Listed | None:
        """Return how a task ended that is not listed any more: by its output, else by Slurm's accounting; None where
        neither tells."""
        found = written(_text(sent.batch.directory / f"{task}.out"))
        return found or self._accounting.row((sent.batch.name, task), sent.batch.at)

    def is_known(self, files: AttemptPaths, record: ExitRecord, output: Path | None) -> bool:
        """Return whether its own files show who ended an attempt that seems to have been ended: its time limit, or the
        kernel for want of memory."""
        if was_told_to_end(files):
            return end(None, _text(output)).limit
        return record.code == _KILLED and attempt_files.ran_out_of_memory(files)

    def is_doubtful(self, followed: Followed, taken: Taken, record: ExitRecord, output: Path | None) -> bool:
        """Return whether somebody else may have ended an attempt that has left this record. `output`: see `gather`."""
        files = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n)
        code = 0 if taken.pilot else record.code  # a pilot that ends tells all that runs in it
        if followed.attempt.stopping is not None or not is_doubtful(code, was_told_to_end(files)):
            return False
        if not taken.pilot and self.is_known(files, record, output):
            return False
        if record.code:
            return True
        found = self.gather(followed, taken, record, None, output).output
        return found is None or not found.fresh

    def was_lost_with_pilot(
        self,
        followed: Followed,
        taken: Taken,
        record: ExitRecord | None,
        row: Listed | Unreadable | None,
        output: Path | None,
    ) -> bool:
        """Return whether an attempt ended because its pilot did, and has no part in that; see `gather`."""
        files = self._run_dir.paths.attempt(followed.spec.id, followed.attempt.n)
        if is_at_fault(had_all_time(files), row):
            return False
        return record is None or self.is_doubtful(followed, taken, record, output)

    def gather(
        self,
        followed: Followed,
        taken: Taken,
        record: ExitRecord | None,
        row: Listed | Unreadable | None,
        output: Path | None,
    ) -> Ended:
        """Read how an attempt ended. `row`: as its task is listed; `output`: the file that Slurm writes of the task."""
        spec, cwd, n = followed.spec, followed.cwd, followed.attempt.n
        files = self._run_dir.paths.attempt(spec.id, n)
        slurm_end = end(row, _text(output))
        # What Slurm reports of a pilot holds for all that ran in it.
        oom = (slurm_end.oom and (record is None or not taken.pilot)) or attempt_files.ran_out_of_memory(files)
        since = self._facts.since(spec, cwd, taken.at_ns)
        found = self._facts.gather(spec, cwd, n, since, record, lambda: oom)
        over_ns = record.at_ns if record is not None else attempt_files.beat_ns(files) or taken.at_ns
        half = (over_ns - taken.at_ns) // 2
        moved = log_mark(self._run_dir.paths.log(spec.id))[1] >= taken.at_ns + half
        if found.output is not None and found.output.fresh:
            moved = moved or _changed_ns(found.output.path, cwd) >= since + half
        # A task may have run others before or, as a pilot, beside it.
        limit = not taken.pilot and slurm_end.limit and (record is None or was_told_to_end(files))
        return replace(
            found,
            limit=limit or had_all_time(files),
            warned=attempt_files.was_warned(files),
            moved=moved,
            cause=slurm_end.cause,
        )


def _changed_ns(path: str | None, cwd: str) -> int:
    try:
        return os.stat(os.path.join(cwd, path or "")).st_mtime_ns
    except OSError:
        return 0


def _text(output: Path | None) -> str:
    return "" if output is None else attempt_files.task_output(output)
