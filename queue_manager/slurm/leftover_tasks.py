"""Find the tasks that wait in Slurm's queue for nothing. Pure.

An attempt may be taken back while sbatch submits it, while Slurm does not answer, or just before its manager is killed.
A task of it would wait for its turn all the same, find its attempt taken, and end: resources for nothing.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from queue_manager.slurm.batches import Batch
from queue_manager.slurm.commands import Listed


def leftover_tasks(
    tasks: Mapping[tuple[str, int], Listed], batches: Mapping[str, Batch], followed: Container[str]
) -> list[tuple[str, int]]:
    """Return those of the listed `tasks` that wait and belong to `batches`, but to no attempt that is `followed`."""
    return [
        (name, index)
        for (name, index), row in tasks.items()
        if row.state == "PENDING"
        and (batch := batches.get(name)) is not None
        and 0 <= index < len(batch.tasks)
        and not any(attempt in followed for attempt in batch.tasks[index])
    ]
