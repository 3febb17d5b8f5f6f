"""Looks at jobs' preconditions: files at once, commands in threads beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from queue_manager.adapters import evidence
from queue_manager.adapters.clock import Clock
from queue_manager.adapters.named_values import NamedValues
from queue_manager.core import boundary as b
from queue_manager.core import shell_paths
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Job, QueueState

HELD_AT_ONCE = 200


class Preconditions:
    """The preconditions of one run's jobs. `cwd` names a job's working directory, `wake` wakes the loop; `poll` is in
    seconds."""

    def __init__(
        self,
        state: QueueState,
        environment: dict[str, str],
        named: NamedValues,
        clock: Clock,
        poll: float,
        cwd: Callable[[Job], str],
        wake: Callable[[], None],
    ) -> None:
        self._state, self._environment, self._clock, self._poll = state, environment, clock, poll
        self._named = named
        self._cwd, self._wake = cwd, wake
        self._helpers = ThreadPoolExecutor(4, "helper")
        self._asked: set[int] = set()
        self._checked: dict[int, b.Checked] = {}
        self._held_at = 0.0
        self._held_after = -1

    def answers(self) -> dict[int, b.Checked]:
        """What has been found out, by the job's order. Given once; kept while a command still runs, since a barrier's
        wave starts when all its answers are there."""
        found = dict(self._checked)
        if not self._asked:
            self._checked.clear()
        return found

    def due(self) -> float | None:
        """When `check_held` has something to do (epoch seconds); None if no job waits."""
        return self._held_at if self._state.held else None

    def check_held(self, now: float) -> bool:
        """Look again at the jobs that wait for a precondition, some at every poll. Returns whether there are answers
        already."""
        if not self._state.held or now < self._held_at:
            return False
        self._held_at = now + self._poll
        held = [order for order in sorted(self._state.held) if order > self._held_after][:HELD_AT_ONCE]
        self._held_after = held[-1] if len(held) == HELD_AT_ONCE else -1  # then from the first again
        return self.ask(tuple(held), now)

    def ask(self, orders: tuple[int, ...], now: float) -> bool:
        """Have the preconditions of these jobs looked at. Returns whether there are answers already."""
        answered = False
        for order in orders:
            job = self._state.jobs[order]
            known = self._named.of(job.spec).known
            environment = {**self._environment, **self._state.manifest.env, **job.spec.env, **known}
            if all(one.type != "command" for one in job.spec.preconditions):
                self._checked[order] = evidence.checked(self._on_host(job), self._cwd(job), environment, now)
                answered = True
            elif order not in self._asked:
                self._asked.add(order)
                self._helpers.submit(self._check, order, job, environment)
        return answered

    def _check(self, order: int, job: Job, environment: dict[str, str]) -> None:
        at = self._clock.now()
        self._checked[order] = evidence.checked(self._on_host(job), self._cwd(job), environment, at)
        self._asked.discard(order)
        self._wake()

    def _on_host(self, job: Job) -> JobSpec:
        return shell_paths.expanded(self._state.manifest, job.spec, self._environment)

    def close(self) -> None:
        """Begin no further commands."""
        self._helpers.shutdown(wait=False, cancel_futures=True)
