"""Assign jobs that are added to a run on hosts. Pure: the same input gives the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core import gpu_models
from queue_manager.core.events import JobsAdded
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from skill.common.errors import FailedError, UseError
from skill.runs.dependencies import Dependencies
from skill.runs.digest import FINAL, Row


class Load(NamedTuple):
    """A host that can take jobs now: the models of its GPUs, where they were read, and its unfinished jobs."""

    host: str
    cards: tuple[str, ...]
    unfinished: int


class Added(NamedTuple):
    """What one host gets: jobs, and the phases and groups that they name."""

    phases: tuple[Phase, ...]
    groups: Mapping[str, tuple[str, ...]]
    specs: tuple[JobSpec, ...]


def loads(hosts: Sequence[Row], cards: Sequence[Row]) -> list[Load]:
    """Return the hosts that answer, from a merged document's `meta.hosts` and `gpus`."""
    return [
        Load(
            row["name"],
            tuple(card["name"] for card in cards if card["host"] == row["name"] and card["total_mib"] is not None),
            sum(count for status, count in row["counts"].items() if status not in FINAL),
        )
        for row in hosts
        if row["reachable"] and row["state"] != "lost"
    ]


def share(
    whole: Manifest, new: Sequence[JobSpec], owner: Mapping[str, str], document: Mapping[str, Any]
) -> dict[str, JobsAdded]:
    """Assign new jobs to the hosts of a run, by its state; see `assign`."""
    given = assign(whole, new, owner, loads(document["meta"]["hosts"], document["gpus"]))
    return {host: JobsAdded(part.phases, part.groups, part.specs) for host, part in given.items()}


def assign(
    whole: Manifest, new: Sequence[JobSpec], owner: Mapping[str, str], hosts: Sequence[Load]
) -> dict[str, Added]:
    """Assign new jobs. `whole`: the run's manifest with them; `owner`: the host of each existing job.

    Jobs go to the host of what they wait for; jobs that depend on each other stay together. Others go to the host with
    the fewest unfinished jobs per GPU, among those with enough GPUs if any has. Raises UseError where jobs wait for
    jobs of two hosts, FailedError where no host answers.
    """
    dependencies = Dependencies(whole)
    left = {load.host: load for load in hosts}
    given: dict[str, list[JobSpec]] = {}
    faults = []
    for cluster, needed in _clusters(new, owner, dependencies):
        if len(needed) > 1:
            some = "; ".join(f"{job} of {host}" for host, job in list(needed.items())[:3])
            faults.append(f"{cluster[0].id} depends on jobs of {len(needed)} hosts ({some})")
            continue
        host = next(iter(needed)) if needed else _least(cluster, list(left.values()))
        given.setdefault(host, []).extend(cluster)
        if host in left:
            left[host] = left[host]._replace(unfinished=left[host].unfinished + len(cluster))
    if faults:
        raise UseError(
            f"a job that is added can only wait for jobs of one host: {listed(faults, 5)}. Submit these jobs as a run "
            "of their own once the others have completed: wavequeue submit SPEC"
        )
    order = {job.id: n for n, job in enumerate(new)}
    return {
        host: _added(whole, dependencies, sorted(jobs, key=lambda job: order[job.id])) for host, jobs in given.items()
    }


def _clusters(
    new: Sequence[JobSpec], owner: Mapping[str, str], dependencies: Dependencies
) -> list[tuple[list[JobSpec], dict[str, str]]]:
    """New jobs that are tied to each other, in order; and a job that they wait for on each host where there is one."""
    ids = {job.id for job in new}
    parent: dict[object, object] = {job.id: job.id for job in new}

    def root(node: object) -> object:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    needed: dict[object, dict[str, str]] = {}
    for job in new:
        for need in dependencies.needs(job.id):
            key = (need.kind, need.name)
            if key not in parent:  # a need of its own, so that its members are walked once and not for each waiter
                parent[key] = key
                for name in need.ids:
                    if name in ids:
                        parent[root(name)] = root(key)
                    elif name in owner:
                        needed.setdefault(key, {}).setdefault(owner[name], name)
            parent[root(job.id)] = root(key)
    jobs: dict[object, list[JobSpec]] = {}
    for job in new:
        jobs.setdefault(root(job.id), []).append(job)
    hosts: dict[object, dict[str, str]] = {}
    for node, found in needed.items():
        hosts[root(node)] = {**found, **hosts.get(root(node), {})}
    return [(cluster, hosts.get(first, {})) for first, cluster in jobs.items()]


def _least(cluster: Sequence[JobSpec], hosts: Sequence[Load]) -> str:
    if not hosts:
        raise FailedError("no host of the run answers now, so none can be given jobs; try again when one does")
    wanted = max(job.gpus for job in cluster)
    models = {job.gpu_model for job in cluster if job.gpus and job.gpu_model}
    able = [load for load in hosts if all(any(gpu_models.fits(one, card) for card in load.cards) for one in models)]
    if not able:
        there = "; ".join(f"{load.host}: {gpu_models.counted(load.cards) or 'none'}" for load in hosts)
        asked = " and ".join(sorted(gpu_models.words(one) for one in models))
        raise FailedError(
            f"job {cluster[0].id} needs a GPU of model {asked}, which no host of the run that answers has ({there})"
        )
    fitting = [load for load in able if len(load.cards) >= wanted] or able
    return min(fitting, key=lambda load: load.unfinished / max(1, len(load.cards) if wanted else 1)).host


def _added(whole: Manifest, dependencies: Dependencies, jobs: Sequence[JobSpec]) -> Added:
    """The jobs with what they name: a host knows the run's first phases, but not those that were added elsewhere."""
    wanted = {job.phase for job in jobs}
    by_name = {phase.name: phase for phase in whole.phases}
    todo = list(wanted)
    while todo:
        fresh = set(by_name[todo.pop()].depends_on) - wanted
        wanted |= fresh
        todo += fresh
    groups = {need.name: need.ids for job in jobs for need in dependencies.needs(job.id) if need.kind == "group"}
    return Added(tuple(phase for phase in whole.phases if phase.name in wanted), groups, tuple(jobs))
