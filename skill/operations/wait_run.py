"""Wait for a run: until it ends, until something new needs a person, or for a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from queue_manager.core.launchers import ENGINE_LIMIT
from skill.common import fitting
from skill.runs import digest
from skill.runs.open import open_run

if TYPE_CHECKING:
    from skill.runs.directory import Document, Run
    from skill.runs.watched import Followed

ENDED, PROBLEM, TIMEOUT = "ended", "problem", "timeout"
TICK = 0.25
LASTING = 30.0
"""Seconds that a new condition has to stand before waiting ends for it. Many pass by themselves: a host does not answer
one look, a session does not start at once, and both are tried again."""


class Waited(NamedTuple):
    """Why waiting ended: `ended`, `problem` or `timeout`. `problems`: what is wrong now, a line for each; `new`: what
    of it was not there when waiting began."""

    why: str
    document: Document
    alive: bool
    problems: tuple[str, ...]
    new: tuple[str, ...]


def as_json(found: Waited, run_id: str, code: int) -> dict[str, Any]:
    """Return the document of `wavequeue wait --json`, of less than 4 KB: `totals` tells how many problems there are."""
    document: dict[str, Any] = {
        "run_id": run_id,
        "why": found.why,
        "exit_code": code,
        "finished": found.document["meta"]["manager"] == "finished",
        "counts": {name: count for name, count in found.document["counts"].items() if count},
        "totals": {"new": len(found.new), "problems": len(found.problems)},
        "new": [],
        "problems": [],
    }
    lists = {"new": iter(found.new), "problems": iter(found.problems)}
    fitting.fill(document, lists, fitting.MOST, max(1, len(found.problems)))
    return document


def wait_run(run: Run, timeout: float | None = None) -> Waited:
    """Wait for a run, for `timeout` seconds at most. Raises UseError and FailedError as `open_run` does."""
    with open_run(run) as there, contextlib.closing(there.watch()) as followed:
        return wait(followed, timeout)


def wait(
    followed: Followed,
    timeout: float | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Waited:
    """Wait for what is followed; see `wait_run`."""
    begin = clock()
    followed.look(at_once=True)
    before = problems(followed.document, followed.alive)
    first: dict[str, float] = {}
    while True:
        over = followed.over
        if over:
            followed.look(at_once=True)  # it may have written its last state just before
        now = problems(followed.document, followed.alive)
        new = {name: line for name, line in now.items() if name not in before}
        at = clock()
        first = {name: first.get(name, at) for name in new}
        passing = {digest.condition_kind(row) for row in followed.document["meta"]["conditions"]}
        stands = any(name not in passing or at - since >= LASTING for name, since in first.items())
        why = ENDED if over else PROBLEM if stands else None
        if why is None and timeout is not None and at - begin >= timeout:
            why = PROBLEM if new else TIMEOUT  # whoever waits again would take it for an old one
        if why is not None:
            lines = tuple(now.values())
            return Waited(why, followed.document, followed.alive, lines, tuple(new.values()))
        before = {name: line for name, line in before.items() if name in now}
        sleep(TICK)
        followed.look()


def problems(document: Document, alive: bool) -> Mapping[str, str]:
    """What is wrong with a run, a line for each: jobs that are stuck, running jobs with a flag, and what blocks the
    whole."""
    found = dict(digest.problems_by_kind(document, alive))
    for row in document["meta"]["conditions"]:
        if row["kind"] == ENGINE_LIMIT:  # it passes as jobs end, which is waited for
            found.pop(digest.condition_kind(row), None)
    for row in document["jobs"]:
        if row["status"] == "stuck":
            found[f"stuck: {row['id']}~{row['attempt']}"] = f"{row['id']} is stuck: {digest.reason(row)}"
        elif row["status"] == "running":
            for flag in (row.get("health") or {}).get("flags", ()):
                found[f"{flag['kind']}: {row['id']}~{row['attempt']}"] = f"{row['id']}: {flag['text']}"
    return found
