"""Ask workers what became of dispatched runs, write it into the queue, and new metrics into the evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.layout import LOCAL_RUNS
from skill.common.errors import FailedError, UseError
from skill.research import evidence, evidence_files, progress, projects
from skill.research.dispatch import DONE, RUNNING
from skill.research.evidence import Evidence
from skill.research.records import Record
from skill.research.store import Store
from skill.runs import logs
from skill.runs.access import RunAccess
from skill.runs.directory import Document, Run
from skill.runs.open import open_run

_AT_ONCE = 16
Open = Callable[[Run], RunAccess]


class Checked(NamedTuple):
    """A run that was looked at. `unknown`: why nothing is known of it now, and `record` is as it was; else empty.
    `line`: the last one of its log; `found`: its evidence, once it is done."""

    record: Record
    unknown: str = ""
    line: str = ""
    found: Evidence | None = None


class Outcome(NamedTuple):
    """All runs that were looked at, of how many in the queue, and the new evidence by project."""

    checked: tuple[Checked, ...]
    records: int
    fresh: Mapping[str, tuple[Evidence, ...]]


def check_runs(workers: Path, open_one: Open = open_run) -> Outcome:
    """Look at every run that a worker has and that may still change. Hosts are asked all at once, and only those that
    have such a run. Raises UseError and SpecErrors for what is wrong with files, OSError."""
    store = Store(workers)
    records = store.read("run")
    followed = [record for record in records if record["state"] in progress.FOLLOWED and "run" in record]
    if not followed:
        return Outcome((), len(records), {})
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in followed:
        groups.setdefault((record["project"], record["run"]), []).append(record)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        looked = threads.map(lambda group: _look(store, open_one, *group), groups.items())
        checked = {one.record["id"]: one for each in looked for one in each}
    fresh = _keep_evidence(store, [one.found for one in checked.values() if one.found is not None], followed)
    _keep_states(store, followed, checked)
    return Outcome(tuple(checked[record["id"]] for record in followed), len(records), fresh)


def _look(store: Store, open_one: Open, where: tuple[str, str], records: list[Record]) -> list[Checked]:
    """Look at the runs of one wavequeue run."""
    project, name = where
    run = Run.at(store.paths.study(project).root / LOCAL_RUNS / name)
    if not run.root.exists():
        return [Checked(record, f"{run.root} does not exist; dispatch again to settle it") for record in records]
    try:
        with open_one(run) as there:
            document = there.look(full=True)
            away = [row["reason"] or "it was not reached" for row in document["meta"]["hosts"] if not row["reachable"]]
            if away:
                return [Checked(record, away[0]) for record in records]
            rows = {row["id"]: row for row in document["jobs"]}
            return [
                Checked(record, "its worker does not have it; dispatch again to settle it")
                if record["id"] not in rows
                else _check(record, rows[record["id"]], document, there)
                for record in records
            ]
    except (FailedError, UseError) as error:
        return [Checked(record, str(error)) for record in records]


def _check(record: Record, row: Mapping[str, Any], document: Document, there: RunAccess) -> Checked:
    goes_on = document["meta"]["manager"] == "running"
    state = progress.state_of(row, record.get("metrics", {}), goes_on=goes_on)
    if state == RUNNING:
        line = there.tail(row) if row["status"] == "running" else row["waiting"] or ""
        return Checked(progress.columns(record, row, state, ""), line=line)
    if state == record["state"] and record.get("attempts", 0) == row["attempts"]:
        return Checked(record, line=record.get("last_line", ""))
    made = progress.columns(record, row, state, _last_line(there, row["id"]))
    # GPUs of a cluster's nodes are not in the state.
    cards = [card for card in document["gpus"] if card.get("host") == row.get("host") and not row.get("node")]
    found = progress.evidence_of(made, row, cards) if state == DONE else None
    return Checked(made, line=made.get("last_line", ""), found=found)


def _last_line(there: RunAccess, job: str) -> str:
    """The last line in the log of a job; empty where it cannot be read: the job has ended all the same."""
    with contextlib.suppress(FailedError, UseError):
        return "".join(logs.last_lines(there, job, 1)[-1:])
    return ""


def _keep_evidence(
    store: Store, found: Sequence[Evidence], followed: Sequence[Record]
) -> dict[str, tuple[Evidence, ...]]:
    """Write new evidence, before the state says that a run is done: killed in between, it is looked at again."""
    project_of = {record["id"]: record["project"] for record in followed}
    by_project: dict[str, list[Evidence]] = {}
    for one in found:
        by_project.setdefault(project_of[one.run], []).append(one)
    fresh = {}
    for project, lines in by_project.items():
        study = store.paths.study(project)
        fresh[project] = tuple(evidence_files.append(study.evidence, store.paths.lock, lines))
        control = projects.read(store.paths, project).get("control")
        made = evidence.aggregate(evidence_files.read(study.evidence), control)
        evidence_files.write_aggregate(study.evidence, made)
    return fresh


def _keep_states(store: Store, followed: Sequence[Record], checked: Mapping[str, Checked]) -> None:
    """Write what was found into the queue. A run whose state or claim was changed in the meantime keeps that."""
    before = {record["id"]: record for record in followed}
    changed = {name: one.record for name, one in checked.items() if one.record != before[name]}
    if not changed:
        return

    def edit(records: list[Record]) -> list[Record]:
        return [
            _merged(record, before[record["id"]], changed[record["id"]]) if record["id"] in changed else record
            for record in records
        ]

    store.change("run", edit)


def _merged(record: Record, before: Record, after: Record) -> Record:
    if any(record.get(key) != before.get(key) for key in ("state", "run", "worker", "claim")):
        return record
    gone = before.keys() - after.keys()
    new = {key: value for key, value in after.items() if before.get(key) != value}
    return {**{key: value for key, value in record.items() if key not in gone}, **new}
