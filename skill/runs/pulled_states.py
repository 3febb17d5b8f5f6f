"""The states of a run's hosts as they were last pulled, and how old they are."""

from __future__ import annotations

import contextlib

from queue_manager.core.times import epoch
from skill.runs import assignment, state_schema
from skill.runs.assignment import Assigned
from skill.runs.directory import Document, Run, read_pulled_state


def documents(run: Run, found: Assigned) -> dict[str, Document]:
    """The state of each host as last pulled; hosts whose state is not here, or is none, are missing."""
    states = {}
    for part in found.parts:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            states[part.host] = state_schema.clean(
                read_pulled_state(assignment.host_folder(run, part.host), len(part.jobs))
            )
    return states


def age(found: Assigned, host: str, now: float) -> float | None:
    """Seconds since the last whole pull of a host; None if there was none."""
    at = pulled_at(found.pulled.get(host))
    return None if at is None else max(0.0, now - at)


def pulled_at(text: str | None) -> float | None:
    """The time of a pull, as hosts.json has it, in epoch seconds; None for None."""
    return None if text is None else epoch(text)
