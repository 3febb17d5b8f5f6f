"""What was pulled of a run on hosts, for its report: outputs, the numbers in them, logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.layout import RunPaths, id_fault
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.times import epoch
from skill.runs import assignment, outputs, pulled_states
from skill.runs.assignment import Assigned
from skill.runs.digest import Row
from skill.runs.directory import Document, Run
from skill.runs.path_map import map_paths


class PulledResults(NamedTuple):
    """What is here of each job, by its id.

    `found`: number of output files of each completed job that has an expected_output; `numbers`: those of its JSON
    output; `away`: completed jobs whose results have not been pulled. `logs`: those that are of the newest attempt.
    """

    found: Mapping[str, int]
    numbers: Mapping[str, Mapping[str, float]]
    away: tuple[str, ...]
    logs: Mapping[str, Path]


def read_results(run: Run, there: Assigned, manifest: Manifest, document: Document) -> PulledResults:
    """What is here. `document`: how the whole run stands; see skill.runs.merge.

    A file counts only if it was pulled since its job completed, and is no older than the attempt that wrote it: an
    earlier run may have written one of that name, which a pull then leaves in its place.
    """
    states = pulled_states.documents(run, there)
    pulled = {(host, row["id"]): row for host, state in states.items() for row in state["jobs"]}
    path_maps = {part.host: map_paths(run, there, manifest, part) for part in there.parts}
    found: dict[str, int] = {}
    numbers: dict[str, dict[str, float]] = {}
    away = []
    for job, row, was in _completed(there, manifest, document, pulled):
        place = path_maps[row["host"]]
        name = place.output(job)
        if name is None:  # it writes nothing, or where nothing is pulled from
            continue
        paths = outputs.files(str(place.here), name) if was else []
        begun = _begun(pulled.get((row["host"], job.id)), pulled_states.pulled_at(there.pulled.get(row["host"])))
        paths = paths if outputs.has_newer(paths, begun) else []
        found[job.id] = len(paths)
        if not paths:
            away.append(job.id)
        elif len(paths) == 1 and paths[0].endswith(".json"):
            numbers[job.id] = outputs.read_numbers(paths[0])
    kept = {}
    for row in document["jobs"]:
        if row["attempt"] and id_fault(row["id"]) is None and _same(pulled.get((row["host"], row["id"])), row):
            kept[row["id"]] = RunPaths.of(assignment.host_folder(run, row["host"])).log(row["id"])
    return PulledResults(found, numbers, tuple(away), kept)


def _completed(
    there: Assigned, manifest: Manifest, document: Document, pulled: Mapping[tuple[str, str], Row]
) -> Iterator[tuple[JobSpec, Row, bool]]:
    """The jobs that have completed, and whether that was so when their host was last pulled.

    A short form of a state leaves most of them out; what was pulled knows them all.
    """
    rows = {row["id"]: row for row in document["jobs"]}
    owner = there.host_of()
    for job in manifest.jobs:
        row = rows.get(job.id)
        if row is None:
            host = owner.get(job.id, "")
            row = {**pulled.get((host, job.id), {"status": None}), "host": host}
        if row["status"] == "completed":
            yield job, row, _same(pulled.get((row["host"], job.id)), row)


def _begun(row: Row | None, pulled_at: float | None) -> float:
    """When the attempt began whose output is looked for, by the clock of its host; 0 where its output may be older.

    That of a job that was accepted may be, and that of one whose exit code was not 0. Where the host's clock is ahead,
    what it sent has the time of this machine.
    """
    if row is None or row["started"] is None or row["exit_code"] != 0 or row["warning"]:
        return 0.0
    begun = epoch(row["started"])
    return 0.0 if pulled_at is not None and begun > pulled_at else begun


def _same(pulled: Row | None, row: Row) -> bool:
    return pulled is not None and (pulled["status"], pulled["attempt"]) == (row["status"], row["attempt"])
