"""One turn of the decision: what it has seen, what it concludes, and what one job's fate means for others."""

from __future__ import annotations

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.events import Event, Record
from queue_manager.core.model import Attempt, Job, Need, QueueState
from queue_manager.core.status import BAD, RETRYING, Status


class Turn:
    """Collects events and actions. `ask`: jobs whose preconditions have to be checked; `impossible`: needs that the
    GPUs can never meet, in words; `launch_error`: why a launch of this turn failed."""

    def __init__(self, state: QueueState, seen: b.Seen, now: float) -> None:
        self.state, self.seen, self.now = state, seen, now
        self.records: list[Record] = []
        self.actions: list[b.Action] = []
        self.ask: list[int] = []
        self.impossible: dict[Need, str] = {}
        self.launch_error: str | None = None

    def emit(self, event: Event) -> None:
        """Add an event and apply it."""
        record = Record(self.state.seq + 1, self.now, event)
        self.state.apply(record)
        self.records.append(record)

    def stop(self, job: Job, attempt: Attempt, reason: str) -> None:
        """Begin to end a live attempt."""
        self.emit(ev.AttemptStopping(job.spec.id, attempt.n, reason))
        self.actions.append(b.Stop(job.order, kill=False))

    def spread(self, job: Job) -> None:
        """Block all jobs that depend on one that has just turned bad."""
        root = job.blocked_by or job.spec.id
        # `turned` is asked right after each event: only then does it tell the first bad member of a group from others.
        todo = [self.state.graph.turned(job.order)]
        while todo:
            for order in todo.pop():
                if self._block(self.state.jobs[order], root):
                    todo.append(self.state.graph.turned(order))

    def _block(self, job: Job, root: str) -> bool:
        if job.status is not Status.PENDING and job.status not in RETRYING:
            return False
        self._name_root(job, self.state.job(root))
        return True

    def _name_root(self, job: Job, root: Job) -> None:
        error = f"depends on {root.spec.id}, which is {root.status.value}"
        self.emit(ev.JobBlocked(job.spec.id, root.spec.id, error))

    def block_if_bad(self, job: Job) -> bool:
        """Block a job that was just added, or has just returned, if a dependency is bad. Returns whether one is."""
        bad = self.state.graph.bad_need(job.order)
        if bad is None:
            return False
        cause = self.state.jobs[bad]
        if self._block(job, cause.blocked_by or cause.spec.id):
            self.spread(job)
        return True

    def release(self, job: Job) -> None:
        """Unblock all jobs that waited for one that is no longer bad, unless something else blocks them."""
        todo = [self.state.graph.turned(job.order)]
        while todo:
            for order in todo.pop():
                waiter = self.state.jobs[order]
                blocked = waiter.status is Status.BLOCKED and waiter.blocked_by is not None
                if blocked and self.state.graph.bad_need(order) is None:
                    self.emit(ev.JobUnblocked(waiter.spec.id))
                    todo.append(self.state.graph.turned(order))

    def name_roots(self) -> None:
        """For blocked jobs that name a job which is no longer bad, name another one that blocks them."""
        state = self.state
        for job in state.jobs:
            if job.status is not Status.BLOCKED or job.blocked_by is None or _is_root(state.job(job.blocked_by)):
                continue
            root = job
            while not _is_root(root):
                bad = state.graph.bad_need(root.order)
                assert bad is not None  # else it would have been released
                root = state.jobs[bad]
            self._name_root(job, root)


def _is_root(job: Job) -> bool:
    """Return whether a job is bad itself, and not because of another."""
    blocked = job.status is Status.BLOCKED
    return job.status in BAD and not (blocked and job.blocked_by is not None)
