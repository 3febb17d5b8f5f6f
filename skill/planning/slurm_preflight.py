"""Judge whether a cluster can run a manifest, by what its Slurm said of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.terminal_text import one_line
from skill.common.typed_json import fits
from skill.common.units import jobs_text
from skill.planning.preflight_schema import Slurm


class Findings(NamedTuple):
    """`short`: in a word; `faults`: why jobs can never run there; `warnings`: what else a person should know."""

    short: str
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def check(document: Mapping[str, Any]) -> Findings:
    """Judge a document of queue_manager.remote.preflight, which a host may have made up."""
    found = document.get("slurm")
    if fits(found, Slurm) is not None:
        return Findings("unknown", ("it does not say what its Slurm is",), ())
    assert isinstance(found, dict)
    if found["fault"] is not None:
        return Findings("no Slurm", (one_line(found["fault"], 300),), ())
    faults = [
        f"Slurm can never run {jobs_text(row['count'])} ({listed(row['jobs'], 5)}): {one_line(row['says'], 300)} "
        f"(asked for: {' '.join(row['options']) or 'nothing'})"
        for row in found["refused"]
    ]
    untried = found["untried"]
    warnings = [f"{untried} more kinds of needs were not tried with Slurm"] if untried else []
    warnings += [one_line(note, 300) for note in found.get("notes", ())]
    short = f"Slurm {found['version']}"
    most = found.get("most_submitted")
    if most is not None and most < sum(row["count"] for row in found.get("starts", ())):
        warnings.append(
            f"Slurm takes {jobs_text(most)} of yours at a time (MaxSubmitJobs); the others wait for their turn"
        )
    task = found.get("task")
    if task is not None and task["state"] == "ran":
        short += f"; a task began on {one_line(task['node'], 60)} after {task['seconds'] or 0:g} s"
    elif task is not None and task["state"] == "failed":
        faults.append(f"the task that was tried failed: {one_line(task['says'], 500)}")
    elif task is not None:
        warnings.append(f"not tried whether the nodes see the run's directory: {one_line(task['says'], 300)}")
    return Findings(short, tuple(faults), tuple(warnings))


class Start(NamedTuple):
    """`says`: when Slurm would start the first job that asks for the same, in its words; `max_time`: seconds that such
    a job may ask for at most, None where that is unknown."""

    says: str
    max_time: float | None


def starts(document: Mapping[str, Any]) -> dict[tuple[str, ...], Start]:
    """Return when Slurm would start the first job of each kind of needs, by sbatch's options, as a host tells it.
    Nothing where it does not."""
    found = document.get("slurm")
    if fits(found, Slurm) is not None:
        return {}
    assert isinstance(found, dict)
    rows = found.get("starts", ())
    return {tuple(row["options"]): Start(one_line(row["says"], 200), row.get("max_time")) for row in rows}


def most_tasks(document: Mapping[str, Any]) -> int | None:
    """Return how many tasks an array of this cluster can have; None where that is unknown."""
    found = document.get("slurm")
    return found.get("max_array") if isinstance(found, dict) and fits(found, Slurm) is None else None
