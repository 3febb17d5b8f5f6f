"""Give pending runs of the research files to workers that have room: each a job of an ordinary run on that host.

Every worker is seen to by itself, and by one dispatcher at a time. What a dispatcher that was killed had claimed is
settled first: the host tells what of it is there, and the rest is sent again under the same id.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.times import iso
from skill.common.errors import FailedError, UseError
from skill.common.files import locked
from skill.hosts.registry import Registry, Worker
from skill.operations.build_spec import Say, ignore
from skill.research import dispatch, projects
from skill.research.dispatch import Room
from skill.research.records import Record
from skill.research.store import Store
from skill.runs import directory

_AT_ONCE = 16
_ANY = Room(1 << 20, 1 << 20)


class Seen(NamedTuple):
    """A worker that answered. `usable`: those of the wavequeue runs it was asked about that can take more jobs."""

    room: Room
    usable: frozenset[str]


class Launched(NamedTuple):
    """What became of claimed runs on their worker. `there`: the worker has them; `refused`: why it will not take one,
    by id; `unsent`: nothing of these was sent for sure. All others may be there or not. `why`: what went wrong."""

    there: frozenset[str]
    refused: Mapping[str, str] = {}
    unsent: frozenset[str] = frozenset()
    why: str = ""


class Workers(Protocol):
    """The way to workers. What the world does wrong comes back in words."""

    def look(self, worker: Worker, records: Sequence[Record]) -> Seen | str:
        """What a worker can take now. `records`: the runs that it has, as far as the queue knows."""

    def launch(self, worker: Worker, records: Sequence[Record]) -> Launched:
        """Bring claimed runs to their worker: those that are there already are left alone."""


class Dispatched(NamedTuple):
    """A run that has gone to a worker, as a job of the wavequeue run `run`."""

    id: str
    worker: str
    run: str


class Outcome(NamedTuple):
    """What was dispatched, of how many that waited; and what else to print, a line each. `left`: what the others
    wait for, in words. `faults`: whether some of it went wrong, and did not just find no room."""

    dispatched: tuple[Dispatched, ...]
    waiting: int
    notes: tuple[str, ...]
    faults: bool = False
    left: tuple[str, ...] = ()


class _Worked:
    """What became of one worker, as it goes."""

    def __init__(self) -> None:
        self.dispatched: list[Dispatched] = []
        self.notes: list[str] = []
        self.faults = False


def dispatch_runs(workers: Path, pool: str | None = None, *, reconcile: bool = True, say: Say = ignore) -> Outcome:
    """Dispatch pending runs to the enabled workers of a pool (None: of all pools).

    `reconcile`: first compare rented workers with their provider, in one call. Raises UseError and SpecErrors for what
    is wrong with files, or where there is no such pool; what goes wrong with one worker stops no other.
    """
    from skill.operations.launch_runs import Hosts

    store = Store(workers)
    store.read("run")
    known = Registry.load(workers)
    meant = _workers(known, pool)
    notes: list[str] = []
    if reconcile and any(worker.instance_id is not None for worker in meant):
        from skill.fleet.drift import is_known_gone
        from skill.fleet.reconcile import reconcile_before

        notes += reconcile_before(workers, [worker.name for worker in meant])
        known = Registry.load(workers)
        now = [known.workers[worker.name] for worker in meant if worker.name in known.workers]
        meant = [worker for worker in now if worker.enabled and not is_known_gone(worker)]
        lost = [worker.name for worker in now if worker not in meant]
        notes += [f"{listed(lost)}: left out, since the rented machine has gone"] if lost else []
    found = dispatch_to(store, meant, Hosts(workers, store, say), pool)
    return found._replace(notes=(*notes, *found.notes))


def _workers(known: Registry, pool: str | None) -> list[Worker]:
    """The enabled workers of a pool, or all. Raises UseError for a rented machine that does not say which it is."""
    enabled = [worker for worker in known.workers.values() if worker.enabled]
    meant = enabled if pool is None else known.in_pool(pool)
    if not meant:
        raise UseError("no worker is enabled in workers.yaml; register one with: wavequeue hosts add NAME USER@HOST")
    rented = {worker.pool for worker in meant if worker.instance_id is not None and worker.pool is not None}
    for worker in meant:
        if worker.instance_id is None and (worker.pool in rented or _looks_rented(worker)):
            raise UseError(
                f"{worker.name} of the rented pool {worker.pool} has no instance_id, so that nothing can tell whether "
                f"its address is still its own; write instance_id: NUMBER for it in {known.path} (see: wavequeue vast "
                "ls), or put it into another pool"
            )
    return meant


def _looks_rented(worker: Worker) -> bool:
    return worker.ssh is not None and worker.ssh.host.endswith(".vast.ai")


def dispatch_to(store: Store, workers: Sequence[Worker], hosts: Workers, pool: str | None = None) -> Outcome:
    """Dispatch to these workers, all at once. Raises UseError and SpecErrors for what is wrong with files."""
    records = store.read("run")
    pools = _pools(store, records)
    asked = len(dispatch.waiting(records, pools, pool))
    names = {worker.name for worker in workers}
    asked += sum(record["state"] == dispatch.CLAIMED and record.get("worker") in names for record in records)
    if not asked:
        return Outcome((), 0, (), left=tuple(dispatch.waiting_words(records, pools, pool)))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        worked = list(threads.map(lambda worker: _serve(store, worker, hosts, pool, pools), workers))
    order = {record["id"]: number for number, record in enumerate(records)}
    done = sorted(
        (one for each in worked for one in each.dispatched),
        key=lambda one: (-_priority(records, one.id), order.get(one.id, len(order))),
    )
    notes = [note for each in worked for note in each.notes]
    left = tuple(dispatch.waiting_words(store.read("run"), pools, pool))
    return Outcome(tuple(done), max(asked, len(done)), tuple(notes), any(each.faults for each in worked), left)


def _priority(records: Sequence[Record], name: str) -> int:
    return next((record["priority"] for record in records if record["id"] == name), 0)


def _pools(store: Store, records: Sequence[Record]) -> dict[str, str]:
    """The pools of projects that name one, of those that have runs."""
    found = {}
    for name in dict.fromkeys(record["project"] for record in records if record["state"] == dispatch.PENDING):
        project = projects.read(store.paths, name)
        if "pool" in project:
            found[name] = project["pool"]
    return found


def _serve(store: Store, worker: Worker, hosts: Workers, pool: str | None, pools: Mapping[str, str]) -> _Worked:
    """Settle what was claimed for a worker, then claim and launch what it has room for."""
    worked = _Worked()
    with locked(store.paths.lock.parent / "dispatch" / f"{worker.name}.lock"):
        try:
            mine = _of_worker(store, worker)
            left = [record for record in mine if record["state"] == dispatch.CLAIMED]
            if left:
                _settle(store, worker, left, hosts.launch(worker, left), worked)
                mine = _of_worker(store, worker)
            if not _chosen(store.read("run"), worker, _ANY, pool, pools):
                return worked
            seen = hosts.look(worker, mine)
            if isinstance(seen, str):
                worked.notes.append(f"{worker.name}: {seen}")
                return worked
            claims = _claim(store, worker, seen, pool, pools)
            if claims:
                _settle(store, worker, claims, hosts.launch(worker, claims), worked)
        except (FailedError, OSError) as error:
            worked.notes.append(f"{worker.name}: {error}")
            worked.faults = True
    return worked


def _of_worker(store: Store, worker: Worker) -> list[Record]:
    return [record for record in store.read("run") if record.get("worker") == worker.name]


def _chosen(
    records: Sequence[Record], worker: Worker, room: Room, pool: str | None, pools: Mapping[str, str]
) -> list[Record]:
    """The pending runs that a worker with so much room gets next."""
    had = {record["id"]: record["worker"] for record in records if "worker" in record}
    return dispatch.choose(dispatch.waiting(records, pools, pool), room, worker.name, had, pools, worker.pool)


def _claim(store: Store, worker: Worker, seen: Seen, pool: str | None, pools: Mapping[str, str]) -> list[Record]:
    """Write down which pending runs this worker gets, before anything is sent."""
    now = time.time()
    ids: list[str] = []

    def edit(records: list[Record]) -> list[Record]:
        nonlocal ids
        chosen = _chosen(records, worker, seen.room, pool, pools)
        targets = _targets(store, worker, records, chosen, seen, now)
        edited, ids = dispatch.claimed(records, targets, worker.name, iso(now) or "")
        return edited

    records = store.change("run", edit)
    return [record for record in records if record["id"] in set(ids)]


def _targets(
    store: Store, worker: Worker, records: Sequence[Record], chosen: Sequence[Record], seen: Seen, now: float
) -> dict[str, tuple[str, str]]:
    """The wavequeue run and the request for each run: the newest of its home on this worker, or one that is begun."""
    newest = {
        dispatch.home(record): record["run"]
        for record in records
        if record.get("worker") == worker.name and record.get("run") in seen.usable
    }
    request = f"add-{uuid.uuid4().hex[:16]}"
    begun: dict[dispatch.Home, str] = {}
    taken = {record["run"] for record in records if "run" in record}
    found = {}
    for record in chosen:
        home = dispatch.home(record)
        if home in newest:
            found[record["id"]] = newest[home], request
            continue
        if home not in begun:
            folder = store.paths.study(home.project).root / LOCAL_RUNS
            begun[home] = _new_name(f"{home.project}-{worker.name}", folder, taken, now)
            taken.add(begun[home])
        found[record["id"]] = begun[home], begun[home]
    return found


def _new_name(prefix: str, folder: Path, taken: set[str], now: float) -> str:
    first = name = directory.run_id(prefix, now)
    number = 1
    while name in taken or (folder / name).exists():
        number += 1
        name = f"{first}-{number}"
    return name


def _settle(store: Store, worker: Worker, claims: Sequence[Record], launched: Launched, worked: _Worked) -> None:
    """Write down what became of claims."""
    meant = {record["id"]: record for record in claims}

    def settled(record: Record) -> Record:
        name = record["id"]
        if name not in meant or record["state"] != dispatch.CLAIMED or record["claim"] != meant[name]["claim"]:
            return record
        if name in launched.there:
            return {**record, "state": dispatch.RUNNING}
        if name in launched.refused:
            return {**record, "state": "stuck", "error": launched.refused[name]}
        return dispatch.released(record) if name in launched.unsent else record

    store.change("run", lambda records: [settled(record) for record in records])
    worked.dispatched += [
        Dispatched(record["id"], worker.name, record["run"]) for record in claims if record["id"] in launched.there
    ]
    notes = [f"{worker.name}: {launched.why}"] if launched.why else []
    notes += [f"{name}: {why}" for name, why in launched.refused.items()]
    worked.notes += notes
    worked.faults = worked.faults or bool(notes)
