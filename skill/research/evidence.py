"""Evidence: what each run of a project gave, a line a run, and what these lines say together. Pure.

Cells, means and deviations are those of `wavequeue results`, effects those of the report's page. Every number of the
aggregate has the ids of the runs that it rests on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import nearest
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.params import is_seed
from skill.reports import cells
from skill.reports.cells import Cell, Result, Table
from skill.reports.effect import CONFIDENCE, Effect, control_of, effect

NULL, BETTER, WORSE, DIFFERENT, UNKNOWN = "null", "better", "worse", "different", "unknown"
"""What an effect says: its interval holds zero; it is better or worse by the metric's goal; there is one, and no goal;
there are too few values for an interval."""
_COMMIT = re.compile(r"([0-9a-f]{7,40})(\+[0-9a-f]+)?")


class EvidenceError(ValueError):
    """A line is no evidence; says why."""


class Evidence(NamedTuple):
    """What one run gave. `run`: its id in the run queue; `on`: the run on hosts in which it ran as `job`.

    `params`: its grid keys; `metrics`: numbers by name; `errors`: why a metric has none; `goals`: min or max by metric.
    `code`: the name of the code, with its `commit` and whether that was `dirty`, None where it is unknown.
    `gpus`: models; `started`, `finished`: ISO times by the host's clock; `duration_s` between them.
    """

    run: str
    on: str
    job: str
    phase: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    errors: Mapping[str, str] = {}
    goals: Mapping[str, str] = {}
    code: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    host: str | None = None
    gpus: tuple[str, ...] = ()
    started: str | None = None
    finished: str | None = None
    duration_s: float | None = None
    exit_code: int | None = None


class Comparison(NamedTuple):
    """A cell against its control, by one metric. `says`: see NULL and those beside it; `runs` and `control_runs`: the
    ids that it rests on."""

    phase: str
    metric: str
    key: Mapping[str, str]
    effect: Effect
    n: tuple[int, int]
    says: str
    runs: tuple[str, ...]
    control_runs: tuple[str, ...]


class Aggregate(NamedTuple):
    """What evidence says together: a table for each phase, by its name, and the comparisons with a control."""

    tables: Mapping[str, Table]
    comparisons: tuple[Comparison, ...]


def encode(one: Evidence) -> str:
    """One line, newline included."""
    return json.dumps(one._asdict(), ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"


def decode(line: str) -> Evidence:
    """Read a line. Keys that are not known are ignored, for a newer version may have written them, but for one that is
    a missing key misspelt. Raises EvidenceError."""
    try:
        data = json.loads(line)
        for name in data.keys() - set(Evidence._fields):
            close = nearest(name, Evidence._fields)
            if close is not None and close not in data:
                raise EvidenceError(f"unknown key {name}; did you mean {close}?")
        found = {name: data[name] for name in Evidence._fields if name in data}
        made = Evidence(**{**found, "gpus": tuple(found.get("gpus", ()))})
        texts = [made.run, made.on, made.job, made.phase, *made.params.values(), *made.goals.values()]
        if not all(isinstance(text, str) for text in texts):
            raise EvidenceError("run, on, job, phase, params and goals have to be text")
        for name, value in made.metrics.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise EvidenceError(f"metric {name} has to be a number, and not {value!r}")
        return made
    except EvidenceError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(f"is not a line of evidence: {error}") from None


def commit_of(code: str | None) -> tuple[str | None, bool | None]:
    """The commit in a name of code, and whether there were changes beside it; None where there is no commit."""
    found = _COMMIT.fullmatch(code or "")
    return (None, None) if found is None else (found.group(1), found.group(2) is not None)


def results(lines: Sequence[Evidence]) -> list[Result]:
    """Evidence as `wavequeue results` has it, by the id of the run. Params that only name a run are left out."""
    jobs = tuple(JobSpec(one.run, "", one.phase, params=one.params) for one in lines)
    phases = tuple(Phase(name) for name in dict.fromkeys(one.phase for one in lines))
    params = cells.identities(Manifest("evidence", jobs, phases))
    return [
        Result(
            one.on, one.run, one.phase, params[one.run], "completed", one.finished or "",
            {name: float(value) for name, value in one.metrics.items()},
            "; ".join(f"{name}: {why}" for name, why in one.errors.items()),
        )
        for one in lines
    ]  # fmt: skip


def aggregate(lines: Sequence[Evidence], control: Mapping[str, str] | None = None) -> Aggregate:
    """Put evidence together, phase by phase. `control`: values of keys that make a cell a control, with which each cell
    is compared that is the same elsewhere."""
    goals: dict[str, str] = {}
    for one in lines:
        for name, goal in one.goals.items():
            goals.setdefault(name, goal)
    found: dict[str, list[Result]] = {}
    for result in results(lines):
        found.setdefault(result.phase, []).append(result)
    tables = {phase: cells.table(of_phase, goals) for phase, of_phase in found.items()}
    compared = [
        one for phase, table in tables.items() for one in _comparisons(phase, table, goals, control or {}) if control
    ]
    return Aggregate(tables, tuple(compared))


def _comparisons(
    phase: str, table: Table, goals: Mapping[str, str], control: Mapping[str, str]
) -> Iterable[Comparison]:
    if not all(name in table.keys for name in control):
        return
    for metric in table.metrics:
        for cell in table.cells:
            other = control_of(cell, table, control)
            if other is not None and metric in cell.values and metric in other.values:
                found = effect(cell.values[metric], other.values[metric])
                n = (len(cell.values[metric]), len(other.values[metric]))
                says = verdict(found, goals.get(metric))
                yield Comparison(phase, metric, cell.key, found, n, says, runs(cell, metric), runs(other, metric))


def verdict(found: Effect, goal: str | None) -> str:
    """What an effect says."""
    if found.low is None or found.high is None:
        return UNKNOWN
    if found.low <= 0.0 <= found.high:
        return NULL
    if goal not in ("min", "max"):
        return DIFFERENT
    return BETTER if (found.difference < 0) == (goal == "min") else WORSE


def runs(cell: Cell, metric: str) -> tuple[str, ...]:
    """The ids that a cell's number rests on."""
    return tuple(one.id for one in cell.jobs if metric in one.numbers)


def document(made: Aggregate) -> dict[str, Any]:
    """The aggregate as JSON, the same for the same evidence."""
    return {
        "confidence": CONFIDENCE,
        "phases": [_phase(name, table) for name, table in made.tables.items()],
        "effects": [_effect(one) for one in made.comparisons],
    }


def _phase(name: str, table: Table) -> dict[str, Any]:
    return {"phase": name, "keys": table.keys, "metrics": table.metrics, "rows": [_row(cell) for cell in table.cells]}


def _row(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "metrics": {name: {**one._asdict(), "runs": list(runs(cell, name))} for name, one in cell.stats.items()},
        "per_seed": [
            {
                "run": one.id,
                "seed": {name: value for name, value in one.params.items() if is_seed(name)},
                "metrics": dict(one.numbers),
            }
            for one in cell.jobs
        ],
        "missing": [{"run": one.id, "why": one.why or "has no number"} for one in cell.missing],
    }


def _effect(one: Comparison) -> dict[str, Any]:
    return {
        "phase": one.phase, "metric": one.metric, "key": dict(one.key), **one.effect._asdict(), "n": list(one.n),
        "says": one.says, "runs": list(one.runs), "control_runs": list(one.control_runs),
    }  # fmt: skip
