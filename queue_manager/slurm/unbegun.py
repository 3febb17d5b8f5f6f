"""Why an attempt never began that Slurm had a task for. Pure."""

from __future__ import annotations

from pathlib import Path

from queue_manager.core.readings import Unreadable
from queue_manager.slurm import commands
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.nodes import Nodes


def why_unbegun(
    row: Listed | Unreadable | None, is_first: bool, directory: Path, nodes: Nodes, now: float
) -> tuple[str, bool]:
    """Return why an attempt never began, in words, and whether that passes by itself. `row`: what Slurm lists of its
    task; `is_first`: of the attempts of the task, since those behind it may wait for another start; `directory`: of its
    batch. `nodes` take note of one that could not start it, at `now` (epoch seconds)."""
    if not isinstance(row, Listed):
        return "Slurm does not list it", True
    place = f" on {row.node}" if row.node else ""
    if row.state not in commands.OVER:
        return f"Slurm takes it for running{place}, where it has not begun", True
    says = f"Slurm: {row.state} ({row.reason})"
    passes = False
    if row.node and row.state in commands.NOT_STARTED and is_first:
        passes = nodes.failed(row.node, f"jobs cannot start there: {says}; see {directory}", now)
    return f"{says}{place}; see {directory}", passes
