"""Results as a table: a row for each cell of a grid, with mean and deviation over the jobs that differ in seeds only.

A cell is known by its keys: what a job was given by its grid and its args (`params` in the manifest), except those that
only repeat an experiment, see `is_seed`. Jobs that were given nothing are identified by their id. Pure.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.params import is_seed
from skill.common import fitting
from skill.runs import recovery

PHASE, JOB = "phase", "job"
"""Keys that no grid has to name: the phase, where several have results; the id of a job that was given no params."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


class Result(NamedTuple):
    """What is known of one job's numbers.

    `params`: without those that name the job. `at`: when it completed (ISO time), empty if it has not. `numbers`: its
    metrics. `why`: why it has none, or lacks some, in words; empty if it has all that its manifest asks for.
    `changed`: settings that are not those of `params`, since a rung of `recover` changed them, in words. `lacks`: the
    metrics that it completed without, and why each, as far as that is known.
    """

    run: str
    id: str
    phase: str
    params: Mapping[str, str]
    status: str
    at: str
    numbers: Mapping[str, float]
    why: str = ""
    changed: str = ""
    lacks: Mapping[str, str] = {}


class Stat(NamedTuple):
    """Mean and sample standard deviation (None of a single value) of `n` values. `best`: no other cell's is better."""

    mean: float
    sd: float | None
    n: int
    best: bool = False


class Cell(NamedTuple):
    """One row. `values`: the numbers of its jobs, by metric; `missing`: those of its jobs that lack a number."""

    key: dict[str, str]
    values: dict[str, list[float]]
    stats: dict[str, Stat]
    jobs: list[Result]
    missing: list[Result]


class Table(NamedTuple):
    """Cells in the order of their jobs. `keys` and `metrics`: the names of all columns."""

    keys: list[str]
    metrics: list[str]
    cells: list[Cell]


def stat(values: Sequence[float]) -> Stat:
    """Describe at least one value."""
    try:  # statistics.stdev is exact for numbers of any size, and takes ten times as long
        mean = statistics.fmean(values)
        # A mean is rounded: values that are all alike may differ from theirs.
        squares = math.fsum([(value - mean) ** 2 for value in values]) if min(values) < max(values) else 0.0
        sd = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else None
    except OverflowError:
        mean, sd = float(statistics.mean(values)), statistics.stdev(values) if len(values) > 1 else None
    return Stat(mean, sd, len(values))


def stat_text(found: Stat) -> str:
    """`0.850 ± 0.071`: two digits of the deviation, and the mean as far as these; four digits of a single value."""
    if not found.sd:
        return f"{found.mean:.4g}"
    digits = 1 - int(f"{found.sd:.1e}".partition("e")[2])
    if abs(digits) > 9:
        return f"{found.mean:.4g} ± {found.sd:.2g}"
    places = max(0, digits)
    return f"{found.mean:.{places}f} ± {found.sd:.{places}f}"


def identities(manifest: Manifest) -> dict[str, dict[str, str]]:
    """The params by which the jobs of a phase differ in what is tried, by job.

    What holds the job's own id says nothing that the id does not, and is left out where that is so of every job of the
    phase. A text such as `out/s42.json` that holds the seed of every job is the same for all seeds.
    """
    phases: dict[str, list[JobSpec]] = {}
    for job in manifest.jobs:
        phases.setdefault(job.phase, []).append(job)
    return {name: params for jobs in phases.values() for name, params in _identities(jobs)}


def _identities(jobs: Sequence[JobSpec]) -> Iterator[tuple[str, dict[str, str]]]:
    having: dict[str, list[JobSpec]] = {}
    for job in jobs:
        for name in job.params:
            having.setdefault(name, []).append(job)
    seeds = [name for name in having if is_seed(name)]
    others = [name for name in having if not is_seed(name)]
    by_id = {name for name in others if all(job.id in job.params[name] for job in having[name])}
    by_seed = {
        name: seed
        for name in others
        for seed in seeds
        if all(seed in job.params and _holds(job.params[name], job.params[seed]) for job in having[name])
    }
    for job in jobs:
        kept = {name: value for name, value in job.params.items() if name not in by_id}
        for name, seed in by_seed.items():
            if name in kept:
                kept[name] = _token(job.params[seed]).sub(f"${{{seed}}}", kept[name])
        yield job.id, kept


