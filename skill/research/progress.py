"""What a run's job on its host says of the run: its state, the columns that are written, and its evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import epoch
from skill.research import evidence
from skill.research.dispatch import DONE, PHASE, RUNNING
from skill.research.evidence import Evidence
from skill.research.records import Record

FAILED, STUCK, CANCELLED = "failed", "stuck", "cancelled"
FOLLOWED = frozenset({"claimed", RUNNING, FAILED, STUCK})
"""States of runs whose job may still change: one that needs a person may be retried."""
_LONGEST = 300


def state_of(row: Mapping[str, Any], rules: Mapping[str, Any], *, goes_on: bool) -> str:
    """The state of a run, by its job's row. `goes_on`: whether the manager is at work, so that metrics that it has not
    read yet may still come."""
    status = row["status"]
    if status == "completed":
        is_read = not rules or row.get("metrics") or row.get("metric_errors")
        return DONE if is_read or not goes_on else RUNNING
    if status == "cancelled":
        return CANCELLED
    if status in ("stuck", "blocked"):
        return STUCK if row["exit_code"] is None else FAILED
    return RUNNING


def columns(record: Record, row: Mapping[str, Any], state: str, line: str) -> Record:
    """The record with what is known of it now. `line`: the last one of its log."""
    ended = state in (DONE, FAILED, STUCK, CANCELLED)
    found = {
        "state": state,
        "started": row["started"],
        "finished": row["completed"] or row.get("attempt_ended") if ended else None,
        "exit_code": row["exit_code"] if ended else None,
        "last_line": one_line(line, _LONGEST).strip() if ended else None,
        "error": one_line(row["error"] or "", _LONGEST) if state in (FAILED, STUCK) else None,
        "attempts": row["attempts"] or None,
    }
    kept = {key: value for key, value in record.items() if key not in found}
    return {**kept, **{key: value for key, value in found.items() if value not in (None, "")}}


def evidence_of(record: Record, row: Mapping[str, Any], cards: Sequence[Mapping[str, Any]]) -> Evidence:
    """What a run that is done gave. `cards`: GPUs of its host."""
    rules: Mapping[str, Mapping[str, str]] = record.get("metrics", {})
    numbers = {name: value for name, value in (row.get("metrics") or {}).items() if value is not None}
    errors = dict(row.get("metric_errors") or {})
    errors |= {name: "it was not read" for name in rules if name not in numbers and name not in errors}
    commit, dirty = evidence.commit_of(row.get("code"))
    models = {card["index"]: card["name"] for card in cards}
    started, finished = row["started"], row["completed"]
    return Evidence(
        run=record["id"],
        on=record["run"],
        job=row["id"],
        phase=record.get("phase", PHASE),
        params=record.get("params", {}),
        metrics=numbers,
        errors=errors,
        goals={name: rule["goal"] for name, rule in rules.items() if "goal" in rule},
        code=row.get("code"),
        commit=commit,
        dirty=dirty,
        host=record["worker"],
        gpus=tuple(models[index] for index in row["gpus"] if index in models),
        started=started,
        finished=finished,
        duration_s=round(epoch(finished) - epoch(started), 3) if started and finished else None,
        exit_code=row["exit_code"],
    )
