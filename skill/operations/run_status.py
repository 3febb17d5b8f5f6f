"""How a run stands, and what its jobs wrote."""

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
    """The state of a run. `alive`: whether it may go on by itself; `tail` gives the last log line of a running job."""

    document: Document
    alive: bool
    tail: Callable[[Row], str]


def run_status(run: Run, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> RunStatus:
    """Look at a run, wherever it lives. `full`: with every job, where a host would leave out what ended long ago.
    `meanwhile`: what to do once hosts have been asked.

    Raises FailedError, and UseError for a run without a state or a fault in workers.yaml.
    """
    with open_run(run, once=True) as there:
        document = there.look(full=full, meanwhile=meanwhile)
        return RunStatus(document, there.alive(document), there.tail)


def run_results(run: Run) -> Results:
    """What completed jobs wrote, as far as it is on this machine. Raises as `run_status` does."""
    with open_run(run, once=True) as there:
        return there.results(there.look(full=True))


def as_json(run: Run, document: Document, alive: bool) -> dict[str, Any]:
    """The document of `wavequeue status --json`. `alive`: as RunStatus has it."""
    now = time.time()
    extra = {
        "manager_alive": alive,
        "age_s": digest.age(document, now),
        "directory": str(run.root),
        "estimate": eta.document(document, alive, now),
    }
    return {**document, **extra}


def rows(document: Document, phase: str | None, statuses: frozenset[str]) -> list[Row]:
    """The jobs of a phase (None: of all) with one of these statuses (none: with any). Raises UseError."""
    from skill.runs import requests

    chosen = set(requests.select(document, (), phase, statuses))
    return [row for row in document["jobs"] if row["id"] in chosen]
