"""How a run will go on: the same `tick` against a clock that jumps from one end of a job to the next. Pure.

Every job is taken to complete at its first try after the seconds that `seconds` gives for it, and its preconditions to
hold. What the cards use besides the run's own jobs stays as it was read.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.events import Proc, Record
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.model import Job, Need, QueueState
from queue_manager.core.placement import SETTLE_SECONDS
from queue_manager.core.readings import Card, Cards
from queue_manager.core.snapshot import waiting
from queue_manager.core.status import Status
from queue_manager.core.tick import Tick, next_timer, tick

_CLAIM = b.Claim(Proc(1, 1), Proc(1, 1), 0)
_EXIT = b.ExitRecord(0, 1)
_OUTPUT = b.Ended(b.Output("output", fresh=True))
_NO_OUTPUT = b.Ended(None)
_HOLDS = b.Checked(None, float("inf"))
_AWAITED = b.Checked("an output of another machine", float("inf"), awaited=True)


class Machine(NamedTuple):
    """A machine with its part of a run. `state` is used up. `cards`: without the memory of the run's own jobs.
    `speed`: how fast jobs go beside what `seconds` tells. `awaits`: sets of jobs on other machines whose
    outputs a job waits for, by the job's id; jobs that wait for the same share one set."""

    name: str
    state: QueueState
    cards: tuple[Card, ...] = ()
    cores: int = 1
    speed: float = 1.0
    awaits: Mapping[str, Sequence[frozenset[str]]] = {}


class Simulated(NamedTuple):
    """`ends`: when each job that had not ended yet will (epoch seconds), by its id. `until`: when each machine's last
    one will. `left`: jobs that never complete so, and why, in words."""

    ends: Mapping[str, float]
    until: Mapping[str, float]
    left: Mapping[str, str]


def begun(manifest: Manifest, at: float, done: Sequence[str] = ()) -> QueueState:
    """The state of a run that begins at `at` (epoch seconds). `done`: jobs that need not run."""
    state = QueueState(manifest)
    first: list[ev.Event] = [ev.RunStarted("simulated", manifest.project, ""), ev.ManagerStarted("simulated", 1, "")]
    for seq, event in enumerate([*first, *map(ev.JobSkipped, done)], 1):
        state.apply(Record(seq, at, event))
    return state


def simulate(
    machines: Sequence[Machine],
    seconds: Callable[[JobSpec], float],
    now: float,
    began: Mapping[str, float] | None = None,
    not_before: Mapping[str, float] | None = None,
) -> Simulated:
    """Let a run go on from `now` (epoch seconds) to its end. `began`: when jobs began that run by now, by their ids,
    where the state does not know it as well; `not_before`: before when such a job cannot end."""
    simulation = Simulation(machines, seconds, now, began, not_before)
    for _ in simulation.steps():
        pass
    return simulation.result()