def _token(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9.]){re.escape(value)}(?![0-9]|\.[0-9])")


def _holds(text: str, seed: str) -> bool:
    return _NUMBER.fullmatch(text) is None and bool(seed) and _token(seed).search(text) is not None


def read(
    document: Mapping[str, Any], manifest: Manifest, numbers: Mapping[str, Mapping[str, float]], run: str
) -> list[Result]:
    """The results of one run, of all jobs that have numbers or should have some.

    The manager's own reading (`metrics` in a job's row) is what counts; where it has none, `numbers` are those of its
    JSON output that is on this machine. Numbers of an output that only repeat a param are no results.
    """
    rows = {row["id"]: row for row in document["jobs"]}
    params = identities(manifest)
    found = []
    for job in manifest.jobs:
        row, asked = rows.get(job.id), wanted(job)
        if row is None or not (asked or job.id in numbers or row.get("metrics") or _is_json(job)):
            continue
        completed = row["status"] == "completed"  # what a job that runs has so far is no result
        seen = (row.get("metrics") or numbers.get(job.id, {})) if completed else {}
        kept = {
            name: float(value)
            for name, value in seen.items()
            if value is not None and (name in asked or (name not in job.params and not is_seed(name)))
        }
        at = row["completed"] or "" if completed else ""
        lacks = (row.get("metric_errors") or {name: "" for name in asked if name not in kept}) if completed else {}
        why = _why(row, kept, lacks)
        changed = recovery.changed(row) or ""
        found.append(Result(run, job.id, job.phase, params[job.id], row["status"], at, kept, why, changed, lacks))
    return found


def wanted(job: JobSpec) -> Mapping[str, Any]:
    """The metrics that a job's manifest asks for: their rules by name."""
    return job.metrics if isinstance(job.metrics, Mapping) else {}


def goals(manifests: Iterable[Manifest]) -> dict[str, str]:
    """`min` or `max` for each metric of which a manifest says what is better; the first that says so counts."""
    found: dict[str, str] = {}
    for manifest in manifests:
        for job in manifest.jobs:
            for name, rule in wanted(job).items():
                goal = rule.get("goal") if isinstance(rule, Mapping) else getattr(rule, "goal", None)
                if goal in ("min", "max"):
                    found.setdefault(name, str(goal))
    return found


def _is_json(job: JobSpec) -> bool:
    return (job.expected_output or "").endswith(".json")


def _why(row: Mapping[str, Any], kept: Mapping[str, float], lacks: Mapping[str, str]) -> str:
    if row["status"] != "completed":
        return row["error"] or row["waiting"] or ""
    return _lacks_text(lacks) or ("" if kept else "its numbers are not on this machine")


def _lacks_text(lacks: Mapping[str, str]) -> str:
    reasons = [f"{name}: {why}" for name, why in lacks.items() if why]
    return "; ".join(reasons) or (f"has no {', '.join(lacks)}" if lacks else "")


def _about(one: Result, metrics: Sequence[str]) -> Result:
    """A result as far as these metrics matter."""
    if not one.lacks:
        return one
    lacks = {name: why for name, why in one.lacks.items() if name in metrics}
    return one._replace(lacks=lacks, why=_lacks_text(lacks))


def join(runs: Sequence[Sequence[Result]]) -> list[Result]:
    """Combine the results of several runs: of jobs with one phase and the same params, those of the run that completed
    one last count; where none has completed, those of the last run."""
    if len(runs) == 1:
        return list(runs[0])
    chosen: dict[tuple[object, ...], tuple[str, int]] = {}
    for number, results in enumerate(runs):
        for one in results:
            key = _identity(one)
            if key not in chosen or (one.at, number) >= chosen[key]:
                chosen[key] = (one.at, number)
    return [one for number, results in enumerate(runs) for one in results if chosen[_identity(one)][1] == number]


def _identity(one: Result) -> tuple[object, ...]:
    return (one.phase, tuple(sorted(one.params.items())) if one.params else one.id)


def keys_of(results: Sequence[Result]) -> list[str]:
    """Return the keys that distinguish cells, in the order of the grids."""
    names = [name for one in results for name in key_of(one, with_phase=False)]
    several = len({one.phase for one in results}) > 1
    return list(dict.fromkeys([*([PHASE] if several and PHASE not in names else []), *names]))


