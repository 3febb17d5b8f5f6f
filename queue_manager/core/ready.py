"""Which jobs may start now, and which wait for a retry. Changed only by `QueueState.apply`; queries change nothing.

Both are heaps. An entry whose job has moved on stays until it reaches the top, and is dropped there at once, so the top
of a heap is always valid.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence

from queue_manager.core.graph import Graph
from queue_manager.core.state_types import Job, Need
from queue_manager.core.status import RETRYING, Status


class ReadyIndex:
    """Built from the present jobs; `arrived`, `left` and `delayed` report each change."""

    def __init__(self, jobs: Sequence[Job], graph: Graph) -> None:
        self._jobs, self._graph = jobs, graph
        self._heaps: dict[Need, list[tuple[int, int]]] = {}
        self._delayed: list[tuple[float, int]] = []
        for job in jobs:
            job.queued = False
            self.arrived(job)
            if job.status in RETRYING and job.due is not None:
                self.delayed(job, job.due)

    # -- called by apply ----------------------------------------------------------------------------------------------

    def arrived(self, job: Job) -> None:
        """Add a job that may be ready now."""
        if self._holds(job.order) and not job.queued and self._graph.met(job.order):
            job.queued = True
            heapq.heappush(self._heaps.setdefault(job.need, []), (-job.spec.priority, job.order))

    def delayed(self, job: Job, due: float) -> None:
        """Add a job that has just failed and may start again at `due` (epoch seconds)."""
        heapq.heappush(self._delayed, (due, job.order))

    def left(self, job: Job) -> None:
        """Note that a job is no longer ready, or no longer waits for a retry."""
        heap = self._heaps.get(job.need)
        while heap and not self._holds(heap[0][1]):
            self._jobs[heapq.heappop(heap)[1]].queued = False
        if heap is not None and not heap:
            del self._heaps[job.need]
        while self._delayed and not self._waits(*self._delayed[0]):
            heapq.heappop(self._delayed)

    def _holds(self, order: int) -> bool:
        job = self._jobs[order]
        return job.status is Status.PENDING and job.held is None

    def _waits(self, due: float, order: int) -> bool:
        job = self._jobs[order]
        return job.status in RETRYING and job.due == due

    # -- asked --------------------------------------------------------------------------------------------------------

    def needs(self) -> list[Need]:
        """Return the needs for which a job is ready."""
        return list(self._heaps)

    def heads(self) -> list[tuple[int, int, Need]]:
        """Return the first ready job of each need, as (-priority, order, need)."""
        return [(*heap[0], need) for need, heap in self._heaps.items()]

    def in_order(self, need: Need) -> Iterator[tuple[int, int, Need]]:
        """Yield the ready jobs of one need in order, as (-priority, order, need), at a cost for each one that is taken.
        Must not be continued after an event was applied."""
        heap = self._heaps.get(need, [])
        todo = [(heap[0], 0)] if heap else []
        while todo:
            entry, at = heapq.heappop(todo)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(heap):
                    heapq.heappush(todo, (heap[child], child))
            if self._holds(entry[1]):
                yield (*entry, need)

    def first(self, count: int) -> list[int]:
        """Return the first ready jobs, at most so many, whatever GPUs there are for them."""
        queues = [self.in_order(need) for need in self._heaps]
        return [order for _, order, _ in itertools.islice(heapq.merge(*queues), count)]

    def jobs(self, need: Need) -> list[Job]:
        """Return all ready jobs of one need, in no order."""
        return [self._jobs[order] for _, order in self._heaps.get(need, []) if self._holds(order)]

    def due_retries(self, now: float) -> list[Job]:
        """Return failed jobs whose delay is over at `now`, the longest over first."""
        found, todo = set(), [0]
        while todo:
            at = todo.pop()
            if at < len(self._delayed) and self._delayed[at][0] <= now:
                todo += (2 * at + 1, 2 * at + 2)
                found.add(self._delayed[at])
        return [self._jobs[order] for due, order in sorted(found) if self._waits(due, order)]

    def next_due(self) -> float | None:
        """Return when the next delay is over (epoch seconds); None if no job waits for a retry."""
        return self._delayed[0][0] if self._delayed else None
