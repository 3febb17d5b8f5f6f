"""summary.md of a run on several hosts, in the form of `queue_manager.core.summary`. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from queue_manager.core.markdown import code, inline
from queue_manager.core.times import duration, epoch
from skill.runs.directory import Document

_ROWS = 50
_ORDER = {"stuck": 0, "blocked": 1, "cancelled": 2}


def summary(document: Document, now: float, away: Container[str] = ()) -> str:
    """The summary of a merged document (see `merge.merge`) as Markdown. `now` in epoch seconds.

    `away`: ids of jobs of whose output nothing is here, whatever their host says.
    """
    meta, counts = document["meta"], document["counts"]
    run = f" --run {meta['run_id']}"
    end = _epoch(meta["finished"]) or now
    lines = [
        f"# {inline(meta['project'])}: {counts.get('completed', 0)} of {sum(counts.values())} jobs completed",
        "",
        f"- run: {code(meta['run_id'])} on {inline(meta['host'] or '-')}",
        f"- start: {meta['started']}",
        f"- end: {meta['finished'] or 'not yet'}",
        f"- wall clock: {duration(end - (_epoch(meta['started']) or end))}",
        "- jobs: " + (", ".join(f"{count} {status}" for status, count in counts.items()) or "none"),
        "",
        "| phase | jobs | completed | OOM retries | duration |",
        "|---|---:|---:|---:|---:|",
        *(_phase(row, end) for row in document["phases"]),
        "",
        "| host | jobs | completed | last pull |",
        "|---|---:|---:|---|",
        *(
            f"| {inline(row['name'])} | {row['jobs']} | {row['counts'].get('completed', 0)} "
            f"| {row['last_pull'] or 'never'} |"
            for row in meta["hosts"]
        ),
    ]
    rows = document["jobs"]
    lines += _person([row for row in rows if row["status"] in _ORDER])
    lines += _listed("Warnings", [f"- {inline(row['id'])}: {inline(row['warning'])}" for row in rows if row["warning"]])
    results: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        if row["status"] == "completed" and row["expected_output"]:
            line = f"- {code(row['expected_output'])} ({inline(row['id'])} on {inline(row['host'])})"
            results[row["id"] not in away].append(line)
    lines += _listed("Result files", results[True])
    lines += _listed("Result files that are not here, though their jobs completed", results[False])
    steps = []
    stuck = next((row["id"] for row in rows if row["status"] == "stuck"), None)
    if stuck is not None:
        steps.append(f"- see why a job is stuck: `wavequeue why {stuck}{run}`, then `wavequeue retry {stuck}{run}`")
    if counts.get("cancelled"):
        steps.append(f"- to run cancelled jobs after all: `wavequeue retry JOB{run}`")
    lines += ["", "## Next steps", "", *steps, f"- read the report: `wavequeue report{run}`"]
    return "\n".join(lines) + "\n"


def _phase(row: Mapping[str, Any], end: float) -> str:
    begin = _epoch(row["started"])
    took = "-" if begin is None else duration((_epoch(row["completed"]) or end) - begin)
    name, done = inline(row["name"]), row["counts"].get("completed", 0)
    return f"| {name} | {row['jobs']} | {done} | {row['oom_retries']} | {took} |"


def _person(rows: list[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    rows.sort(key=lambda row: _ORDER[row["status"]])
    lines = ["", "## Jobs that need a person", "", "| job | host | status | attempts | why |", "|---|---|---|---:|---|"]
    lines += [
        f"| {inline(row['id'])} | {inline(row['host'])} | {row['status']} | {row['attempts']} "
        f"| {inline(row['error'] or '')} |"
        for row in rows[:_ROWS]
    ]
    return [*lines, *_more(len(rows))]


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"## {title}", "", *lines[:_ROWS], *_more(len(lines))] if lines else []


def _more(count: int) -> list[str]:
    return [f"- and {count - _ROWS} more, in the queue_state.json of each host"] if count > _ROWS else []


def _epoch(text: str | None) -> float | None:
    return None if text is None else epoch(text)
