"""The report of a run: phases, failures by reason, metrics over seeds. Pure; as a document and as Markdown."""

from __future__ import annotations

import re
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from queue_manager.core.markdown import code, inline
from queue_manager.core.times import duration, epoch
from skill.common import fitting
from skill.reports import cells
from skill.reports.cells import Result, Stat
from skill.runs import code_versions, digest
from skill.runs.code_versions import Push
from skill.runs.digest import Row

_SHOWN = 30
_VARYING = re.compile(r"\d+(\.\d+)?")


def report(
    document: Mapping[str, Any],
    found: Mapping[str, int],
    results: Sequence[Result],
    last_line: Callable[[Row], str],
    now: float,
    away: Collection[str] = (),
) -> dict[str, Any]:
    """Return the document that `report --json` prints.

    `found`: number of output files of each completed job that has an expected_output. `results`: see `cells.read`.
    `last_line`: of a job's log. `away`, of a run on hosts: completed jobs whose results were not pulled.
    """
    meta = document["meta"]
    rows = document["jobs"]
    begin = meta["started"]
    by_phase: dict[str, list[Row]] = {row["name"]: [] for row in document["phases"]}
    for row in rows:
        by_phase.setdefault(row["phase"], []).append(row)
    end = epoch(meta["finished"]) if meta["finished"] else now
    return {
        "run_id": meta["run_id"],
        "project": meta["project"],
        "host": meta["host"],
        "manager": meta["manager"],
        "started": begin,
        "finished": meta["finished"],
        "seconds": round(end - epoch(begin), 3) if begin else None,
        "counts": document["counts"],
        "queued": meta.get("queued") or 0,
        "phases": [_phase(row, by_phase[row["name"]], found, now) for row in document["phases"]],
        "failures": _failures(rows, last_line),
        "warnings": [{"id": row["id"], "warning": row["warning"]} for row in rows if row["warning"]],
        "metrics": aggregate(results),
        **({"hosts": _hosts(document, away), "not_pulled": list(away)} if "hosts" in meta else {}),
    }


def _hosts(document: Mapping[str, Any], away: Collection[str]) -> list[dict[str, Any]]:
    """A row for each host, with the number of completed jobs whose results are there only."""
    left = frozenset(away)
    there = Counter(row["host"] for row in document["jobs"] if row["id"] in left)
    names = ("name", "manager", "reachable", "reason", "age_s", "jobs", "counts", "last_pull", "code")
    return [
        {**{name: row[name] for name in names}, "not_pulled": there[row["name"]]} for row in document["meta"]["hosts"]
    ]


def _phase(phase: Row, mine: Sequence[Row], found: Mapping[str, int], now: float) -> dict[str, Any]:
    completed = [digest.seconds(row, now) for row in mine if row["status"] == "completed"]
    lengths = [length for length in completed if length is not None]
    wanting = [row for row in mine if row["id"] in found]
    begin = phase["started"]
    end = epoch(phase["completed"]) if phase["completed"] else now
    return {
        "name": phase["name"],
        "status": phase["status"],
        "jobs": phase["jobs"],
        "counts": phase["counts"],
        "oom_retries": phase["oom_retries"],
        "codes": dict(phase.get("codes") or {}),
        "seconds": round(max(0.0, end - epoch(begin)), 3) if begin else None,
        "seconds_per_job": round(statistics.median(lengths), 3) if lengths else None,
        "outputs_found": sum(found[row["id"]] > 0 for row in wanting),
        "outputs_expected": len(wanting),
    }


def without_numbers(words: str) -> str:
    """A reason without what varies in it from job to job."""
    return _VARYING.sub("#", words)


def _failures(rows: Sequence[Row], last_line: Callable[[Row], str]) -> list[dict[str, Any]]:
    """Jobs that need a person or wait for a retry, by reason: words that differ in numbers only are one reason."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row["status"] in ("pending", "running", "completed"):
            continue
        words = row["error"] or row["status"]
        # A blocked job's words name the job that blocks it, and that is no number to pass over.
        key = (row["status"], words if row["status"] == "blocked" else without_numbers(words))
        if key not in groups:
            groups[key] = {
                "status": row["status"],
                "failure": row.get("failure"),
                "reason": words,
                "log_line": last_line(row) if row["attempt"] else None,
                "jobs": [],
            }
        groups[key]["jobs"].append(row["id"])
    return sorted(groups.values(), key=lambda group: (group["status"] != "stuck", -len(group["jobs"])))


def aggregate(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation of each metric, over the jobs of a phase that differ in their seeds only.

    Without a seed each job stands alone, with n = 1.
    """
    phases: dict[str, list[Result]] = {}
    for one in results:
        phases.setdefault(one.phase, []).append(one)
    return [
        {
            "phase": phase,
            "params": cell.key,
            "metrics": {name: {"mean": one.mean, "std": one.sd, "n": one.n} for name, one in cell.stats.items()},
        }
        for phase, mine in phases.items()
        for cell in cells.table(mine, {}).cells
        if cell.stats
    ]


def brief(document: Mapping[str, Any]) -> str:
    """The document as Markdown of less than 4 KB."""
    shown = _SHOWN
    while True:
        text = markdown(document, shown)
        if len(text.encode(errors="replace")) <= fitting.MOST or shown == 1:
            return text
        shown //= 2


