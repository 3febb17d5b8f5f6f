"""Estimate how long jobs take, from similar jobs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from queue_manager.core.lengths import Lengths
from queue_manager.core.manifest import JobSpec


class Earlier(NamedTuple):
    """What earlier runs of a project took. `jobs`: seconds of a completed job, by its id; `phases`: average seconds of
    a job of a phase, and over how many jobs."""

    jobs: Mapping[str, float] = {}
    phases: Mapping[str, tuple[float, int]] = {}


NOTHING = Earlier()
_FEW = 3
"""With fewer completed jobs of a phase than this, an earlier estimate counts beside them."""


class Going(NamedTuple):
    """A job that runs, for `elapsed` seconds by now. `own`: what it takes in all by its own progress, None where that
    does not tell; `sure`: the progress of another job of its phase was that of the whole job, and not of an epoch."""

    elapsed: float
    own: float | None = None
    sure: bool = False

    @property
    def known(self) -> float | None:
        """What it takes in all, where that is sure."""
        return self.own if self.sure else None


class _Measured(NamedTuple):
    """What the jobs of a phase took in this run. `ratio`: beside what was expected of these same jobs, None where
    nothing was."""

    jobs: int
    ratio: float | None


class Durations:
    """The expected duration of each job.

    That is what the same job took in an earlier run, else the jobs of its phase there, else its `est_minutes`; and as
    soon as jobs of its phase have completed in this run, as much more or less as those took. Where nothing was
    expected, the completed jobs with the nearest params tell. A job that runs takes what its own progress says; where
    that is not sure, no less than that, and more than it has run for. `took`: seconds of each job that has completed in
    this run, by its id; `going`: those that run.
    """

    def __init__(
        self,
        specs: Iterable[JobSpec],
        earlier: Earlier = NOTHING,
        took: Mapping[str, float] | None = None,
        going: Mapping[str, Going] | None = None,
    ):
        self.earlier = earlier
        took, going = took or {}, going or {}
        self._lengths = Lengths()
        self._taken: dict[str, list[tuple[float, float | None]]] = {}
        self._here: dict[str, _Measured] = {}
        self._going: dict[str, float] = {}
        """What each running job takes in all."""
        run = [spec for spec in specs if spec.id in going and spec.id not in took] if going else []
        for spec in specs if took else ():
            if spec.id in took:
                self._take(spec, took[spec.id])
        self._completed = {phase: len(pairs) for phase, pairs in self._taken.items()}
        for spec in run:
            known = going[spec.id].known
            if known is not None:
                self._take(spec, known)
        self._shown = {phase: len(pairs) - self._completed.get(phase, 0) for phase, pairs in self._taken.items()}
        self._measure()
        self._going = {spec.id: length for spec in run if (length := self._lasting(spec, going[spec.id])) is not None}
        for spec in run:  # those that have run for longer than expected: others may take as long
            length, model, one = self._going.get(spec.id), self._model(spec), going[spec.id]
            if one.known is None and length is not None and model is not None and one.elapsed > model:
                self._take(spec, length)
        self._measure()

    def _take(self, spec: JobSpec, length: float) -> None:
        self._taken.setdefault(spec.phase, []).append((length, self._expected(spec)))
        self._lengths.add(spec.phase, spec.params, length)

    def _measure(self) -> None:
        self._here = {phase: self._measured(phase, pairs) for phase, pairs in self._taken.items()}

    def _measured(self, phase: str, pairs: list[tuple[float, float | None]]) -> _Measured:
        """Put together what the jobs of a phase took in this run, and what was expected of each."""
        compared = [(length, expected) for length, expected in pairs if expected]
        if compared and len(compared) < _FEW and phase in self.earlier.phases:
            usual = self.earlier.phases[phase][0]
            compared.append((usual, usual))  # so that one unusual job does not decide alone
        expected = sum(expected for _, expected in compared)
        ratio = sum(length for length, _ in compared) / expected if expected else None
        return _Measured(len(pairs), ratio)

    def seconds(self, spec: JobSpec) -> float | None:
        """What a job takes; None where nothing tells."""
        return self._going[spec.id] if spec.id in self._going else self._model(spec)

    def _model(self, spec: JobSpec) -> float | None:
        """What jobs such as this one take."""
        expected, here = self._expected(spec), self._here.get(spec.phase)
        if here is None:
            return expected
        if expected is None or here.ratio is None:
            return self._lengths.likely(spec.phase, spec.params)
        return expected * here.ratio

    def _lasting(self, spec: JobSpec, one: Going) -> float | None:
        """What a job takes in all that runs."""
        if one.known is not None:
            return max(one.known, one.elapsed)
        model = self._model(spec)
        if model is None:
            return None
        length = max(model, one.own or 0.0)
        return length if length > one.elapsed else self._lengths.lasting(spec.phase, one.elapsed)

    def _expected(self, spec: JobSpec) -> float | None:
        """Return what was expected of a job before the run."""
        job, phase = self.earlier.jobs.get(spec.id), self.earlier.phases.get(spec.phase)
        if job is not None:
            return job
        if phase is not None:
            return phase[0]
        return None if spec.est_minutes is None else 60.0 * spec.est_minutes

    def of_phases(self, specs: Iterable[JobSpec]) -> dict[str, float]:
        """Return the average seconds of a job of each phase, where known."""
        found: dict[str, list[float]] = {}
        for spec in specs:
            length = self.seconds(spec)
            if length is not None:
                found.setdefault(spec.phase, []).append(length)
        return {phase: sum(lengths) / len(lengths) for phase, lengths in found.items()}

    def measured(self, phase: str) -> int:
        """How many completed jobs of a phase tell what one takes."""
        return self._completed.get(phase, 0) + self.earlier.phases.get(phase, (0.0, 0))[1]

    def basis(self, specs: Iterable[JobSpec]) -> tuple[str, ...]:
        """Say what the estimate of these jobs is based on, by phase: `12 completed jobs of teachers`."""
        found: dict[str, None] = {}
        for spec in specs:
            count, shown = self.measured(spec.phase), self._shown.get(spec.phase, 0)
            if count:
                earlier = "" if spec.phase in self._completed else " in earlier runs"
                found[f"{count} completed job{'' if count == 1 else 's'} of {spec.phase}{earlier}"] = None
            elif shown:
                found[f"the progress of {shown} running job{'' if shown == 1 else 's'} of {spec.phase}"] = None
            elif spec.est_minutes is not None:
                found[f"est_minutes for {spec.phase}"] = None
        return tuple(found)

    def unknown(self, specs: Iterable[JobSpec]) -> tuple[str, ...]:
        """Return the phases of those jobs whose duration is unknown."""
        return tuple(dict.fromkeys(spec.phase for spec in specs if self.seconds(spec) is None))


def basis_words(basis: Iterable[str]) -> str:
    """Say what the estimate is based on: `from 12 completed jobs of teachers; est_minutes for students`."""
    return f"from {'; '.join(basis)}"


def unknown_words(phases: Iterable[str]) -> str:
    """Say why the duration is unknown."""
    return f"no job of {', '.join(phases)} has completed yet, and est_minutes is not given"


def encode(earlier: Earlier) -> bytes:
    """Write the durations for the machine that manages the run."""
    return json.dumps({"jobs": dict(earlier.jobs), "phases": dict(earlier.phases)}).encode()


def decode(data: bytes) -> Earlier:
    """Read what `encode` wrote. Raises ValueError."""
    found = json.loads(data)
    try:
        jobs = {str(job): _seconds(length) for job, length in found["jobs"].items()}
        phases = {str(phase): (_seconds(length), int(count)) for phase, (length, count) in found["phases"].items()}
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"no durations of jobs: {error}") from None
    return Earlier(jobs, phases)


def _seconds(value: float) -> float:
    if not 0.0 <= float(value) < float("inf"):
        raise ValueError(f"no duration: {value}")
    return float(value)
