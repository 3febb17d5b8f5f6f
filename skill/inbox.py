"""Asking a run's manager for something: which jobs are meant, the request, the bell, the answer."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from build_manifest.faults import listed, nearest
from queue_manager.core.layout import RunPaths
from queue_manager.core.requests import Answer, Request, decode_answer, encode_request
from skill.errors import UseError
from skill.files import write_whole
from skill.runs import Document
from skill.status import Row

PATIENCE = 15.0
"""Seconds to wait for a manager's answer while it lives."""


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
            if (phase is None or row["phase"] == phase) and (not statuses or row["status"] in statuses)
        }
    return tuple(row["id"] for row in rows if row["id"] in chosen)


def one(document: Document, name: str) -> Row:
    """The row of the job with this id. Raises UseError with the nearest id."""
    for row in document["jobs"]:
        if row["id"] == name:
            found: Row = row
            return found
    near = _near(name, [row["id"] for row in document["jobs"]])
    raise UseError(f"there is no job {name}{near} (run {document['meta']['run_id']})")


def _near(name: str, known: list[str]) -> str:
    close = nearest(name, sorted(known))
    if close:
        return f"; did you mean {close}?"
    return f"; there are: {listed(sorted(known), 6)}" if known else ""


def new_id(verb: str) -> str:
    """An id for a request that no other has."""
    return f"{verb}-{uuid.uuid4().hex[:16]}"


def send(paths: RunPaths, request: Request) -> None:
    """Put a request into the inbox, whole and durable, and ring the bell. Raises OSError."""
    paths.inbox.mkdir(exist_ok=True)
    write_whole(paths.request(request.id), encode_request(request))
    _ring(paths.bell)


def _ring(bell: Path) -> None:
    with contextlib.suppress(OSError):  # nobody listens: the manager finds the request when it begins
        fd = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, b"r")
        finally:
            os.close(fd)


def wait(paths: RunPaths, request: Request, alive: Callable[[], bool], patience: float = PATIENCE) -> Answer | None:
    """The answer to a request; None if none came in `patience` seconds, or the manager has gone."""
    until = time.monotonic() + patience
    path = paths.answer(request.id)
    pause = 0.005
    while True:
        there = alive()
        with contextlib.suppress(OSError, ValueError, KeyError):
            return decode_answer(path.read_text(encoding="utf-8"))
        if not there or time.monotonic() > until:
            return None
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)
