"""Look for rented machines that idle, and stop or destroy them by the rule of skill.fleet.idle_rule."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from build_manifest.faults import SpecErrors, listed
from skill.common.errors import FailedError, UseError
from skill.common.units import count_text
from skill.fleet import idle_rule, ledger_file, ownership
from skill.fleet.idle_rule import Decision, Destroy, Facts, Keep, Stop, SyncFirst, SyncThenDestroy
from skill.fleet.ledger import Rental
from skill.fleet.provider import connected
from skill.hosts import health, probe, registry
from skill.hosts.health import ProbeResult
from skill.hosts.registry import Worker
from skill.operations import instances
from skill.operations.build_spec import Say
from skill.operations.pull_run import pull_run
from skill.providers.instances import RUNNING, Instance
from skill.providers.outcomes import Unknown
from skill.research.records import Record
from skill.research.store import Store
from skill.runs import assignment, directory
from skill.runs.open import on_hosts

_USED_MIB = 500
"""MiB of a GPU from which on somebody uses it."""

_WORDS: Mapping[type, str] = {
    Keep: "keep", Stop: "stop", SyncFirst: "pull first", SyncThenDestroy: "pull, then destroy", Destroy: "destroy",
}  # fmt: skip


class Machine(NamedTuple):
    """A rented machine that a worker names, and what is to become of it. `done`: what was done, in words; `fault`: why
    it was not done."""

    worker: str
    instance_id: int
    facts: Facts
    decision: Decision
    done: str | None = None
    fault: str | None = None


def look(where: Path) -> list[Machine]:
    """Look at all rented machines of workers.yaml (`where`), and decide. Changes nothing. Raises UseError, and
    FailedError where it is not known what is rented."""
    workers = [one for one in registry.Registry.load(where).workers.values() if one.instance_id is not None]
    if not workers:
        return []
    with connected() as client:
        listing = client.instances()
    if isinstance(listing, Unknown):
        raise FailedError(f"the rented instances are unknown, so nothing was decided: {listing.reason}")
    live = {one.id: one for one in listing}
    there = [worker for worker in workers if worker.instance_id in live]
    running = [worker for worker in there if live[worker.instance_id or 0].status == RUNNING]
    probed = probe.probe_all([registry.connect(worker, where) for worker in running])
    rentals = ledger_file.by_instance(where)
    runs = _queued(where)
    now = time.time()
    found = []
    for worker in there:
        instance = live[worker.instance_id or 0]
        seen = probed.get(worker.name)
        facts = _facts(where, worker, instance, seen, rentals.get(instance.id), runs, now)
        found.append(Machine(worker.name, instance.id, facts, idle_rule.decide(facts)))
    return found


def word(decision: Decision) -> str:
    """A decision in a word or two, for tables and programs."""
    return _WORDS[type(decision)]


def document(machine: Machine) -> dict[str, Any]:
    """What programs read of a machine."""
    row = machine._asdict() | {"facts": machine.facts._asdict(), "decision": word(machine.decision)}
    return {**row, "reason": machine.decision.reason}


def apply(where: Path, machine: Machine, say: Say) -> Machine:
    """Do what was decided of a machine; it is returned with what came of it. One is destroyed only while its results
    are here, and counts as destroyed once a query by its number confirms it. Raises nothing: what fails is reported."""
    decision, name = machine.decision, str(machine.instance_id)
    try:
        if isinstance(decision, Stop):
            return machine._replace(done=instances.stop_instance(where, name, _agreed).billing)
        if isinstance(decision, SyncFirst | SyncThenDestroy):
            left = _pull(where, machine.worker, say)
            if left is not None:
                return machine._replace(fault=f"not all of its results could be pulled: {left}")
            if isinstance(decision, SyncFirst):
                return machine._replace(done="its results are here now")
        if isinstance(decision, Destroy | SyncThenDestroy):
            return machine._replace(done=instances.destroy_instance(where, name, _agreed, say).billing)
    except (UseError, FailedError) as error:
        return machine._replace(fault=str(error))
    return machine


def _agreed(_found: ownership.RentedInstance, _billing: str) -> None:
    """What is done was shown before, and agreed to."""


def _facts(
    where: Path,
    worker: Worker,
    instance: Instance,
    seen: ProbeResult | None,
    rental: Rental | None,
    runs: Sequence[Record] | str,
    now: float,
) -> Facts:
    risk = ownership.at_risk(where, worker)
    facts = Facts(instance.status, unsynced=listed(risk, 3) or None, storage_dph=instance.storage_dph)
    if isinstance(runs, str):
        return facts._replace(unknown=runs)
    facts, begun = facts._replace(planned=_planned(worker, runs)), _begun(instance, rental)
    if rental is not None and not rental.ready:
        return facts._replace(unknown="it is not ready yet")
    if instance.status != RUNNING or seen is None:
        return facts._replace(idle_s=None if begun is None else now - begun)
    row = health.row(worker.name, seen)
    faults = row.faults if row.probed == health.Probed() else ()  # a full disk, for one, says nothing of idling
    unknown = row.unreachable or next(iter((*faults, *row.probed.unreadable)), None) or row.probed.cards_unreadable
    if unknown is not None:
        return facts._replace(unknown=unknown)
    since = [one for one in (row.probed.heartbeat_s, None if begun is None else now - begun) if one is not None]
    return facts._replace(busy=_busy(row), idle_s=min(since, default=None))


def _busy(row: health.Row) -> str | None:
    if row.probed.runs:
        return f"it runs {listed(row.probed.runs, 3)}"
    used = [
        card.number
        for card in row.probed.cards
        if card.total_mib is None or card.free_mib is None or card.total_mib - card.free_mib >= _USED_MIB
    ]
    return f"its GPU {listed(map(str, used), 8)} is in use" if used else None


def _begun(instance: Instance, rental: Rental | None) -> float | None:
    """When it was last begun, as far as that is known: an instance that never ran a job idles since then."""
    return instance.start_date if instance.start_date is not None else None if rental is None else rental.intended


def _queued(where: Path) -> list[Record] | str:
    """Runs of the research files that wait for a worker; where they cannot be read, that, in words."""
    try:
        return [run for run in Store(where).read("run") if run["state"] in ("pending", "claimed", "running")]
    except (SpecErrors, UseError) as error:
        return f"which runs are planned is not known: {str(error).splitlines()[0]}"


def _planned(worker: Worker, runs: Sequence[Mapping[str, Any]]) -> str | None:
    mine = [
        run["id"]
        for run in runs
        if run.get("worker") == worker.name
        or (run["state"] == "pending" and worker.enabled and run.get("pool") in (None, worker.pool))
    ]
    return f"{count_text(len(mine), 'run')} may go to it: {listed(mine, 3)}" if mine else None


def _pull(where: Path, worker: str, say: Say) -> str | None:
    """Pull from a worker what is not here of all runs on it. Returns what is still missing, or None."""
    for run in directory.of_project(where.parent, Path.cwd()):
        found = assignment.read(run) if on_hosts(run) else None
        if found is not None and any(part.host == worker for part in found.parts):
            pull_run(run, [worker], say)
    known = registry.Registry.load(where).workers[worker]
    return listed(ownership.at_risk(where, known), 3) or None
