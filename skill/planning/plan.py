"""What a spec would run: a document for programs, and its lines for people. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.times import duration
from skill.common.text_table import columns
from skill.runs.dependencies import Dependencies
from skill.runs.digest import seconds

if TYPE_CHECKING:
    from rich.text import Text

MAX_EDGES = 1_000_000
"""Above so many pairs the document names groups and phases instead of each job."""
_FIRST_JOBS = 3


class Machine(NamedTuple):
    """What there is to run on: cores, and total MiB of each card that the manifest may use."""

    name: str
    cores: int
    cards_mib: tuple[int, ...]


def history(documents: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, int]]:
    """From states of earlier runs: median seconds of the completed jobs of each phase, and how many those were."""
    took: dict[str, list[float]] = {}
    for document in documents:
        for row in document["jobs"]:
            length = seconds(row, 0.0) if row["status"] == "completed" else None
            if length is not None:
                took.setdefault(row["phase"], []).append(length)
    return {phase: (statistics.median(values), len(values)) for phase, values in took.items()}


def plan(
    manifest: Manifest, machine: Machine, known: Mapping[str, tuple[float, int]], warnings: Sequence[str]
) -> dict[str, Any]:
    """The document that `plan --json` prints.

    `known`: see `history`. A job's `depends_on` holds ids, groups and phases resolved, as long as the whole stays
    below a million pairs (`totals.resolved`); `waits_for` holds the same as names of jobs, groups and phases.
    """
    dependencies = Dependencies(manifest)
    edges = dependencies.edges()
    resolved = edges <= MAX_EDGES
    jobs = [_job(spec, dependencies, resolved) for spec in manifest.jobs]
    by_phase = {name: [dependencies.jobs[job] for job in ids] for name, ids in dependencies.members.items()}
    phases = [_phase(phase, by_phase[phase.name], manifest, machine, known) for phase in manifest.phases]
    return {
        "project": manifest.project,
        "cwd": manifest.cwd,
        "where": f"this machine ({machine.name})",
        "phases": phases,
        "jobs": jobs,
        "totals": {
            "jobs": len(jobs),
            "edges": edges,
            "resolved": resolved,
            "most_cards": max((spec.gpus for spec in manifest.jobs), default=0),
            "at_once": max((row["at_once"] for row in phases), default=0),
            "seconds": _whole(phases),
            "cost": None,
        },
        "warnings": list(warnings),
    }


def _job(spec: JobSpec, dependencies: Dependencies, resolved: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": spec.id,
        "phase": spec.phase,
        "cmd": spec.cmd,
        "waits_for": [need.name for need in dependencies.needs(spec.id)],
        "cards": spec.gpus,
        "gpu_mem_mib": spec.gpu_mem_mib,
        "expected_output": spec.expected_output,
        "params": dict(spec.params),
    }
    if resolved:
        row["depends_on"] = dependencies.resolved(spec.id)
    return row


def _phase(
    phase: Phase, specs: Sequence[JobSpec], manifest: Manifest, machine: Machine, known: Mapping[str, tuple[float, int]]
) -> dict[str, Any]:
    at_once = max((_at_once(spec, manifest, machine) for spec in specs), default=0)
    median, runs = known.get(phase.name, (None, 0))
    return {
        "name": phase.name,
        "jobs": len(specs),
        "depends_on": list(phase.depends_on),
        "match": list(phase.match),
        "cards": sorted({spec.gpus for spec in specs}),
        "gpu_mem_mib": sorted({spec.gpu_mem_mib for spec in specs if spec.gpu_mem_mib is not None}),
        "outputs": sum(spec.expected_output is not None for spec in specs),
        "at_once": min(at_once, len(specs)),
        "seconds_per_job": median,
        "measured_on": runs,
        "first_jobs": [spec.id for spec in specs[:_FIRST_JOBS]],
    }


def _at_once(spec: JobSpec, manifest: Manifest, machine: Machine) -> int:
    """How many jobs like this can run at a time."""
    most = manifest.max_parallel
    if spec.gpus == 0:
        return machine.cores if most is None else most
    if spec.gpu_mem_mib is None:
        slots = len(machine.cards_mib) // spec.gpus
    else:
        slots = sum(mib // spec.gpu_mem_mib for mib in machine.cards_mib) // spec.gpus
    return slots if most is None else min(most, slots)


def _whole(phases: Sequence[Mapping[str, Any]]) -> float | None:
    """About how many seconds all of it takes; None where a phase was never measured, or cannot run."""
    if any(row["seconds_per_job"] is None or not row["at_once"] for row in phases if row["jobs"]):
        return None
    total: float = sum(-(-row["jobs"] // row["at_once"]) * row["seconds_per_job"] for row in phases if row["jobs"])
    return round(total, 1)


def lines(document: Mapping[str, Any], machine: Machine, width: int) -> list[Text]:
    """The document for people."""
    from rich.text import Text

    phases, totals = document["phases"], document["totals"]
    table: list[list[str | Text]] = [["phase", "jobs", "waits for", "GPUs", "outputs", "at once", "per job"]]
    table += [
        [
            row["name"],
            str(row["jobs"]),
            ", ".join(row["depends_on"]) + (f" with its {', '.join(row['match'])}" if row["match"] else "") or "-",
            _cards(row),
            str(row["outputs"]),
            str(row["at_once"]),
            "unknown" if row["seconds_per_job"] is None else duration(row["seconds_per_job"]),
        ]
        for row in phases
    ]
    found = [Text(f"{document['project']}: {_count(totals['jobs'], 'job')} in {_count(len(phases), 'phase')}", "bold")]
    found += columns(table, width, right=(1, 4, 5), head=True)
    found.append(Text("first jobs", "bold"))
    by_id = {row["id"]: row for row in document["jobs"]}
    found += columns(
        [
            [row["id"], _waits(row), " ".join(row["cmd"].split())]
            for phase in phases
            for row in (by_id[name] for name in phase["first_jobs"])
        ],
        width,
        indent=1,
    )
    cards = _count(len(machine.cards_mib), "GPU") if machine.cards_mib else "no GPU"
    found.append(
        Text(f"where: {document['where']}, {_count(machine.cores, 'core')}, {cards}; jobs run in {document['cwd']}")
    )
    found.append(Text(f"how long: {_how_long(document)}"))
    found.append(Text("cost: no price: this machine"))
    return found


def _how_long(document: Mapping[str, Any]) -> str:
    total = document["totals"]["seconds"]
    if total is not None:
        jobs = sum(row["measured_on"] for row in document["phases"])
        return f"about {duration(total)}, from {_count(jobs, 'job')} of earlier runs"
    unknown = [row["name"] for row in document["phases"] if row["seconds_per_job"] is None]
    if len(unknown) == len(document["phases"]):
        return "unknown: no run of this project yet"
    if unknown:
        return f"unknown: no job of {listed(unknown)} has completed in an earlier run"
    return "unknown: this machine cannot run all phases"


def _waits(row: Mapping[str, Any]) -> str:
    ids = row.get("depends_on", row["waits_for"])
    return f"after {listed(ids, 3)}" if ids else ""


def _cards(row: Mapping[str, Any]) -> str:
    counts = "-".join(map(str, dict.fromkeys((row["cards"][0], row["cards"][-1])))) if row["cards"] else "0"
    if counts == "0":
        return "none (CPU)"
    return f"{counts} x {listed(map(str, row['gpu_mem_mib']))} MiB" if row["gpu_mem_mib"] else counts


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
