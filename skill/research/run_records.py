"""Runs as records of the queue, and as jobs of a manifest. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import build_manifest
from build_manifest.faults import SpecErrors
from queue_manager.core import manifest as manifests
from queue_manager.core.manifest import JobSpec, Manifest
from skill.research.records import JOB_COLUMNS, Record
from skill.runs.dependencies import Dependencies

JOB_KEYS = tuple(key for key in JobSpec._fields if key not in JOB_COLUMNS and key != "id")
"""What the column `job` may have: as in a manifest."""
SETTINGS = tuple(key for key in Manifest._fields if key not in ("project", "hosts", "phases", "groups", "jobs"))
"""What the column `settings` may have: as in a manifest."""


def with_metrics(run: Record, typed: Mapping[str, str], given: Mapping[str, Any]) -> Record:
    """A run that has its id, with its rules of metrics. `typed`: texts of YAML, by name; `given`: those of its project.
    Raises SpecErrors."""
    metrics = rules(given, [run["id"]], "metrics")[run["id"]]
    for name, text in typed.items():
        metrics |= rules({name: text}, [run["id"]], f"--metric {name}")[run["id"]]
    return {**run, "metrics": metrics} if metrics else run


def rules(given: Mapping[str, Any], jobs: Sequence[str], what: str) -> dict[str, dict[str, dict[str, str]]]:
    """Rules of metrics as the manifest has them, for each of these jobs. A rule is a mapping, or its text in YAML.
    `what`: where they stand, for messages. Raises SpecErrors where one cannot be a rule by its form."""
    if not given:
        return {job: {} for job in jobs}
    lines = [f"  {json.dumps(name)}: {one if isinstance(one, str) else json.dumps(one)}" for name, one in given.items()]
    spec = ["project: research", "metrics:", *lines, "jobs:"]
    spec += [f"  - {{id: {json.dumps(job)}, cmd: 'true'}}" for job in jobs]
    try:
        made = build_manifest.build("\n".join(spec), what).manifest.jobs
    except SpecErrors as error:
        raise SpecErrors([fault._replace(line=0) for fault in error.faults]) from None
    return {job.id: dict(job.metrics) for job in made}


def from_manifest(manifest: Manifest, run: Record, given: Mapping[str, Any]) -> list[Record]:
    """The jobs of a manifest as records without an id, in its order. `run`: what they have in common; `given`: rules of
    metrics for those that have none. `depends_on` names jobs of the manifest: see `linked`. Raises SpecErrors."""
    head = json.loads(manifests.encode(manifest._replace(jobs=(), phases=(), groups={})))
    settings = {key: value for key, value in head.items() if key in SETTINGS}
    needs = Dependencies(manifest)
    metrics = rules(given, [job.id for job in manifest.jobs if not job.metrics], "metrics")
    records = []
    for job in manifest.jobs:
        row = json.loads(json.dumps(manifests.job_to_json(job)))
        row |= {"depends_on": needs.resolved(job.id), "metrics": job.metrics or metrics[job.id]}
        columns = {JOB_COLUMNS[key]: row.pop(key) for key in list(row) if key in JOB_COLUMNS}
        row.pop("id")
        found = {**columns, "spec_job": job.id, "job": row, "settings": settings}
        record = {"priority": 0, **{key: value for key, value in found.items() if value not in ({}, [])}, **run}
        if "env" in columns and "env" in run:
            record["env"] = {**columns["env"], **run["env"]}
        records.append(record)
    return records


def linked(records: Sequence[Record]) -> list[Record]:
    """Records of one manifest that have got their ids: `depends_on` names them by these."""
    ids = {record["spec_job"]: record["id"] for record in records}
    return [
        {**record, "depends_on": [ids[one] for one in record["depends_on"]]} if "depends_on" in record else record
        for record in records
    ]
