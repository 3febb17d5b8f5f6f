"""How long jobs take, by what jobs like them took: for estimates. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from queue_manager.core.manifest import JobSpec


class Earlier(NamedTuple):
    """What earlier runs of a project took. `jobs`: seconds of a job that completed there, by its id; `phases`: seconds
    of a job of a phase on average, and of how many jobs that was measured."""

    jobs: Mapping[str, float] = {}
    phases: Mapping[str, tuple[float, int]] = {}


NOTHING = Earlier()


class _Measured(NamedTuple):
    """What the jobs of a phase took in this run. `ratio`: beside what was expected of these same jobs, None where
    nothing was; `mean` in seconds."""

    jobs: int
    mean: float
    ratio: float | None


class Durations:
    """What each job is expected to take.

    That is what the same job took in an earlier run, else the jobs of its phase there, else its `est_minutes`; and as
    soon as jobs of its phase have completed in this run, as much more or less as those took. `took`: seconds of each
    job that has completed in this run, by its id.
    """

    def __init__(self, specs: Iterable[JobSpec], earlier: Earlier = NOTHING, took: Mapping[str, float] | None = None):
        self._earlier = earlier
        taken: dict[str, list[tuple[float, float | None]]] = {}
        for spec in specs if took else ():
            length = (took or {}).get(spec.id)
            if length is not None:
                taken.setdefault(spec.phase, []).append((length, self._expected(spec)))
        self._here = {phase: _measured(pairs) for phase, pairs in taken.items()}

    def seconds(self, spec: JobSpec) -> float | None:
        """What a job takes; None where nothing tells."""
        expected, here = self._expected(spec), self._here.get(spec.phase)
        if here is None:
            return expected
        return here.mean if expected is None or here.ratio is None else expected * here.ratio

    def _expected(self, spec: JobSpec) -> float | None:
        """What a job was expected to take before the run."""
        job, phase = self._earlier.jobs.get(spec.id), self._earlier.phases.get(spec.phase)
        if job is not None:
            return job
        if phase is not None:
            return phase[0]
        return None if spec.est_minutes is None else 60.0 * spec.est_minutes

    def of_phases(self, specs: Iterable[JobSpec]) -> dict[str, float]:
        """What a job of each phase takes on average, as far as that is known."""
        found: dict[str, list[float]] = {}
        for spec in specs:
            length = self.seconds(spec)
            if length is not None:
                found.setdefault(spec.phase, []).append(length)
        return {phase: sum(lengths) / len(lengths) for phase, lengths in found.items()}

    def measured(self, phase: str) -> int:
        """How many completed jobs of a phase tell what one takes."""
        here = self._here.get(phase)
        return (0 if here is None else here.jobs) + self._earlier.phases.get(phase, (0.0, 0))[1]

    def basis(self, specs: Iterable[JobSpec]) -> tuple[str, ...]:
        """What tells how long these jobs take, a line for each phase: `12 completed jobs of teachers`."""
        found: dict[str, None] = {}
        for spec in specs:
            count = self.measured(spec.phase)
            if count:
                earlier = "" if spec.phase in self._here else " in earlier runs"
                found[f"{count} completed job{'' if count == 1 else 's'} of {spec.phase}{earlier}"] = None
            elif spec.est_minutes is not None:
                found[f"est_minutes for {spec.phase}"] = None
        return tuple(found)

    def unknown(self, specs: Iterable[JobSpec]) -> tuple[str, ...]:
        """The phases of those jobs of which nothing tells how long they take."""
        return tuple(dict.fromkeys(spec.phase for spec in specs if self.seconds(spec) is None))


def _measured(pairs: list[tuple[float, float | None]]) -> _Measured:
    total = sum(length for length, _ in pairs)
    compared = [(length, expected) for length, expected in pairs if expected]
    ratio = sum(length for length, _ in compared) / sum(expected for _, expected in compared) if compared else None
    return _Measured(len(pairs), total / len(pairs), ratio)
