"""Requests to a running manager: one file each in `inbox/`. Pure codec, used by both sides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import (
    JobSpec,
    ManifestError,
    Phase,
    job_from_json,
    job_to_json,
    phase_from_json,
    phase_to_json,
)

VERBS = ("cancel", "retry", "pause", "resume", "add", "update", "skip", "accept")
CHANGEABLE = tuple(
    name
    for name in ("expected_output", "timeout", "grace", "priority", "retries", "est_minutes")
    if name in JobSpec._fields
)
"""Fields of a job that may change during a run: nothing that it does, only how it is judged and ordered."""


class RequestError(ValueError):
    """The request is invalid; the message says why."""


class Request(NamedTuple):
    """A request of a person to a run. Sent twice under one `id`, it is carried out once.

    `jobs`: ids for cancel, retry and skip (their outputs exist). `phases`, `groups` and `specs`: what `add` adds.
    `changes`: new values by field (of CHANGEABLE), by job, for update and accept. `by`, `reason`: who accepts, and why.
    """

    id: str
    verb: str
    jobs: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = {}
    specs: tuple[JobSpec, ...] = ()
    changes: Mapping[str, Mapping[str, Any]] = {}
    by: str = ""
    reason: str = ""


class Answer(NamedTuple):
    """The outcome of a request: `jobs` are those it changed; `text` is one line for the person."""

    id: str
    ok: bool
    text: str
    jobs: tuple[str, ...] = ()


def encode_request(request: Request) -> str:
    data: dict[str, Any] = {"id": request.id, "verb": request.verb, "jobs": list(request.jobs)}
    if request.verb == "add":
        data["phases"] = [phase_to_json(phase) for phase in request.phases]
        data["groups"] = {name: list(ids) for name, ids in request.groups.items()}
        data["specs"] = [job_to_json(spec) for spec in request.specs]
    if request.verb == "accept":
        data.update(by=request.by, reason=request.reason)
    if request.changes:
        data["changes"] = {job: dict(fields) for job, fields in request.changes.items()}
    return json.dumps(data, ensure_ascii=False) + "\n"


def decode_request(text: str) -> Request:
    """Read a request. Raises RequestError."""
    try:
        data = json.loads(text)
        if data["verb"] not in VERBS:
            raise RequestError(f"unknown request {data['verb']!r}; known: {', '.join(VERBS)}")
        if id_fault(data["id"]):
            raise RequestError(f"request id {data['id']!r} {id_fault(data['id'])}")
        return Request(
            data["id"],
            data["verb"],
            tuple(str(job) for job in data.get("jobs", ())),
            tuple(phase_from_json(row) for row in data.get("phases", ())),
            {name: tuple(ids) for name, ids in data.get("groups", {}).items()},
            tuple(job_from_json(row) for row in data.get("specs", ())),
            {str(job): _changes(str(job), fields) for job, fields in data.get("changes", {}).items()},
            str(data.get("by", "")),
            str(data.get("reason", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, (RequestError, ManifestError)):
            raise RequestError(str(error)) from None
        raise RequestError(f"not a request: {error!r}") from None


def _changes(job: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return new values of a job's fields. Raises RequestError, ManifestError."""
    fixed = sorted(set(fields) - set(CHANGEABLE))
    if fixed:
        raise RequestError(f"job {job}: {', '.join(fixed)} cannot change; what can: {', '.join(CHANGEABLE)}")
    # A null stands for what the spec no longer says: the field's default.
    given = {name: value for name, value in fields.items() if value is not None}
    checked = job_from_json({"id": job, "cmd": "", "phase": "", **given})
    return {name: getattr(checked, name) for name in fields}


def encode_answer(answer: Answer) -> str:
    return json.dumps(answer._asdict(), ensure_ascii=False) + "\n"


def decode_answer(text: str) -> Answer:
    data = json.loads(text)
    return Answer(data["id"], data["ok"], data["text"], tuple(data["jobs"]))
