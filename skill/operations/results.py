"""Put the results of runs into one table: a row for each cell, over jobs that differ in their seeds only."""

from __future__ import annotations

from collections.abc import Sequence

from build_manifest.faults import listed, nearest
from skill.common.errors import UseError
from skill.reports import cells
from skill.reports.cells import Table
from skill.runs.directory import Run
from skill.runs.open import open_run


def results(runs: Sequence[Run], by: Sequence[str] = (), metrics: Sequence[str] = ()) -> Table:
    """Collect the results of runs. Where several runs have a job, the last completion counts.

    `by`: keys of a row, instead of all keys but seeds; `metrics`: these only. Raises UseError for an unknown key or
    metric and for an invalid workers.yaml, and FailedError.
    """
    read, manifests = [], []
    for run in runs:
        with open_run(run) as there:
            document = there.look(full=True)
            read.append(cells.read(document, there.manifest, there.results(document).numbers, run.id))
            manifests.append(there.manifest)
    joined = cells.join(read)
    _check("key", by, cells.known_keys(joined))
    _check("metric", metrics, list(dict.fromkeys(name for one in joined for name in one.numbers)))
    return cells.table(joined, cells.goals(manifests), by, metrics)


def only_missing(made: Table) -> Table:
    """Return the cells in which a job lacks a number, with only these jobs in `missing`."""
    return made._replace(cells=[cell for cell in made.cells if cell.missing])


def _check(kind: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            several = [one.strip() for one in name.split(",")]
            if len(several) > 1 and all(one in known for one in several):
                option = "--by" if kind == "key" else "--metric"
                raise UseError(f"give each {kind} its own option: {' '.join(f'{option} {one}' for one in several)}")
            close = nearest(name, known)
            there = f"did you mean {close}?" if close else f"there are: {listed(known)}" if known else "there is none"
            raise UseError(f"no {kind} is called {name}; {there}")
