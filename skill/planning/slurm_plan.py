"""What a manifest asks of Slurm, as it is cut into arrays, and when Slurm says that it would start. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from queue_manager.core import slurm_arrays
from queue_manager.core.durations import Durations
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import Manifest
from queue_manager.core.times import duration
from skill.common.units import count_text, jobs_text
from skill.planning import engines, slurm_preflight

SHORT = 120.0
"""Seconds: sites punish many jobs that take less."""
MANY = 100
"""So many short jobs are many."""
_START = re.compile(r"to start at (\S+)")


def rows(manifest: Manifest, document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for the jobs of each phase that ask for the same: `phase`, `options` of a task, `jobs`; `tasks` and
    `arrays`: how many; `bundle`: jobs that a task runs in turn at most; `starts`: when Slurm would start the first now,
    in its words, None where it does not say; and `allocations`, where they share some. `document`: the document of
    queue_manager.remote.preflight from where Slurm's commands are."""
    starts = slurm_preflight.starts(document)
    most = slurm_preflight.most_tasks(document) or slurm_arrays.ARRAY
    found = []
    for one in engines.classes(manifest):
        start = starts.get(one.options)
        longest = None if start is None else start.max_time
        cut = slurm_arrays.cut(one.options, one.bundle, len(one.jobs), longest)
        tasks = one.allocations or len(slurm_arrays.tasks(one.jobs, cut.size))
        row = {
            "phase": one.phase,
            "options": list(cut.options),
            "jobs": len(one.jobs),
            "tasks": tasks,
            "arrays": -(-tasks // most),
            "bundle": cut.size,
            "starts": None if start is None else start.says,
        }
        found.append(row if one.allocations is None else {**row, "allocations": one.allocations})
    return found


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return a row for people: what asks, for what, and when it would start."""
    at = _START.search(row["starts"] or "")
    return [row["phase"], _who_asks(row), " ".join(row["options"]) or "nothing", f"starts {at.group(1)}" if at else ""]


def _who_asks(row: Mapping[str, Any]) -> str:
    jobs = jobs_text(row["jobs"])
    if "allocations" in row:
        return f"{jobs} in {count_text(row['allocations'], 'shared allocation')}"
    size = f", {row['bundle']} in turn in each" if row["bundle"] > 1 else ""
    arrays = f" of {count_text(row['arrays'], 'array')}" if row["arrays"] > 1 else ""
    return f"{jobs} in {count_text(row['tasks'], 'task')}{arrays}{size}" if arrays or size else jobs


def warnings(manifest: Manifest, durations: Durations) -> list[str]:
    """Return what to know of many short jobs, where earlier runs, `est_minutes` or `timeout` tell that they are."""
    if manifest.launcher != SLURM:
        return []
    alone: dict[str, list[float]] = {}
    for job in manifest.jobs:
        seconds = durations.seconds(job)
        seconds = job.timeout if seconds is None else seconds
        is_alone = job.gpu_mem_mib is None and (job.slurm or {}).get("bundle", 1) == 1
        if seconds is not None and seconds < SHORT and is_alone:
            alone.setdefault(job.phase, []).append(seconds)
    return [
        f"{jobs_text(len(times))} of phase {phase} take about {duration(sum(times) / len(times))} each: many "
        "sites do not allow so many short tasks; slurm: {bundle: 20} runs 20 of them in one task"
        for phase, times in alone.items()
        if len(times) >= MANY
    ]


def of_hosts(manifest: Manifest, documents: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]] | None:
    """Return the rows by what the first of the hosts says; None where Slurm does not place the jobs."""
    return rows(manifest, documents[0] if documents else {}) if manifest.launcher == SLURM else None
