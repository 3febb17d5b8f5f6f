"""Add jobs to a run, and change jobs that it already has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.command_line import check_job
from build_manifest.faults import SpecErrors, listed
from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.requests import Request
from skill.common.errors import UseError
from skill.operations.build_spec import Given, Say, beside, build, file_of, ignore, settle
from skill.operations.change_run import Changed
from skill.planning import assign_added, job_changes
from skill.runs import requests
from skill.runs.access import RunAccess
from skill.runs.directory import Document, Run
from skill.runs.open import open_run

_SHARED = ("cwd", "conda", "venv", "conda_hook", "uv", "module", "container", "env")
"""Fields that all jobs of a run have in common; added jobs get the run's values."""
Changes = Mapping[str, Mapping[str, Any]]
"""Changes to existing jobs, by job and field."""


class Added(NamedTuple):
    """What was added and changed. `None` as the outcome of new jobs: there were none."""

    added: Changed | None
    updated: Changed | None


def add_spec(run: Run, spec: Given, *, update: bool = False) -> Added:
    """Add the jobs of a spec that the run does not have yet.

    `update`: also change existing jobs that have not completed, where their fields may change. Raises SpecErrors,
    FailedError, and UseError where an existing job differs and stays as it is.
    """
    with open_run(run) as there:
        document = there.look()
        request, changes = _from_spec(spec, run, there.manifest, settled=not there.names, update=update)
        added = _add(run, there, document, request) if request.specs else None
        return Added(added, _update(run, there, document, changes) if changes else None)


class Additions(NamedTuple):
    """What a spec would add to a run, and which of the run's jobs it would change."""

    new: tuple[str, ...]
    changed: tuple[str, ...]


def look_at_spec(run: Run, spec: Given, *, update: bool = False) -> Additions:
    """Return what `add_spec` would do. Raises as it does."""
    with open_run(run) as there:
        request, changes = _from_spec(spec, run, there.manifest, settled=not there.names, update=update)
        return Additions(tuple(job.id for job in request.specs), tuple(changes))


def look_at_job(run: Run, job: JobSpec) -> Sequence[str]:
    """Return the warnings that `add_job` would give. Raises as it does."""
    with open_run(run) as there:
        _one_job(job, run, there.manifest)
    return _warnings(job)


def add_job(run: Run, job: JobSpec, warn: Say = ignore) -> Changed:
    """Add one job to a run. `warn` gets a line for each warning. Raises UseError for an invalid job, and
    FailedError."""
    with open_run(run) as there:
        document = there.look()
        for text in _warnings(job):
            warn(text)
        return _add(run, there, document, _one_job(job, run, there.manifest))


def _warnings(job: JobSpec) -> Sequence[str]:
    try:
        return check_job(job.cmd, job.expected_output, job.gpus)
    except SpecErrors as error:
        raise UseError(str(error)) from None


def _add(run: Run, there: RunAccess, document: Document, request: Request) -> Changed:
    return Changed(run, request, tuple(there.add(document, request, assign_added.share)))


def _update(run: Run, there: RunAccess, document: Document, changes: Changes) -> Changed:
    """Change jobs of a run, and report which changes wait for a person."""
    request = Request(requests.new_id("update"), "update", changes=changes)
    outcomes = tuple(there.request(document, request, start=True))
    stuck = [row["id"] for row in document["jobs"] if row["id"] in changes and row["status"] == "stuck"]
    again = f"wavequeue retry JOB --run {run.id}"
    notes = (f"stuck until they are retried: {listed(stuck, 5)}; {again}",) if stuck else ()
    return Changed(run, request, outcomes, notes=notes)


def _one_job(job: JobSpec, run: Run, there: Manifest) -> Request:
    fault = id_fault(job.id)
    if fault:
        raise UseError(f"the id {job.id!r} {fault}")
    ids = {one.id for one in there.jobs}
    if job.id in ids:
        raise UseError(f"job {job.id} already exists; give the new one another id")
    for name in job.depends_on:
        if name not in ids:
            raise UseError(requests.unknown(name, ids, run.id))
    phases = () if any(one.name == job.phase for one in there.phases) else (Phase(job.phase),)
    return Request(requests.new_id("add"), "add", phases=phases, specs=(job,))


def _from_spec(spec: Given, run: Run, there: Manifest, *, settled: bool, update: bool) -> tuple[Request, Changes]:
    """Return the jobs of a spec that are new to a run, and the changes to existing ones.

    `settled`: the run's paths are absolute, as on this machine. Raises UseError where an existing job differs and stays
    as it is.
    """
    made = build(spec).manifest
    if settled:
        made = settle(made, beside(spec))
    differ = [name for name in _SHARED if getattr(made, name) != getattr(there, name)]
    if differ:
        raise UseError(
            f"{spec} and run {run.id} differ in {listed(differ)}, which all jobs of a run share; "
            f"restore it, set it in the jobs instead, or start a new run: wavequeue run {file_of(spec)}"
        )
    known = {job.id: job for job in there.jobs}
    differ_in = job_changes.differences(known, made.jobs)
    refused = job_changes.refusal(differ_in, file_of(spec), run.id, update=update)
    if refused is not None:
        raise UseError(refused)
    new = tuple(job for job in made.jobs if job.id not in known)
    request = Request(requests.new_id("add"), "add", phases=made.phases, groups=made.groups, specs=new)
    return request, differ_in.changes
