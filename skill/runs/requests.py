"""Asking a run's manager for something: which jobs are meant, the request, and its answer."""

from __future__ import annotations

import fnmatch
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import listed, nearest
from queue_manager.core.requests import Answer, Request, encode_request
from queue_manager.core.terminal_text import one_line
from skill.common.errors import FailedError, UseError
from skill.runs import state_schema
from skill.runs.digest import Row, word
from skill.runs.directory import Document, Run
from skill.runs.local_call import call

PATIENCE = 15.0
"""Seconds to wait for a manager's answer while it lives."""


def body(request: Request) -> dict[str, Any]:
    """A request as queue_manager.remote.control takes it."""
    found: dict[str, Any] = json.loads(encode_request(request))
    return found


def select(
    document: Document, patterns: Sequence[str], phase: str | None = None, statuses: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Ids of the jobs that are meant, in the manifest's order.

    `patterns` are ids or globs. `phase` and `statuses`, where given, take all jobs that fit both, beside those.
    Raises UseError that names all that fit nothing.
    """
    rows = document["jobs"]
    ids = {row["id"] for row in rows}
    chosen: set[str] = set()
    faults = []
    for pattern in patterns:
        found = {pattern} & ids or {name for name in ids if fnmatch.fnmatchcase(name, pattern)}
        chosen |= found
        if not found:
            faults.append(f"there is no job {pattern}" + _near(pattern, list(ids)))
    phases = [row["name"] for row in document["phases"]]
    if phase is not None and phase not in phases:
        faults.append(f"there is no phase {phase}" + _near(phase, phases))
    if faults:
        raise UseError(f"{'; '.join(faults)} (run {document['meta']['run_id']})")
    if phase is not None or statuses:
        chosen |= {
            row["id"]
            for row in rows
            if (phase is None or row["phase"] == phase)
            and (not statuses or not statuses.isdisjoint((row["status"], word(row))))
        }
    return tuple(row["id"] for row in rows if row["id"] in chosen)


def one(document: Document, name: str) -> Row:
    """The row of the job with this id. Raises UseError with the nearest id."""
    for row in document["jobs"]:
        if row["id"] == name:
            found: Row = row
            return found
    raise UseError(unknown(name, (row["id"] for row in document["jobs"]), document["meta"]["run_id"]))


def unknown(name: str, ids: Iterable[str], run_id: str) -> str:
    """That a run has no such job, in words, with the nearest that there is."""
    return f"there is no job {name}{_near(name, list(ids))} (run {run_id})"


def _near(name: str, known: list[str]) -> str:
    close = nearest(name, sorted(known))
    if close:
        return f"; did you mean {close}?"
    return f"; there are: {listed(sorted(known), 6)}" if known else ""


def new_id(verb: str) -> str:
    """An id for a request that no other has."""
    return f"{verb}-{uuid.uuid4().hex[:16]}"


class Asked(NamedTuple):
    """What became of a request: the manager's answer, None if none came in time; and whether a manager is there.

    A request without an answer stays, and is taken by the next manager. `waits`: where that is, if Slurm will start it.
    """

    answer: Answer | None
    alive: bool
    waits: str | None = None


def ask(run: Run, request: Request, patience: float = PATIENCE) -> Asked:
    """Have the manager of a run on this machine carry out a request. `patience` in seconds. Raises FailedError."""
    asked = {"op": "ask", "request": json.loads(encode_request(request)), "patience": patience}
    found = call("control", str(run.root), stdin=json.dumps(asked))
    answer = found["fault"] if "fault" in found else read_answer(found, request)
    if isinstance(answer, str):
        raise FailedError(f"run {run.id} could not be asked: {answer}")
    return answer


def read_answer(found: Mapping[str, Any], request: Request) -> Asked | str:
    """What queue_manager.remote.control answered to a request; in words, where that is no answer to it."""
    try:
        data = found["answer"]
        answer = None if data is None else Answer(data["id"], data["ok"], data["text"], tuple(map(str, data["jobs"])))
        fits = answer is None or (answer.id == request.id and isinstance(answer.text, str))
    except (KeyError, TypeError):
        fits = False
    if not fits:
        return "what it sent does not answer the request"
    alive = found.get("alive") is True
    waits = found.get("waits")  # an older runtime does not tell
    return Asked(
        answer and answer._replace(ok=answer.ok is True, text=state_schema.clean(answer.text)),
        alive,
        one_line(waits, 300) if isinstance(waits, str) else None,
    )
