"""Numbers of jobs, in the whole run and by phase. Changed only by `QueueState.apply`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy

from queue_manager.core.manifest import Phase
from queue_manager.core.state_types import Job, PhaseTally
from queue_manager.core.status import FINAL, RETRYING, Status


def shown(counts: Mapping[Status, int], queued: int) -> dict[Status, int]:
    """Return the numbers of jobs by status as people read them: what waits in Slurm's queue is pending."""
    if not queued:
        return dict(counts)
    pending = counts.get(Status.PENDING, 0) + queued
    moved = {Status.RUNNING: counts[Status.RUNNING] - queued, Status.PENDING: pending}
    return {status: count for status, count in {**counts, **moved}.items() if count}


class Tallies:
    """`counts`: jobs by status; `phases`: the numbers of each phase; `card_jobs`: jobs that wait for a GPU;
    `queued`: how many of the jobs that count as running wait in Slurm's queue."""

    def __init__(self) -> None:
        self.counts: dict[Status, int] = {}
        self.queued = 0
        self.phases: dict[str, PhaseTally] = {}
        self.card_jobs = 0

    @property
    def all_final(self) -> bool:
        """Whether no job is left that can still run."""
        return all(status in FINAL for status in self.counts)

    @property
    def shown(self) -> dict[Status, int]:
        """Jobs by status as people read them, see `shown`."""
        return shown(self.counts, self.queued)

    def copy(self) -> Tallies:
        """Return an independent copy."""
        return deepcopy(self)

    # -- called by apply ----------------------------------------------------------------------------------------------

    def recount(self, phases: Iterable[Phase], jobs: Iterable[Job]) -> None:
        """Count all jobs again; other numbers of a phase's tally stay."""
        self.phases = {phase.name: self.phases.get(phase.name) or PhaseTally() for phase in phases}
        self.counts, self.card_jobs, self.queued = {}, 0, 0
        for tally in self.phases.values():
            tally.counts, tally.queued = {}, 0
        for job in jobs:
            self._add(job, job.status, 1)
            if job.attempt is not None and job.attempt.is_queued:
                self.queue(job, 1)

    def move(self, job: Job, status: Status) -> None:
        """Count a job that is about to get this status."""
        self._add(job, job.status, -1)
        self._add(job, status, 1)

    def _add(self, job: Job, status: Status, by: int) -> None:
        if job.spec.gpus and (status is Status.PENDING or status in RETRYING):
            self.card_jobs += by
        for counts in (self.counts, self.phases[job.spec.phase].counts):
            left = counts.get(status, 0) + by
            if left:
                counts[status] = left
            else:
                del counts[status]

    def queue(self, job: Job, by: int) -> None:
        """Count a job that has come to Slurm's queue (1), or has left it (-1)."""
        self.queued += by
        self.phases[job.spec.phase].queued += by

    def started(self, job: Job, at: float) -> None:
        """Count a started attempt."""
        tally = self.phases[job.spec.phase]
        if tally.started is None:
            tally.started = at

    def ended(self, job: Job, at: float, is_oom_retry: bool) -> None:
        """Count an ended attempt."""
        tally = self.phases[job.spec.phase]
        tally.ended = at
        tally.oom_retries += is_oom_retry

    def ran(self, job: Job, code: str | None) -> None:
        """Count the job's attempt for this version of the code (None: unknown), and no longer for the one before."""
        codes = self.phases[job.spec.phase].codes
        if job.code is not None:
            codes[job.code] -= 1
            if not codes[job.code]:
                del codes[job.code]
        job.code = code
        if code is not None:
            codes[code] = codes.get(code, 0) + 1
