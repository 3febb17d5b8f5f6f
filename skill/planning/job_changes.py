"""Compare the jobs of a run with those of its changed spec: which changes a live run can apply, and which not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import JobSpec
from queue_manager.core.requests import CHANGEABLE

_NAMED = 5


class Differences(NamedTuple):
    """`changes`: new values by field, by job, of what can change while a job is in a run. `fixed`: the fields of each
    job that differ and cannot."""

    changes: Mapping[str, Mapping[str, Any]]
    fixed: Mapping[str, tuple[str, ...]]


def differences(there: Mapping[str, JobSpec], made: Iterable[JobSpec]) -> Differences:
    """Compare the jobs of a run, by their ids, with those of a spec; what only one of them has is left out."""
    changes: dict[str, dict[str, Any]] = {}
    fixed: dict[str, tuple[str, ...]] = {}
    for job in made:
        known = there.get(job.id)
        if known is None or known == job:
            continue
        differ = [name for name in JobSpec._fields if getattr(known, name) != getattr(job, name)]
        stays = tuple(name for name in differ if name not in CHANGEABLE)
        if stays:
            fixed[job.id] = stays
        else:
            changes[job.id] = {name: getattr(job, name) for name in differ}
    return Differences(changes, fixed)


def refusal(found: Differences, spec: str, run_id: str, *, update: bool) -> str | None:
    """Say why changed jobs of a spec are not applied, and what to do; None if they are.

    `update`: the option --update was given.
    """
    anew = f"give them new ids, or begin a new run: wavequeue run {spec}"
    if found.fixed:
        each = [f"{job} ({', '.join(fields)})" for job, fields in found.fixed.items()]
        return (
            f"{len(found.fixed)} of the jobs of {spec} are in run {run_id} with other settings that cannot change: "
            f"{listed(each, _NAMED)}. What can, with --update, is {listed(CHANGEABLE)}, of jobs that have not "
            f"completed; for everything else, {anew}"
        )
    if found.changes and not update:
        return (
            f"{len(found.changes)} of the jobs of {spec} are in run {run_id} with other settings: "
            f"{listed(found.changes, _NAMED)}. They differ only in {listed(fields(found.changes))}: change that in the "
            f"run with: wavequeue add {spec} --update --run {run_id}; or {anew}"
        )
    return None


def fields(changes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The fields that change, each once."""
    return [name for name in CHANGEABLE if any(name in one for one in changes.values())]
