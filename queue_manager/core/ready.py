"""Which jobs may start now, and which wait out a delay. Kept by `QueueState.apply` alone; asking changes nothing.

Both are heaps. An entry whose job has gone elsewhere stays where it is until it comes to the top, and is dropped there
at once, so that the top of a heap always holds.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence

from queue_manager.core.graph import Graph
from queue_manager.core.state_types import Job, Need
from queue_manager.core.status import RETRYING, Status


class ReadyIndex:
    """Built from the jobs as they are; told of each change by `arrived`, `left` and `delayed`."""

    def __init__(self, jobs: Sequence[Job], graph: Graph) -> None:
        self._jobs, self._graph = jobs, graph
        self._heaps: dict[Need, list[tuple[int, int]]] = {}
        self._delayed: list[tuple[float, int]] = []
        for job in jobs:
            job.queued = False
            self.arrived(job)
            if job.status in RETRYING and job.due is not None:
                self.delayed(job, job.due)

    # -- told by apply ------------------------------------------------------------------------------------------------

    def arrived(self, job: Job) -> None:
        """Take in a job that may be ready now."""
        if self._holds(job.order) and not job.queued and self._graph.met(job.order):
            job.queued = True
            heapq.heappush(self._heaps.setdefault(job.need, []), (-job.spec.priority, job.order))

    def delayed(self, job: Job, due: float) -> None:
        """Take in a job that has just failed and may start again at `due` (epoch seconds)."""
        heapq.heappush(self._delayed, (due, job.order))

    def left(self, job: Job) -> None:
        """Take note that a job is not ready any more, or does not wait out a delay any more."""
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
        """The needs of which a job is ready."""
        return list(self._heaps)

    def heads(self) -> list[tuple[int, int, Need]]:
        """The first ready job of each need, as (-priority, order, need)."""
        return [(*heap[0], need) for need, heap in self._heaps.items()]

    def in_order(self, need: Need) -> Iterator[tuple[int, int, Need]]:
        """The ready jobs of one need, the first one first, as (-priority, order, need); each costs no more than it is
        asked for. Not to be gone on with once an event was applied."""
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
        """The ready jobs that come first, at most so many, whatever cards there are for them."""
        queues = [self.in_order(need) for need in self._heaps]
        return [order for _, order, _ in itertools.islice(heapq.merge(*queues), count)]

    def jobs(self, need: Need) -> list[Job]:
        """All ready jobs of one need, in no order."""
        return [self._jobs[order] for _, order in self._heaps.get(need, []) if self._holds(order)]

    def due_retries(self, now: float) -> list[Job]:
        """Failed jobs whose delay is over at `now`, the longest over first."""
        found, todo = set(), [0]
        while todo:
            at = todo.pop()
            if at < len(self._delayed) and self._delayed[at][0] <= now:
                todo += (2 * at + 1, 2 * at + 2)
                found.add(self._delayed[at])
        return [self._jobs[order] for due, order in sorted(found) if self._waits(due, order)]

    def next_due(self) -> float | None:
        """When the next failed job's delay is over (epoch seconds); None if none waits."""
        return self._delayed[0][0] if self._delayed else None
