"""Check whether the files exist that a person wants to accept as results of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from queue_manager.adapters import evidence
from queue_manager.core import shell_paths
from queue_manager.core.model import Job, QueueState
from queue_manager.core.requests import Request


def missing(
    requests: Iterable[Request], state: QueueState, environment: Mapping[str, str], cwd_of: Callable[[Job], str]
) -> dict[str, str]:
    """Return what is missing of the outputs named in requests to accept, in words, by request id."""
    found = {}
    for request in requests:
        if request.verb != "accept":
            continue
        for name, fields in request.changes.items():
            path, job = fields.get("expected_output"), state.job(name) if name in state.order_of else None
            if job is None or path is None:
                continue
            spec = shell_paths.expanded(state.manifest, job.spec._replace(expected_output=path), environment)
            cwd = cwd_of(job)
            if evidence.newest_output(spec.expected_output or "", cwd) is None:
                found[request.id] = f"{path} does not exist (relative to {cwd}); give --output a path that exists"
    return found