def key_of(one: Result, *, with_phase: bool) -> dict[str, str]:
    """Return what distinguishes a job's cell."""
    phase = {PHASE: one.phase} if with_phase else {}
    if not one.params:
        return {**phase, JOB: one.id}
    return {**phase, **{name: value for name, value in one.params.items() if not is_seed(name)}}


def known_keys(results: Sequence[Result]) -> list[str]:
    """Return all keys by which results can be grouped, seeds included."""
    return list(dict.fromkeys([*keys_of(results), *(name for one in results for name in one.params), PHASE, JOB]))


def table(
    results: Sequence[Result], goal: Mapping[str, str], by: Sequence[str] = (), metrics: Sequence[str] = ()
) -> Table:
    """Group results. `by`: the keys of a row, instead of all but seeds; `metrics`: these only.

    `goal`: min or max by metric; without one no cell is best.
    """
    keys = list(by) or keys_of(results)
    results = [_about(one, metrics) for one in results] if metrics else results
    names = list(metrics) or list(dict.fromkeys(name for one in results for name in one.numbers))
    groups: dict[tuple[str, ...], list[Result]] = {}
    for one in results:
        had = {PHASE: one.phase, JOB: one.id, **one.params}
        if not by:
            had = key_of(one, with_phase=PHASE in keys)
        groups.setdefault(tuple(had.get(name, "") for name in keys), []).append(one)
    made = [_cell(dict(zip(keys, key, strict=True)), jobs, names) for key, jobs in groups.items()]
    for name in names:
        _mark_best(made, name, goal.get(name))
    return Table(keys, names, made)


def _cell(key: dict[str, str], jobs: list[Result], names: Sequence[str]) -> Cell:
    values = {name: [one.numbers[name] for one in jobs if name in one.numbers] for name in names}
    values = {name: found for name, found in values.items() if found}
    missing = [one for one in jobs if not values or any(name not in one.numbers for name in values) or one.why]
    return Cell(key, values, {name: stat(found) for name, found in values.items()}, jobs, missing)


def _mark_best(made: Sequence[Cell], name: str, goal: str | None) -> None:
    means = [cell.stats[name].mean for cell in made if name in cell.stats]
    if goal is None or not means:
        return
    choose: Callable[[Iterable[float]], float] = min if goal == "min" else max
    best = choose(means)
    for cell in made:
        if name in cell.stats and cell.stats[name].mean == best:
            cell.stats[name] = cell.stats[name]._replace(best=True)


def constant(made: Table) -> dict[str, str]:
    """Return keys with the same value in every row, and that value."""
    if len(made.cells) < 2:
        return {}
    values = {name: {cell.key[name] for cell in made.cells} for name in made.keys}
    return {name: next(iter(seen)) for name, seen in values.items() if len(seen) == 1}


def document(made: Table) -> dict[str, Any]:
    """Return the document of `wavequeue results --json`."""
    return {"keys": made.keys, "metrics": made.metrics, "rows": [_row(cell) for cell in made.cells]}


def brief(made: Table) -> dict[str, Any]:
    """Return the document of `wavequeue results --json --brief`, of less than 4 KB: rows without the ids of their jobs,
    as many as there is room for. `total`: how many there are."""
    found: dict[str, Any] = {"keys": made.keys, "metrics": made.metrics, "rows": [], "total": len(made.cells)}
    rows = (
        {
            "key": cell.key,
            "metrics": {
                name: {"mean": _digits(one.mean), "sd": None if one.sd is None else _digits(one.sd), "n": one.n}
                | ({"best": True} if one.best else {})
                for name, one in cell.stats.items()
            },
            "jobs": len(cell.jobs),
            "missing": len(cell.missing),
        }
        for cell in made.cells
    )
    fitting.fill(found, {"rows": rows}, fitting.MOST, len(made.cells))
    return found


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def _row(cell: Cell) -> dict[str, Any]:
    return {
        "key": cell.key,
        "metrics": {name: one._asdict() for name, one in cell.stats.items()},
        "jobs": [one.id for one in cell.jobs],
        "missing": [
            {"id": one.id, "run": one.run, "status": one.status, "why": one.why or None} for one in cell.missing
        ],
    }
