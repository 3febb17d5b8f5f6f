"""Durations of jobs in earlier runs of a project. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from queue_manager.core.durations import Earlier
from skill.runs.digest import seconds


def earlier(documents: Iterable[Mapping[str, Any]]) -> Earlier:
    """What the states of earlier runs tell, of their completed jobs: the mean of each job, and of each phase."""
    jobs: dict[str, list[float]] = {}
    phases: dict[str, list[float]] = {}
    for document in documents:
        for row in document["jobs"]:
            length = seconds(row, 0.0) if row["status"] == "completed" else None
            if length is not None:
                jobs.setdefault(row["id"], []).append(length)
                phases.setdefault(row["phase"], []).append(length)
    return Earlier(
        {job: sum(lengths) / len(lengths) for job, lengths in jobs.items()},
        {phase: (sum(lengths) / len(lengths), len(lengths)) for phase, lengths in phases.items()},
    )
