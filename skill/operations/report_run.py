"""Report on a run, as a document and as a page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import listed, nearest
from queue_manager.core.manifest import Manifest
from queue_manager.core.times import epoch
from skill.common.errors import UseError
from skill.reports import cells, gpu_time, loss_curve, report
from skill.reports.cells import Result
from skill.runs import logs
from skill.runs.access import Results, RunAccess
from skill.runs.digest import Row
from skill.runs.directory import Document, Run
from skill.runs.open import open_run

_LOGS = 60
"""Logs that are read for loss curves: more curves cannot be distinguished in one chart."""
_MOST = 1 << 19
"""Bytes that are read at the end of each log."""


class _Read(NamedTuple):
    """What is known of a run. `now`: until when, in epoch seconds."""

    document: Document
    manifest: Manifest
    found: Results
    results: list[Result]
    now: float

    def report(self) -> dict[str, Any]:
        return report.report(
            self.document, self.found.found, self.results, self.found.last_line, self.now, self.found.away
        )


def _read(run: Run, there: RunAccess) -> _Read:
    document = there.look(full=True)
    found = there.results(document)
    results = cells.read(document, there.manifest, found.numbers, run.id)
    return _Read(document, there.manifest, found, results, time.time())


def report_run(run: Run) -> dict[str, Any]:
    """Report on a run: phases, failures by reason, and the metrics that are on this machine.

    Returns the document of `wavequeue report --json`. Raises FailedError, and UseError for an invalid workers.yaml.
    """
    with open_run(run, once=True) as there:
        return _read(run, there).report()


def report_page(run: Run, control: Mapping[str, str]) -> str:
    """Report on a run as one HTML page.

    `control`: key values that make a cell a control; each cell is compared with the control that is otherwise the same.
    Raises UseError where no cell is a control, and as `report_run` does.
    """
    from skill.reports import html_data, html_page  # keeps jinja2 out of the start-up of other verbs

    with open_run(run, once=True) as there:
        read = _read(run, there)
        _check_control(read.results, control)
        document = read.document
        now = read.now if there.alive(document) else epoch(document["meta"]["updated"])
        attempts = gpu_time.attempts(there.history(gpu_time.NEEDLES), document["jobs"], now)
        losses, count = _losses(document["jobs"], read.found)
        return html_page.page(
            html_data.Material(
                document, read.manifest, read.report(), read.results, attempts, losses, count, control, now
            )
        )


def _losses(rows: Sequence[Row], found: Results) -> tuple[dict[str, list[tuple[float, float]]], int]:
    """Return the losses in some of the logs, chosen evenly over all jobs that have one here, and the number of logs."""
    here = [(row, path) for row in rows if row["attempt"] and (path := found.log(row)) is not None]
    chosen = here if len(here) <= _LOGS else [here[n * len(here) // _LOGS] for n in range(_LOGS)]
    losses = {}
    for row, path in chosen:
        try:
            text = logs.last_bytes(path, _MOST).decode("utf-8", "replace")
        except OSError:  # removed, or not a file: no curve
            continue
        points = loss_curve.points(text)
        if points:
            losses[row["id"]] = points
    return losses, len(here)


def _check_control(results: Sequence[Result], control: Mapping[str, str]) -> None:
    if not control:
        return
    table = cells.table(results, {})
    for name, value in control.items():
        if name not in table.keys:
            close = nearest(name, table.keys)
            there = f"there are: {listed(table.keys)}" if table.keys else "there is none"
            hint = f"did you mean {close}?" if close else there
            raise UseError(f"--control {name}={value}: no key is called {name}; {hint}")
    if any({**cell.key, **control} == cell.key for cell in table.cells):
        return
    name, value = next(iter(control.items()))
    known = list(dict.fromkeys(cell.key[name] for cell in table.cells))
    close = nearest(value, known)
    hint = f"did you mean {close}?" if close and close != value else f"{name} is one of: {listed(known)}"
    values = ",".join(f"{key}={one}" for key, one in control.items())
    raise UseError(f"--control {values}: no cell has these values; {hint}")