def markdown(document: Mapping[str, Any], shown: int = _SHOWN) -> str:
    """The document as Markdown, for people. `shown`: how many reasons of failures and warnings, and half of how many
    rows of phases and metrics."""
    counts, words = document["counts"], digest.counts_text(digest.counts(document))
    total = sum(counts.values())
    length = "" if document["seconds"] is None else f", {duration(document['seconds'])}"
    ended = "" if document["finished"] else f" (the run continues: {document['manager']})"
    when = f"{document['started'] or '-'} to {document['finished'] or 'now'}"
    lines = [
        f"# {inline(document['run_id'])}: {counts.get('completed', 0)} of {total} jobs completed",
        "",
        f"{when} on {inline(document['host'] or '-')}{length}{ended}: {words or 'no jobs'}",
        "",
        "| phase | status | jobs | completed | outputs found | OOM retries | per job | duration |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in document["phases"][: shown * 2]:
        outputs = f"{row['outputs_found']} of {row['outputs_expected']}" if row["outputs_expected"] else "-"
        lines.append(
            f"| {inline(row['name'])} | {row['status']} | {row['jobs']} | {row['counts'].get('completed', 0)} "
            f"| {outputs} | {row['oom_retries']} | {_took(row['seconds_per_job'])} | {_took(row['seconds'])} |"
        )
    lines += _more(document["phases"], shown * 2)
    if "hosts" in document:
        lines += ["", "## Hosts", "", *_host_lines(document, shown)]
    code = code_versions.report_lines(document["phases"], _pushes(document))
    if code:
        lines += ["", "## Code", "", *code]
    for heading, part in (("Failures", _failure_lines(document, shown)), ("Warnings", _warning_lines(document, shown))):
        if part:
            lines += ["", f"## {heading}", "", *part]
    if document["metrics"]:
        lines += ["", "## Metrics", "", "mean ± standard deviation over the seeds, with their number", ""]
        lines += _metric_lines(document["metrics"], shown)
    return "\n".join(lines) + "\n"


def _more(rows: Sequence[object], shown: int) -> list[str]:
    return ["", f"and {len(rows) - shown} more"] if len(rows) > shown else []


def _pushes(document: Mapping[str, Any]) -> dict[str, list[Push]]:
    rows = document.get("hosts", ())
    return {row["name"]: [Push(push["name"], push["pushed"]) for push in row["code"]] for row in rows}


def _took(length: float | None) -> str:
    return "-" if length is None else duration(length)


def _host_lines(document: Mapping[str, Any], shown: int) -> list[str]:
    lines = ["| host | manager | jobs | completed | not pulled | last pull |", "|---|---|---:|---:|---:|---|"]
    for row in document["hosts"][: shown * 2]:
        state = row["manager"] or "not read yet"
        if not row["reachable"] and row["reason"] is not None:
            state += " when last read" if row["age_s"] is None else f" when last read, {duration(row['age_s'])} ago"
        done = row["counts"].get("completed", 0)
        pulled = row["last_pull"] or "never"
        lines.append(
            f"| {inline(row['name'])} | {state} | {row['jobs']} | {done} | {row['not_pulled'] or '-'} | {pulled} |"
        )
    lines += _more(document["hosts"], shown * 2)
    left = len(document["not_pulled"])
    if left:
        pull = shlex.join(["wavequeue", "pull", "--run", document["run_id"]])
        have = "job's results have" if left == 1 else "jobs' results have"
        lines += ["", f"{left} completed {have} not been pulled yet; pull them with: `{pull}`"]
    return lines


def _failure_lines(document: Mapping[str, Any], shown: int) -> list[str]:
    lines = []
    for group in document["failures"][:shown]:
        jobs = group["jobs"]
        names = ", ".join(code(name) for name in jobs[:5]) + (f" and {len(jobs) - 5} more" if len(jobs) > 5 else "")
        lines.append(f"- {len(jobs)} {group['status']}: {inline(group['reason'])} ({names})")
        if group["log_line"] and group["log_line"] not in group["reason"]:
            lines.append(f"  - last line of {inline(jobs[0])}: {inline(group['log_line'])}")
    left = len(document["failures"]) - shown
    return [*lines, f"- and {left} more reasons"] if left > 0 else lines


def _warning_lines(document: Mapping[str, Any], shown: int) -> list[str]:
    rows = document["warnings"]
    more = [f"- and {len(rows) - shown} more"] if len(rows) > shown else []
    return [f"- {code(row['id'])}: {inline(row['warning'])}" for row in rows[:shown]] + more


def _metric_lines(groups: Sequence[Mapping[str, Any]], shown: int) -> list[str]:
    """A table for each phase: its params, then its metrics."""
    lines = []
    for phase in dict.fromkeys(group["phase"] for group in groups):
        mine = [group for group in groups if group["phase"] == phase]
        params = list(dict.fromkeys(name for group in mine for name in group["params"]))
        names = list(dict.fromkeys(name for group in mine for name in group["metrics"]))
        lines += [f"**{inline(phase)}**", "", "| " + " | ".join(map(inline, [*params, *names])) + " |"]
        lines.append("|" + "---|" * len(params) + "---:|" * len(names))
        for group in mine[: shown * 2]:
            cells = [group["params"].get(name, "") for name in params]
            cells += [_value(group["metrics"].get(name)) for name in names]
            lines.append("| " + " | ".join(map(inline, cells)) + " |")
        if len(mine) > shown * 2:
            lines += ["", f"and {len(mine) - shown * 2} more: `wavequeue report --json`"]
        lines.append("")
    return lines[:-1]


def _value(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return ""
    text = cells.stat_text(Stat(metric["mean"], metric["std"], metric["n"]))
    return text if metric["std"] is None else f"{text} ({metric['n']})"
