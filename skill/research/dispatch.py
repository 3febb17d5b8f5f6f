"""Which pending run goes to which worker next, and as which job. Pure.

A run is claimed in its queue before anything is sent: with the worker, the wavequeue run there, and the id of the
request that brings it. Whoever finds a claim can so find out on the host what became of it, or send the same again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.manifest import FORMAT, VERSION, JobSpec, Manifest, decode, job_from_json
from skill.common.units import count_text
from skill.research.records import JOB_COLUMNS, Record

PENDING, CLAIMED, RUNNING, DONE = "pending", "claimed", "running", "done"
OPEN = frozenset({CLAIMED, RUNNING})
"""States of runs that a worker has, and that have not ended as far as is known."""
PHASE = "research"
"""The phase of runs that name none."""
FREE_MIB = 500
"""MiB of a GPU below which nobody else uses it."""
_DEFAULTS: Mapping[str, Any] = {"errexit": True, "wandb": True, "rendezvous": True, "shell_paths": True}
"""What a spec has where it says nothing of it."""


class Room(NamedTuple):
    """What a worker can take now: free GPUs, and runs without one."""

    gpus: int
    others: int


class Home(NamedTuple):
    """What runs have in common that may be jobs of one wavequeue run. `base`: directory of their spec, as their record
    names it; `settings`: keys of a manifest, as sorted text."""

    project: str
    base: str
    settings: str


def room(cards: Mapping[int, int], slots: int, rows: Iterable[Mapping[str, Any]]) -> Room:
    """The room of a worker. `cards`: used MiB of the GPUs that work, by index; `slots`: runs without a GPU that it
    takes at a time; `rows`: its jobs that have not ended, as in a state.

    A GPU that somebody else uses is no room, and a job that waits for one has taken its slot.
    """
    rows = list(rows)
    ours = {index for row in rows for index in row["gpus"]}
    theirs = sum(used >= FREE_MIB for index, used in cards.items() if index not in ours)
    without = sum(row["cards"] == 0 for row in rows)
    return Room(max(0, len(cards) - theirs - sum(row["cards"] for row in rows)), max(0, slots - without))


def waiting(records: Sequence[Record], pools: Mapping[str, str], pool: str | None) -> list[Record]:
    """The pending runs in the order in which they go: the highest priority first, then as they stand in the file.

    `pools`: of projects that name one; `pool`: leave out runs of another one. Runs that wait for others are left out
    until these are done.
    """
    done = {record["id"] for record in records if record["state"] == DONE}
    found = [
        record
        for record in records
        if record["state"] == PENDING
        and (pool is None or pool_of(record, pools) in (None, pool))
        and done.issuperset(record.get("depends_on", ()))
    ]
    return sorted(found, key=lambda record: -record["priority"])


def pool_of(record: Record, pools: Mapping[str, str]) -> str | None:
    """The pool that a run may run in; None: any worker."""
    named: str | None = record.get("pool", pools.get(record["project"]))
    return named


def choose(
    candidates: Sequence[Record], free: Room, worker: str, had: Mapping[str, str], pools: Mapping[str, str],
    pool: str | None,
) -> list[Record]:  # fmt: skip
    """Those candidates, in their order, that fit into a worker's room. `pool`: the worker's; `had`: the workers of
    other runs, since what a run waits for lies where that ran."""
    chosen = []
    for record in candidates:
        cards = record.get("gpus", 1)
        tied = {had[name] for name in record.get("depends_on", ()) if name in had}
        fits = cards <= free.gpus if cards else free.others > 0
        if fits and pool_of(record, pools) in (None, pool) and tied <= {worker}:
            chosen.append(record)
            free = free._replace(gpus=free.gpus - cards) if cards else free._replace(others=free.others - 1)
    return chosen


def waiting_words(records: Sequence[Record], pools: Mapping[str, str], pool: str | None) -> list[str]:
    """What pending runs wait for, a line for each need."""
    left = waiting(records, pools, pool)
    counts: dict[str, int] = {}
    for record in left:
        cards = record.get("gpus", 1)
        need = "a free slot" if not cards else "a free GPU" if cards == 1 else f"{cards} free GPUs"
        where = pool_of(record, pools)
        need += "" if where is None else f" in the pool {where}"
        counts[need] = counts.get(need, 0) + 1
    blocked = sum(one["state"] == PENDING for one in records) - len(waiting(records, pools, None))
    words = [
        f"{count_text(count, 'run')} {'waits' if count == 1 else 'wait'} for {need}" for need, count in counts.items()
    ]
    return [
        *words,
        *([f"{count_text(blocked, 'run')} not yet possible: what they wait for is not done"] if blocked else []),
    ]


def claimed(
    records: Sequence[Record], wanted: Mapping[str, tuple[str, str]], worker: str, now: str
) -> tuple[list[Record], list[str]]:
    """Claim runs: the records with these, and the ids. `wanted`: the wavequeue run and the request of each."""
    found, ids = [], []
    for record in records:
        if record["id"] in wanted:
            run, request = wanted[record["id"]]
            claim = {"state": CLAIMED, "worker": worker, "run": run, "claim": request, "claimed": now}
            found.append({**record, **claim})
            ids.append(record["id"])
        else:
            found.append(record)
    return found, ids


def released(record: Record) -> Record:
    """A run whose claim came to nothing, as if it had not been claimed."""
    gone = ("worker", "run", "claim", "claimed")
    return {**{key: value for key, value in record.items() if key not in gone}, "state": PENDING}


def is_first(record: Record) -> bool:
    """Whether a run is in the manifest with which its wavequeue run began, and not added to it later."""
    return bool(record["claim"] == record["run"])


def home(record: Record) -> Home:
    """What a run has in common with others in its wavequeue run."""
    base = record.get("spec", "").rpartition("/")[0]
    settings = repr(sorted(record.get("settings", {}).items(), key=lambda item: item[0]))
    return Home(record["project"], base, settings)


def job(record: Record) -> JobSpec:
    """The job that a run is. What it waits for is done when it is dispatched. Raises ManifestError."""
    columns = {key: record[name] for key, name in JOB_COLUMNS.items() if name in record and key != "depends_on"}
    return job_from_json({**record.get("job", {}), "phase": PHASE, **columns, "id": record["id"]})


def manifest(records: Sequence[Record]) -> Manifest:
    """The manifest that a wavequeue run begins with: runs of one home, at least one. Raises ManifestError."""
    jobs = tuple(job(record) for record in records)
    first = records[0]
    head = {**_DEFAULTS, **first.get("settings", {}), "format": FORMAT, "version": VERSION, "jobs": []}
    phases = [{"name": name} for name in dict.fromkeys(one.phase for one in jobs)]
    return decode(json.dumps({**head, "project": first["project"], "phases": phases}))._replace(jobs=jobs)
