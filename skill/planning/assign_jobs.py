"""Assign jobs to hosts. Pure: the same input gives the same answer.

Jobs connected by dependencies form a cluster, which is never divided if one host can run all of it. Clusters with the
smallest choice of hosts come first, among these the longest, each on the host that finishes it soonest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from queue_manager.core import gpu_models
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.model import Need
from queue_manager.core.placement import impossible
from queue_manager.core.readings import Card, may_use
from queue_manager.core.state_types import need_of
from skill.runs.assignment import Part, marks
from skill.runs.dependencies import Dependencies

MIN_SPEED = 1e-3
_UNKNOWN = 1.0
"""Seconds of a job where no phase was ever measured: then only the numbers of jobs count."""


class Offer(NamedTuple):
    """A host that can take jobs: its GPUs, its cores, and its speed relative to the others (1.0: equal)."""

    name: str
    cards: tuple[Card, ...] = ()
    cores: int = 1
    speed: float = 1.0


class Transfer(NamedTuple):
    """The output of `job`, which runs on host `src`, is needed on host `dst`."""

    job: str
    src: str
    dst: str


class Sharing(NamedTuple):
    """`parts`: the jobs of each host that gets any, in the manifest's order. `unplaced`: why a job has no host."""

    parts: Mapping[str, tuple[str, ...]]
    carried: tuple[Transfer, ...]
    unplaced: Mapping[str, str]


_Kind = tuple[Need, str]
"""Jobs that cost the same on each host: what they need of its cards, and their phase."""


class _Cluster(NamedTuple):
    """Jobs that go to one host, in the manifest's order, and how many there are of each kind."""

    jobs: tuple[JobSpec, ...]
    kinds: Mapping[_Kind, int]


def share(manifest: Manifest, offers: Sequence[Offer], seconds: Mapping[str, float] | None = None) -> Sharing:
    """Assign the jobs of a manifest to hosts.

    `seconds`: duration of a job of each phase in earlier runs. A job that no host can ever run is unplaced, and so is
    every job that waits for it. `speed` of an offer below 0.001 counts as that.
    """
    dependencies = Dependencies(manifest)
    unplaced = _unplaced(manifest, dependencies, offers)
    jobs = [job for job in manifest.jobs if job.id not in unplaced]
    scale = _Scale(manifest, offers, seconds or {})
    whole = [_cluster(ids) for ids in _tied(jobs, dependencies)]
    pieces = [piece for cluster in whole for piece in scale.pieces(cluster)]
    hosts = _balance(pieces, scale)
    where = {job.id: host for piece, host in zip(pieces, hosts, strict=True) for job in piece.jobs}
    parts: dict[str, list[str]] = {}
    for job in jobs:
        parts.setdefault(offers[where[job.id]].name, []).append(job.id)
    shared = {offer.name: tuple(parts[offer.name]) for offer in offers if offer.name in parts}
    carried = tuple(_carried(manifest, shared)) if len(pieces) > len(whole) else ()
    return Sharing(shared, carried, unplaced)


def all_on(manifest: Manifest, offer: Offer) -> Sharing:
    """Assign all jobs to one host, whether it can run them or not."""
    return Sharing({offer.name: tuple(job.id for job in manifest.jobs)}, (), {})


def unservable(need: Need, manifest: Manifest, offer: Offer) -> str | None:
    """Say why a host can never meet such a need; None if it can."""
    wanted = manifest.gpus
    usable = [card for card in offer.cards if may_use(card.index, wanted)]
    return impossible(need, usable, wanted)


def _unplaced(manifest: Manifest, dependencies: Dependencies, offers: Sequence[Offer]) -> dict[str, str]:
    """Why each job that cannot run anywhere cannot, in the manifest's order."""
    if not offers:
        return {job.id: "there is no host" for job in manifest.jobs}
    why: dict[Need, str | None] = {}
    for need in {need_of(job): None for job in manifest.jobs}:
        words = [(offer.name, unservable(need, manifest, offer)) for offer in offers]
        hopeless = all(reason for _, reason in words)
        why[need] = "; ".join(f"{name}: {reason}" for name, reason in words) if hopeless else None
    found = {job.id: reason for job in manifest.jobs if (reason := why[need_of(job)])}
    if not found:
        return found
    # A job comes after what it waits for nowhere but in the graph: go on until nothing more is found.
    waiters: dict[tuple[str, str], list[str]] = {}
    nodes_of: dict[str, list[tuple[str, str]]] = {}
    for job in manifest.jobs:
        for need_ in dependencies.needs(job.id):
            key = need_.kind, need_.name
            if key not in waiters:
                for member in need_.ids:
                    nodes_of.setdefault(member, []).append(key)
            waiters.setdefault(key, []).append(job.id)
    todo = list(found)
    while todo:
        root = todo.pop()
        for key in nodes_of.get(root, ()):
            for waiter in waiters.pop(key, ()):
                if waiter not in found:
                    found[waiter] = f"waits for {root}, which no host can run"
                    todo.append(waiter)
    return {job.id: found[job.id] for job in manifest.jobs if job.id in found}


def _tied(jobs: Sequence[JobSpec], dependencies: Dependencies) -> list[list[JobSpec]]:
    """Jobs by cluster, each in the manifest's order, the cluster of the first job first."""
    parent: dict[object, object] = {job.id: job.id for job in jobs}

    def root(node: object) -> object:
        while parent[node] != node:
            parent[node] = node = parent[parent[node]]
        return node

    for job in jobs:
        for need in dependencies.needs(job.id):
            # A group or phase is one node of its own, so that its members are joined once and not for each waiter.
            node = need.name if need.kind == "job" else (need.kind, need.name)
            if node not in parent:
                parent[node] = node
                for member in need.ids:
                    parent[root(member)] = root(node)
            parent[root(job.id)] = root(node)
    found: dict[object, list[JobSpec]] = {}
    for job in jobs:
        found.setdefault(root(job.id), []).append(job)
    return list(found.values())


