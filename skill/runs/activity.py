"""Describe what a running job does: it waits for input, or how long it has been silent. Pure.

This is only shown; nothing is decided by it, since a job may be silent for good reasons.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from queue_manager.core.times import epoch
from skill.runs.digest import Row

QUIET = 60.0
"""Seconds without output below which silence is not mentioned."""


def silent(row: Row, now: float) -> float | None:
    """Return the seconds since a running job last wrote to its log; None where unknown. `now` in epoch seconds."""
    at = row.get("last_output") if row["status"] == "running" else None
    return None if at is None else max(0.0, now - epoch(at))


def asks(row: Row) -> str | None:
    """Say that a running job is waiting for input on its terminal; None if it is not."""
    found: str | None = row.get("asks") if row["status"] == "running" else None
    return found


def words(row: Row, now: float, cards: Iterable[Row] = ()) -> str:
    """Say that a job waits for input, or `silent for 12 min, 0 % CPU, GPU 0 at 0 %`; empty where there is nothing to
    say. `cards`: those of the state."""
    found, since = asks(row), silent(row, now)
    if found is not None or since is None or since < QUIET:
        return found or ""
    parts = [f"silent for {_about(since)}"]
    if row.get("cpu") is not None:
        parts.append(f"{row['cpu']:.0f} % CPU")
    for card in cards:
        mine = is_on(row, card)
        if mine and card["util"] is not None:
            parts.append(f"GPU {card['index']} at {card['util']} %")
    return ", ".join(parts)


def is_on(row: Row, card: Row) -> bool:
    """Whether a job has this GPU of the state. Those of a cluster's nodes are not in it."""
    return not row.get("node") and card["index"] in row["gpus"] and card.get("host") == row.get("host")


def _about(seconds: float) -> str:
    minutes = int(seconds) // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h"


def is_idle(row: Row) -> bool:
    """Return whether it used hardly any CPU at the last look."""
    cpu: Any = row.get("cpu")
    return cpu is not None and cpu < 1.0
