"""Whether what came of a host agrees with what its manager recorded: outputs of jobs that never ran, outputs that are
missing. Pure.

An output counts as a result only where the manager's own record says that its job completed (see pulled_results.py).
Here it is found out what a person has to be told.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from skill.runs.directory import Document


class Doubts(NamedTuple):
    """What does not agree.

    `unproven`: files that came, each with its job, which never ran there; `missing`: jobs that have completed there,
    each with the output of which nothing is here.
    """

    unproven: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


def doubts(
    jobs: Mapping[str, Sequence[str]], state: Document, written: Mapping[str, str], here: Container[str]
) -> Doubts:
    """Compare what came with the record of a manager.

    `jobs`: ids by the pattern that they declare; `state`: of the host, as it came in the same pull; `written`: the
    pattern by which each file came, in any pull; `here`: the patterns that find something on this machine.
    """
    known = {row["id"]: row for row in state["jobs"]}
    # A job may begin after its manager's record was read and write before its result is: only an end proves it.
    is_over = state["meta"]["manager"] == "finished"
    unproven = [
        (name, jobs[pattern][0])
        for name, pattern in written.items()
        if is_over and pattern in jobs and not any(_has_run(known.get(job)) for job in jobs[pattern])
    ]
    missing = [
        (job, pattern)
        for pattern, ids in jobs.items()
        if pattern not in here
        for job in ids
        if job in known and known[job]["status"] == "completed"
    ]
    return Doubts(tuple(unproven), tuple(missing))


def _has_run(row: Mapping[str, Any] | None) -> bool:
    return row is not None and (row["attempts"] > 0 or row["attempt"] > 0 or row["status"] == "completed")
