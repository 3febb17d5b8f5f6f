"""Read the status of a run, and what its jobs wrote."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from skill.runs import digest, eta, sequence
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
        "seq": sequence.newest(document),
        "manager_alive": alive,
        "age_s": digest.age(document, now),
        "directory": str(run.root),
        "estimate": eta.document(document, alive, now),
    }
    return {**document, **extra}


def as_brief(document: Document, alive: bool, since: str | None = None) -> dict[str, Any]:
    """Return the document of `wavequeue status --brief --json`, of less than 2 KB.

    `alive`: as RunStatus has it; `since`: the `seq` of an earlier one, after which jobs count as changed. Raises
    UseError where the run never had it.
    """
    from skill.reports import brief

    changed = None if since is None else sequence.changed_since(document, since)
    return brief.brief(document, alive, time.time(), changed)


def brief_lines(found: Mapping[str, Any], headline: str) -> Iterator[str]:
    """Return what `as_brief` gave, line by line."""
    from skill.reports import brief

    return brief.lines(found, headline)


def rows(document: Document, phase: str | None, statuses: frozenset[str], since: str | None = None) -> Sequence[Row]:
    """Return the jobs of a phase (None: of all) with one of these statuses (none: with any) that changed after the run
    had the `seq` `since` (None: all). Raises UseError."""
    found: Sequence[Row] = document["jobs"] if since is None else sequence.changed_since(document, since)
    if not (phase or statuses):
        return found
    from skill.runs import requests

    chosen = set(requests.select(document, (), phase, statuses))
    return [row for row in found if row["id"] in chosen]
