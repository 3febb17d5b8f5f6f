"""The metrics of jobs in a run's state: which are still to be read, what was read, how they are shown. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from queue_manager.core import events as ev
from queue_manager.core import metric_rules
from queue_manager.core.events import Record
from queue_manager.core.manifest import JobSpec
from queue_manager.core.status import Status
from queue_manager.core.times import iso

if TYPE_CHECKING:
    from queue_manager.core.model import QueueState
    from queue_manager.core.state_types import Job


def has_any(spec: JobSpec) -> bool:
    """Return whether a completed job has metrics to read: by its rules, else from a JSON file that it wrote."""
    return bool(metric_rules.rules(spec.metrics)) or (spec.expected_output or "").endswith(".json")


def moved(state: QueueState, job: Job) -> None:
    """Apply a new status of a job: metrics of a completed one have to be read."""
    if job.status is Status.COMPLETED and job.metrics is None and has_any(job.spec):
        state.unread.add(job.order)


def read(state: QueueState, event: ev.MetricsRead, _at: float) -> None:
    """Record the metrics of a completed job."""
    job = state.job(event.job)
    job.metrics, job.metric_errors = event.metrics, event.errors
    state.unread.discard(job.order)
    state.change(job)


def row(job: Job, so_far: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the fields of a job's row. `so_far`: metrics in the log of a running job."""
    return {
        "metrics": dict(job.metrics if job.metrics is not None else so_far or {}),
        "metric_errors": dict(job.metric_errors or {}),
    }


def line(state: QueueState, record: Record) -> str | None:
    """Return the line of metrics.jsonl for an event, with its line end; None for another event, or without a metric."""
    event = record.event
    if not isinstance(event, ev.MetricsRead) or not (event.metrics or event.errors):
        return None
    job = state.job(event.job)
    found = {
        "seq": record.seq,
        "at": iso(record.at),
        "run_id": state.run_id,
        "job": job.spec.id,
        "attempt": job.n,
        "phase": job.spec.phase,
        "params": dict(job.spec.params),
        "commit": job.code,
        "host": state.machine.host,
        "gpus": list(job.indices),
        "gpu_uuids": list(job.last_cards),
        "metrics": dict(event.metrics),
        "errors": dict(event.errors),
    }
    return json.dumps(found, ensure_ascii=False, allow_nan=False) + "\n"
