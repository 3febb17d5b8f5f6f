"""Read the status of a run, and what its jobs wrote."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from skill.runs import digest, eta
from skill.runs.directory import Document, Run
from skill.runs.open import open_run

if TYPE_CHECKING:
    from skill.runs.access import Results
    from skill.runs.digest import Row


class RunStatus(NamedTuple):
    """The state of a run. `alive`: whether a manager is running; `tail` returns the last log line of a running job."""

    document: Document
    alive: bool
    tail: Callable[[Row], str]


def run_status(run: Run, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> RunStatus:
    """Read the state of a run, on this machine or on hosts. `full`: with every job; without it a host leaves out jobs
    that ended long ago. `meanwhile`: called while the hosts answer.

    Raises FailedError, and UseError for a run without a state or an invalid workers.yaml.
    """
    with open_run(run, once=True) as there:
        document = there.look(full=full, meanwhile=meanwhile)
        return RunStatus(document, there.alive(document), there.tail)


def run_results(run: Run) -> Results:
    """Return what completed jobs wrote, where it is on this machine. Raises as `run_status` does."""
    with open_run(run, once=True) as there:
        return there.results(there.look(full=True))


def as_json(run: Run, document: Document, alive: bool) -> dict[str, Any]:
    """Return the document of `wavequeue status --json`. `alive`: as in RunStatus."""
    now = time.time()
    extra = {
        "manager_alive": alive,
        "age_s": digest.age(document, now),
        "directory": str(run.root),
        "estimate": eta.document(document, alive, now),
    }
    return {**document, **extra}


def rows(document: Document, phase: str | None, statuses: frozenset[str]) -> list[Row]:
    """Return the jobs of a phase (None: of all) with one of these statuses (none: with any). Raises UseError."""
    from skill.runs import requests

    chosen = set(requests.select(document, (), phase, statuses))
    return [row for row in document["jobs"] if row["id"] in chosen]