class _Awaited:
    """A set of jobs: how many of them have not completed, and which jobs of which machines wait for it."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.places: list[tuple[int, int]] = []


class Simulation:
    """One run over one or more machines, that share a clock; arguments as of `simulate`. It goes on by `steps`, so that
    whoever has other things to do can do them in between."""

    def __init__(
        self,
        machines: Sequence[Machine],
        seconds: Callable[[JobSpec], float],
        now: float,
        began: Mapping[str, float] | None = None,
        not_before: Mapping[str, float] | None = None,
    ) -> None:
        self._machines, self._seconds, self._now, self._from = machines, seconds, now, now
        began, not_before = began or {}, not_before or {}
        self._cards = [Cards(one.cards, ()) for one in machines]
        self._queue: list[tuple[float, int, int]] = []
        """When which job of which machine ends."""
        self._timers: list[float | None] = [None] * len(machines)
        self._impossible: list[Mapping[Need, str]] = [{}] * len(machines)
        self._ends: dict[str, float] = {}
        self._sets: dict[frozenset[str], _Awaited] = {}
        self._in_sets: dict[str, list[_Awaited]] = {}
        self._missing: dict[tuple[int, int], int] = {}
        """How many sets a job still waits for, by machine and order."""
        done = {job.spec.id for one in machines for job in one.state.jobs if job.status is Status.COMPLETED}
        for number, one in enumerate(machines):
            for order, attempt in one.state.live.items():
                spec = one.state.jobs[order].spec
                start = began.get(spec.id, attempt.starting if attempt.started is None else attempt.started)
                end = max(now, start + self._length(number, spec), not_before.get(spec.id, now))
                self._ends_at(number, order, end)
            for name, sets in one.awaits.items():
                self._await((number, one.state.order_of[name]), sets, done)

    def _await(self, place: tuple[int, int], sets: Sequence[frozenset[str]], done: set[str]) -> None:
        for jobs in sets:
            awaited = self._sets.get(jobs)
            if awaited is None:
                awaited = self._sets[jobs] = _Awaited(len(jobs - done))
                for job in jobs - done:
                    self._in_sets.setdefault(job, []).append(awaited)
            if awaited.left:
                awaited.places.append(place)
                self._missing[place] = self._missing.get(place, 0) + 1

    def steps(self) -> Iterator[None]:
        """Go from one end to the next, until nothing more happens."""
        due = {number: dict[int, b.Evidence]() for number in range(len(self._machines))}
        for number, one in enumerate(self._machines):
            if one.state.held:
                self._turn(number, {}, {order: self._check(number, order) for order in one.state.held})
        while due:
            arrived: dict[int, dict[int, b.Checked]] = {}
            for number, evidence in due.items():
                self._turn(number, evidence, {})
                for order in evidence:
                    self._tell(self._machines[number].state.jobs[order], arrived)
            for number, checked in arrived.items():
                self._turn(number, {}, checked)
            due = self._next()
            yield

    def result(self) -> Simulated:
        """What came out of it, once nothing more happens."""
        until = {
            one.name: max((self._ends.get(job.spec.id, self._from) for job in one.state.jobs), default=self._from)
            for one in self._machines
        }
        return Simulated(self._ends, until, self._left())

    def _turn(self, number: int, evidence: Mapping[int, b.Evidence], checked: Mapping[int, b.Checked]) -> None:
        """Let a machine decide, until it asks for nothing more."""
        one = self._machines[number]
        result = self._tick(number, evidence, checked)
        while result.ask:
            result = self._tick(number, {}, {order: self._check(number, order) for order in result.ask})
        self._impossible[number] = result.impossible
        timers = [next_timer(one.state, self._now), self._settled_at(number)]
        self._timers[number] = min((at for at in timers if at is not None), default=None)

    def _settled_at(self, number: int) -> float | None:
        """When the memory of a card counts as given back that others use as well."""
        state = self._machines[number].state
        used = [card.uuid for card in self._machines[number].cards
                if card.used_mib >= state.manifest.gpu_free_threshold_mib]  # fmt: skip
        settling = state.cards.settling
        times = [settling[uuid].since + SETTLE_SECONDS for uuid in used if uuid in settling]
        return min((at for at in times if at > self._now), default=None)

    def _tick(self, number: int, evidence: Mapping[int, b.Evidence], checked: Mapping[int, b.Checked]) -> Tick:
        one = self._machines[number]
        seen = b.Seen(one.state.machine.boot, one.cores, evidence, self._cards[number], checked=checked)
        result = tick(one.state, seen, self._now)
        for action in result.actions:
            if isinstance(action, b.Launch):
                length = self._length(number, one.state.jobs[action.order].spec)
                self._ends_at(number, action.order, self._now + length)
        return result

    def _length(self, number: int, spec: JobSpec) -> float:
        length = self._seconds(spec) / self._machines[number].speed
        return length if spec.timeout is None else min(length, spec.timeout)

    def _ends_at(self, number: int, order: int, at: float) -> None:
        heapq.heappush(self._queue, (at, number, order))

    def _check(self, number: int, order: int) -> b.Checked:
        return _AWAITED if self._missing.get((number, order)) else _HOLDS

    def _tell(self, job: Job, arrived: dict[int, dict[int, b.Checked]]) -> None:
        """Tell of a job that has ended to those on other machines that wait for its output."""
        if job.status is not Status.COMPLETED:
            return
        self._ends[job.spec.id] = self._now
        for awaited in self._in_sets.pop(job.spec.id, ()):
            awaited.left -= 1
            for place in () if awaited.left else awaited.places:
                self._missing[place] -= 1
                if not self._missing[place]:
                    arrived.setdefault(place[0], {})[place[1]] = _HOLDS

    def _next(self) -> dict[int, dict[int, b.Evidence]]:
        """Go on to when something happens next. What ends by then, by machine; empty if nothing happens any more."""
        times = [at for at in self._timers if at is not None] + [at for at, _, _ in self._queue[:1]]
        if not times:
            return {}
        self._now = min(times)
        due: dict[int, dict[int, b.Evidence]] = {
            number: {} for number, at in enumerate(self._timers) if at is not None and at <= self._now
        }
        while self._queue and self._queue[0][0] <= self._now:
            _, number, order = heapq.heappop(self._queue)
            spec = self._machines[number].state.jobs[order].spec
            ended = _NO_OUTPUT if spec.expected_output is None else _OUTPUT
            due.setdefault(number, {})[order] = b.Evidence(_CLAIM, exit=_EXIT, ended=ended)
        return due

    def _left(self) -> dict[str, str]:
        return {
            job.spec.id: job.error or waiting(one.state, job, impossible) or job.status.value
            for one, impossible in zip(self._machines, self._impossible)
            for job in one.state.jobs
            if job.status is not Status.COMPLETED
        }
