"""What the page of a run shows: texts and numbers for its template, and in a compact form what its scripts draw. Pure.

The scripts get columns rather than rows, and texts that repeat as numbers into a list, so that the page of 10,000 jobs
stays below 5 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import failure_advice
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.times import duration, epoch
from skill.reports import cells, gpu_time, reproduce
from skill.reports.cells import Cell, Result, Table
from skill.reports.effect import control_of, effect
from skill.reports.gpu_time import Attempt, Lane
from skill.runs import digest, recovery
from skill.runs.digest import Row

_SHORT = 6 * 3600.0
"""GPU-seconds of a run below which minutes are shown: hours would be nothing but zeros."""
_SHOWN_ERROR = 300
"""Characters of why a job is where it is; `wavequeue why` has all of them."""


class Material(NamedTuple):
    """All that a page is made of.

    `report`: see `skill.reports.report`. `losses`: steps and losses by job, of those whose logs were read; `logs`: how
    many logs there are. `control`: the values of keys that make a cell a control, or nothing. `now`: epoch seconds, up
    to which what is known reaches.
    """

    document: Mapping[str, Any]
    manifest: Manifest
    report: Mapping[str, Any]
    results: Sequence[Result]
    attempts: Sequence[Attempt]
    losses: Mapping[str, Sequence[tuple[float, float]]]
    logs: int
    control: Mapping[str, str]
    now: float


class _Texts:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def all(self) -> list[str]:
        return list(self._numbers)


def context(given: Material) -> dict[str, Any]:
    """All names that the template uses. `data`: what the scripts draw."""
    meta = given.document["meta"]
    given = given._replace(results=[one._replace(params=reproduce.without_keys(one.params)) for one in given.results])
    table = cells.table(given.results, cells.goals([given.manifest]))
    lanes = gpu_time.lanes(given.attempts, given.document["gpus"])
    begin, end = _bounds(given)
    return {
        "report": given.report,
        "counts": [(name, count) for name in digest.SHOWN if (count := digest.counts(given.document).get(name))],
        "total": sum(given.document["counts"].values()),
        "took": duration(end - begin) if meta["started"] else "-",
        "as_of": meta["updated"],
        "hours": _hours(given, lanes, begin, end),
        "short": (end - begin) * max(1, len(lanes)) < _SHORT,
        "attempts": gpu_time.failures(
            given.attempts, {row["id"] for row in given.document["jobs"] if row["status"] == "completed"}
        ),
        "results": _results(table, given.control),
        "control": ", ".join(f"{name}={value}" for name, value in given.control.items()),
        "failures": sorted(
            ({**group, "advice": _advice(group)} for group in given.report["failures"]),
            key=lambda group: group["failure"] or "~",
        ),
        "environment": _environment(given),
        "duration": duration,
        "has": {
            "timeline": bool(lanes) and bool(given.attempts),
            "metrics": bool(table.metrics),
            "heat": bool(table.metrics) and len(_varying(table)) >= 2,
            "curve": bool(table.metrics) and bool(_varying(table)),
            "losses": bool(given.losses),
        },
        "logs": (len(given.losses), given.logs),
        "data": _data(given, table, lanes, begin, end),
    }


def _advice(group: Mapping[str, Any]) -> str | None:
    """What helps where jobs failed and wait for a person; None where nothing more is known than their error says."""
    failure = group["failure"] if group["status"] == "stuck" else None
    return None if failure in (None, "exit_code") else failure_advice.of_failure(failure, group["reason"])


def _bounds(given: Material) -> tuple[float, float]:
    meta = given.document["meta"]
    end = epoch(meta["finished"]) if meta["finished"] else given.now
    begin = epoch(meta["started"]) if meta["started"] else end
    return begin, max(begin, end, *(one.end for one in given.attempts)) if given.attempts else max(begin, end)


def _hours(given: Material, lanes: Sequence[Lane], begin: float, end: float) -> dict[str, Any] | None:
    """The hours of each GPU and of all, with what they cost where a price is known; None of a run without GPUs."""
    rows = []
    for lane in lanes:
        if lane.gpu is not None:
            found = gpu_time.hours(lane, begin, end)
            price = gpu_time.gpu_price(given.document, lane, lanes)
            rows.append({"name": lane.name, "price": price, **found._asdict(), "total": found.total})
    if not rows:
        return None
    kinds = ("useful", "wasted", "idle", "total")
    whole = {kind: sum(row[kind] for row in rows) for kind in kinds}
    priced = [row for row in rows if row["price"] is not None]
    cost = {kind: sum(row[kind] * row["price"] for row in priced) for kind in kinds} if priced else None
    return {"rows": rows, "all": whole, "cost": cost, "unpriced": len(rows) - len(priced)}


def _results(table: Table, control: Mapping[str, str]) -> dict[str, Any]:
    same = cells.constant(table)
    keys = [name for name in table.keys if name not in same]
    rows = []
    for cell in table.cells:
        against = control_of(cell, table, control) if control else None
        rows.append({
            "key": [cell.key[name] for name in keys],
            "stats": [cell.stats.get(name) for name in table.metrics],
            "effects": [_effect(cell, against, name) for name in table.metrics] if control else [],
            "is_control": bool(control) and {**cell.key, **control} == cell.key,
            "jobs": len(cell.jobs),
            "missing": len(cell.missing),
        })  # fmt: skip
    return {"keys": keys, "same": same, "metrics": table.metrics, "rows": rows, "text": cells.stat_text}


def _effect(cell: Cell, against: Cell | None, metric: str) -> dict[str, Any] | None:
    """The effect of one cell against its control, as numbers and in words; None where there is none."""
    if against is None or metric not in cell.values or metric not in against.values:
        return None
    found = effect(cell.values[metric], against.values[metric])
    interval = "n = 1" if found.low is None else f"{found.low:+.3g} to {found.high:+.3g}"
    clear = found.low is not None and found.high is not None and (found.low > 0 or found.high < 0)
    return {**found._asdict(), "text": f"{found.difference:+.3g}", "interval": interval, "is_clear": clear}


def _environment(given: Material) -> dict[str, Any]:
    """What the jobs ran in; of variables the names alone."""
    manifest, meta = given.manifest, given.document["meta"]
    codes: dict[str, int] = {}
    for phase in given.document["phases"]:
        for name, count in (phase.get("codes") or {}).items():
            codes[name] = codes.get(name, 0) + count
    variables = dict.fromkeys(name for job in manifest.jobs for name in reproduce.names(manifest, job))
    return {
        "codes": codes,
        "cwd": meta["cwd"],
        "conda": manifest.conda,
        "venv": manifest.venv,
        "variables": list(variables),
        "manifest": meta.get("manifest_sha256"),
        "cards": sorted(
            {f"{card['name']}, {card['total_mib']} MiB" for card in given.document["gpus"] if card["total_mib"]}
        ),
    }


def _varying(table: Table) -> list[str]:
    """Keys that have several values."""
    return [name for name in table.keys if len({cell.key[name] for cell in table.cells}) > 1]


# -- for the scripts -------------------------------------------------------------------------------------------------


def _data(given: Material, table: Table, lanes: Sequence[Lane], begin: float, end: float) -> dict[str, Any]:
    order = {row["id"]: n for n, row in enumerate(given.document["jobs"])}
    return {
        "run": given.document["meta"]["run_id"],
        "begin": begin,
        "end": end,
        "jobs": _jobs(given, order),
        "timeline": _timeline(lanes, order, begin),
        "outcomes": list(gpu_time.OUTCOMES),
        "results": {
            "keys": _varying(table),
            "metrics": table.metrics,
            "goals": cells.goals([given.manifest]),
            "cells": [{"key": cell.key, "values": cell.values} for cell in table.cells],
        },
        "losses": [
            {"job": order[job], "steps": [step for step, _ in found], "values": [loss for _, loss in found]}
            for job, found in given.losses.items()
            if job in order
        ],
    }


def _jobs(given: Material, order: Mapping[str, int]) -> dict[str, Any]:
    """The table of jobs by columns."""
    rows: Sequence[Row] = given.document["jobs"]
    specs = {job.id: job for job in given.manifest.jobs}
    numbers = {one.id: one.numbers for one in given.results}
    metrics = list(dict.fromkeys(name for one in numbers.values() for name in one))
    params = {job: reproduce.without_keys(one) for job, one in cells.identities(given.manifest).items()}
    keys = list(dict.fromkeys(name for one in params.values() for name in one))
    places, reasons, starts = _Texts(), _Texts(), _Texts()
    phases, statuses, codes = _Texts(), _Texts(), _Texts()
    found: dict[str, list[Any]] = {
        name: []
        for name in ("id", "phase", "status", "place", "attempts", "start", "seconds", "why", "before", "cmd", "code")
    }
    for row in rows:
        job = specs.get(row["id"])
        length = digest.seconds(row, given.now)
        begin, command = _command(given, job, row)
        values = {
            "id": row["id"],
            "phase": phases.number(row["phase"]),
            "status": statuses.number(row["status"]),
            "place": places.number(digest.place(row) or "-"),
            "attempts": row["attempts"],
            "start": epoch(row["started"]) if row["started"] else None,
            "seconds": None if length is None else round(length, 1),
            "why": reasons.number(digest.reason(row)[:_SHOWN_ERROR]),
            "before": starts.number(begin),
            "cmd": command,
            "code": codes.number(row.get("code") or ""),
        }
        for name, value in values.items():
            found[name].append(value)
    return {
        "columns": found,
        "phases": phases.all,
        "statuses": statuses.all,
        "places": places.all,
        "reasons": reasons.all,
        "befores": starts.all,
        "codes": codes.all,
        "metrics": {name: [numbers.get(job, {}).get(name) for job in order] for name in metrics},
        "params": {name: _coded(params.get(job, {}).get(name) for job in order) for name in keys},
    }


def _coded(values: Iterable[str | None]) -> dict[str, list[Any]]:
    texts = _Texts()
    numbers = [-1 if value is None else texts.number(value) for value in values]
    return {"values": texts.all, "of": numbers}


def _command(given: Material, job: JobSpec | None, row: Row) -> tuple[str, str]:
    if job is None:
        return "", ""
    gpus, spec = ",".join(map(str, row["gpus"])), recovery.spec_run(job, row)
    return reproduce.before(given.manifest, job, given.document["meta"]["cwd"]), reproduce.command(spec, gpus)


def _timeline(lanes: Sequence[Lane], order: Mapping[str, int], begin: float) -> dict[str, Any]:
    """Bars by columns; times in seconds since the run's start."""
    errors = _Texts()
    bars: dict[str, list[Any]] = {name: [] for name in ("lane", "row", "job", "n", "start", "end", "outcome", "error")}
    for number, lane in enumerate(lanes):
        for one, row in lane.bars:
            values = (
                number,
                row,
                order.get(one.job, -1),
                one.n,
                round(one.start - begin, 1),
                round(one.end - begin, 1),
                gpu_time.OUTCOMES.index(one.outcome),
                errors.number(one.error[:_SHOWN_ERROR]),
            )
            for name, value in zip(bars, values, strict=True):
                bars[name].append(value)
    return {"lanes": [{"name": lane.name, "rows": lane.rows} for lane in lanes], "bars": bars, "errors": errors.all}