def _cluster(jobs: Iterable[JobSpec]) -> _Cluster:
    taken = tuple(jobs)
    return _Cluster(taken, Counter((need_of(job), job.phase) for job in taken))


class _Load(NamedTuple):
    """Seconds that a host is busy: its cards, and its cores. The two do not wait for each other."""

    cards: float = 0.0
    cores: float = 0.0

    def plus(self, other: _Load) -> _Load:
        return _Load(self.cards + other.cards, self.cores + other.cores)

    def until(self) -> tuple[float, float]:
        """When it is done; where that is the same, less in all comes first."""
        return max(self), sum(self)


class _Scale:
    """What each kind of job costs on each host."""

    def __init__(self, manifest: Manifest, offers: Sequence[Offer], seconds: Mapping[str, float]) -> None:
        self.offers = offers
        self._manifest = manifest
        known = [value for value in seconds.values() if value > 0]
        usual = sum(known) / len(known) if known else _UNKNOWN
        self._seconds = {phase.name: seconds.get(phase.name, 0.0) or usual for phase in manifest.phases}
        self._costs: dict[_Kind, tuple[_Load | None, ...]] = {}

    def costs(self, kind: _Kind) -> tuple[_Load | None, ...]:
        """What one job costs on each host; None where it cannot run."""
        if kind not in self._costs:
            self._costs[kind] = tuple(self._cost(kind, offer) for offer in self.offers)
        return self._costs[kind]

    def _cost(self, kind: _Kind, offer: Offer) -> _Load | None:
        need, phase = kind
        if unservable(need, self._manifest, offer):
            return None
        length = self._seconds[phase] / max(offer.speed, MIN_SPEED)
        if not need.gpus:
            return _Load(cores=length / (self._manifest.max_parallel or max(1, offer.cores)))
        return _Load(cards=length / at_once(need, self._manifest, offer))

    def cost(self, cluster: _Cluster) -> tuple[_Load | None, ...]:
        """The same for a whole cluster."""
        sums: list[_Load | None] = [_Load()] * len(self.offers)
        for kind, count in cluster.kinds.items():
            for n, one in enumerate(self.costs(kind)):
                so_far = sums[n]
                more = one and _Load(one.cards * count, one.cores * count)
                sums[n] = so_far.plus(more) if so_far is not None and more is not None else None
        return tuple(sums)

    def pieces(self, cluster: _Cluster) -> Iterator[_Cluster]:
        """The cluster itself if one host can serve all of it; else few pieces, each of which one host can."""
        while cluster.jobs and all(cost is None for cost in self.cost(cluster)):
            most = max(range(len(self.offers)), key=lambda n: (self._served(cluster, n), -n))
            yield _cluster(job for job in cluster.jobs if self._serves(job, most))
            cluster = _cluster(job for job in cluster.jobs if not self._serves(job, most))
        if cluster.jobs:
            yield cluster

    def _served(self, cluster: _Cluster, n: int) -> int:
        return sum(count for kind, count in cluster.kinds.items() if self.costs(kind)[n] is not None)

    def _serves(self, job: JobSpec, n: int) -> bool:
        return self.costs((need_of(job), job.phase))[n] is not None


def serving(need: Need, manifest: Manifest, offer: Offer) -> list[Card]:
    """Return the GPUs of a host that the run may use and that are of a model that a job with such a need takes."""
    cards = [card for card in offer.cards if may_use(card.index, manifest.gpus)]
    return [card for card in cards if gpu_models.fits(need.models, card.name)]


def at_once(need: Need, manifest: Manifest, offer: Offer) -> int:
    """Return how many jobs with such a need a host runs at a time; at least 1."""
    cards = serving(need, manifest, offer)
    slots = len(cards) if need.mib is None else sum(card.total_mib // need.mib for card in cards)
    slots = max(1, slots // need.gpus)
    return slots if manifest.max_parallel is None else min(slots, manifest.max_parallel)


def _balance(clusters: Sequence[_Cluster], scale: _Scale) -> list[int]:
    """The host of each cluster, as an index of the offers."""
    costs = [scale.cost(cluster) for cluster in clusters]

    def turn(n: int) -> tuple[int, float, int]:
        fitting = [cost for cost in costs[n] if cost is not None]
        return len(fitting), -min(max(cost) for cost in fitting), n

    loads = [_Load()] * len(scale.offers)
    hosts = [0] * len(clusters)
    for n in sorted(range(len(clusters)), key=turn):
        after = {m: loads[m].plus(cost) for m, cost in enumerate(costs[n]) if cost is not None}
        hosts[n] = min(after, key=lambda m: (after[m].until(), m))
        loads[hosts[n]] = after[hosts[n]]
    return hosts


def _carried(manifest: Manifest, parts: Mapping[str, tuple[str, ...]]) -> Iterator[Transfer]:
    """Whose output has to go where."""
    host_of = {job: host for host, jobs in parts.items() for job in jobs}
    for host, jobs in parts.items():
        needed = {job for mark in marks(manifest, Part(host, jobs), "") for job in mark.jobs}
        yield from (Transfer(job.id, host_of[job.id], host) for job in manifest.jobs if job.id in needed)
