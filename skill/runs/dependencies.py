"""The dependencies of a manifest's jobs, with groups and phases resolved. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from queue_manager.core.manifest import JobSpec, Manifest


class Need(NamedTuple):
    """One thing that a job waits for: `kind` is job, group or phase; `ids` are the jobs that have to be completed."""

    kind: str
    name: str
    ids: tuple[str, ...]


class Dependencies:
    """The needs of each job of one manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self.jobs: Mapping[str, JobSpec] = {job.id: job for job in manifest.jobs}
        self._groups = manifest.groups
        members: dict[str, list[str]] = {phase.name: [] for phase in manifest.phases}
        for job in manifest.jobs:
            members[job.phase].append(job.id)
        self.members = {name: tuple(ids) for name, ids in members.items()}
        # With match, what a job of the phase waits for stands in the job.
        self._gates = {
            phase.name: ()
            if phase.match
            else tuple(Need("phase", name, self.members[name]) for name in phase.depends_on)
            for phase in manifest.phases
        }

    def needs(self, job: str) -> Iterator[Need]:
        """Return what a job waits for, in the order of its spec."""
        spec = self.jobs[job]
        yield from self._gates[spec.phase]
        for name in spec.depends_on:
            if name in self._groups:
                yield Need("group", name, self._groups[name])
            else:
                yield Need("job", name, (name,))

    def edges(self) -> int:
        """Return the number of pairs of jobs of which one waits for the other, at most."""
        gates = {name: sum(len(need.ids) for need in needs) for name, needs in self._gates.items()}
        own = sum(len(self._groups.get(name, (name,))) for job in self.jobs.values() for name in job.depends_on)
        return own + sum(len(ids) * gates[name] for name, ids in self.members.items())

    def resolved(self, job: str) -> list[str]:
        """Return the ids of all jobs that a job waits for, each once."""
        return list(dict.fromkeys(name for need in self.needs(job) for name in need.ids))
