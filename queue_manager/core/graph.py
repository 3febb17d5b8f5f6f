"""The dependency graph, kept current as statuses change: a change costs what it touches, not the size of the run.

A dependency is a job, a group of jobs, or (where a phase has no `match`) a whole phase. For groups and phases two
numbers are kept: `left`, members not completed, and `bad`, members that are stuck, blocked or cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from queue_manager.core.manifest import JobSpec, Phase
from queue_manager.core.status import BAD, Status

Node = tuple[str, str]
"""A group or a phase: ("group" | "phase", name)."""


class Graph:
    """Built from the manifest and the present statuses; `move` reports each change."""

    def __init__(
        self,
        phases: Iterable[Phase],
        groups: Mapping[str, Iterable[str]],
        specs: Sequence[JobSpec],
        statuses: Sequence[Status],
    ) -> None:
        order_of = {spec.id: order for order, spec in enumerate(specs)}
        self._phase_of = [spec.phase for spec in specs]
        self._statuses = list(statuses)
        self.phase_jobs: dict[str, list[int]] = {}
        self._phase_waiters: dict[str, list[str]] = {}
        self._phase_needs: dict[str, tuple[str, ...]] = {}
        for phase in phases:
            self.phase_jobs[phase.name] = []
            self._phase_needs[phase.name] = () if phase.match else phase.depends_on
            for name in self._phase_needs[phase.name]:
                self._phase_waiters.setdefault(name, []).append(phase.name)
        self._groups_of: dict[int, list[str]] = {}
        self._group_waiters: dict[str, list[int]] = {}
        self._job_waiters: dict[int, list[int]] = {}
        self._job_needs: dict[int, list[int]] = {}
        self._group_needs: dict[int, list[str]] = {}
        self._members = {name: [order_of[job] for job in ids] for name, ids in groups.items()}
        for name, orders in self._members.items():
            for order in orders:
                self._groups_of.setdefault(order, []).append(name)
        for order, spec in enumerate(specs):
            self.phase_jobs[spec.phase].append(order)
            for name in spec.depends_on:
                if name in order_of:
                    self._job_waiters.setdefault(order_of[name], []).append(order)
                    self._job_needs.setdefault(order, []).append(order_of[name])
                else:
                    self._group_waiters.setdefault(name, []).append(order)
                    self._group_needs.setdefault(order, []).append(name)
        self.left: dict[Node, int] = {}
        self.bad: dict[Node, int] = {}
        nodes = [(("group", name), orders) for name, orders in self._members.items()]
        nodes += [(("phase", name), orders) for name, orders in self.phase_jobs.items()]
        for node, orders in nodes:
            self.left[node] = sum(statuses[order] is not Status.COMPLETED for order in orders)
            self.bad[node] = sum(statuses[order] in BAD for order in orders)
        self._phase_unmet = {
            name: sum(self.left[("phase", need)] > 0 for need in needs) for name, needs in self._phase_needs.items()
        }
        self._unmet = [self._count_unmet(order) for order in range(len(specs))]

    def _count_unmet(self, order: int) -> int:
        jobs = sum(self._statuses[need] is not Status.COMPLETED for need in self._job_needs.get(order, ()))
        return jobs + sum(self.left[("group", name)] > 0 for name in self._group_needs.get(order, ()))

    def met(self, order: int) -> bool:
        """Return whether all dependencies of the job have completed."""
        return self._unmet[order] == 0 and self._phase_unmet[self._phase_of[order]] == 0

    def move(self, order: int, new: Status) -> list[int]:
        """Apply a change of status. Returns the jobs that lost an open dependency by it."""
        old, self._statuses[order] = self._statuses[order], new
        nodes: list[Node] = [("group", name) for name in self._groups_of.get(order, ())]
        nodes.append(("phase", self._phase_of[order]))
        for node in nodes:
            self.bad[node] += (new in BAD) - (old in BAD)
        if new is not Status.COMPLETED or old is Status.COMPLETED:
            return []
        freed: list[int] = []
        for waiter in self._job_waiters.get(order, ()):
            self._unmet[waiter] -= 1
            freed.append(waiter)
        for node in nodes:
            self.left[node] -= 1
            if self.left[node]:
                continue
            if node[0] == "group":
                for waiter in self._group_waiters.get(node[1], ()):
                    self._unmet[waiter] -= 1
                    freed.append(waiter)
            else:
                for phase in self._phase_waiters.get(node[1], ()):
                    self._phase_unmet[phase] -= 1
                    if not self._phase_unmet[phase]:
                        freed.extend(self.phase_jobs[phase])
        return freed

    def turned(self, order: int) -> list[int]:
        """Return the jobs to check after `order` turned bad, or is no longer bad: its own dependents, and those of each
        group and phase of which it was the first bad member, or the last."""
        waiters = list(self._job_waiters.get(order, ()))
        bad = self._statuses[order] in BAD
        edge = 1 if bad else 0
        for name in self._groups_of.get(order, ()):
            if self.bad[("group", name)] == edge:
                waiters.extend(self._group_waiters.get(name, ()))
        if self.bad[("phase", self._phase_of[order])] == edge:
            for phase in self._phase_waiters.get(self._phase_of[order], ()):
                waiters.extend(self.phase_jobs[phase])
        return waiters

    def bad_need(self, order: int) -> int | None:
        """Return a dependency of `order` that is stuck, blocked or cancelled; None if there is none."""
        for need in self._job_needs.get(order, ()):
            if self._statuses[need] in BAD:
                return need
        for name in self._group_needs.get(order, ()):
            if self.bad[("group", name)]:
                return next(job for job in self._members[name] if self._is_bad(job))
        for phase in self._phase_needs[self._phase_of[order]]:
            if self.bad[("phase", phase)]:
                return next(job for job in self.phase_jobs[phase] if self._is_bad(job))
        return None

    def _is_bad(self, order: int) -> bool:
        return self._statuses[order] in BAD

    def open_needs(self, order: int, limit: int) -> list[str]:
        """Return names of what the job still waits for, phases first, at most `limit`."""
        names = [f"phase {name}" for name in self._phase_needs[self._phase_of[order]] if self.left[("phase", name)]]
        names += [name for name in self._group_needs.get(order, ()) if self.left[("group", name)]]
        return names[:limit]

    def open_jobs(self, order: int, limit: int) -> list[int]:
        """Return single jobs that the job still waits for, at most `limit`."""
        needs = self._job_needs.get(order, ())
        return [need for need in needs if self._statuses[need] is not Status.COMPLETED][:limit]
