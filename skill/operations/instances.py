"""Rented instances: list them, compare workers.yaml with them, stop, start and destroy one."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from skill.common.errors import FailedError
from skill.fleet import (
    await_ready,
    confirm,
    inventory,
    ledger,
    ledger_file,
    ownership,
    reconcile,
    settings,
    ssh_key,
    startup,
)
from skill.fleet.drift import GONE
from skill.fleet.inventory import Inventory
from skill.fleet.ownership import RentedInstance
from skill.fleet.provider import connected
from skill.fleet.reconcile import Outcome
from skill.fleet.startup import Broken
from skill.hosts import registry
from skill.operations.build_spec import Say
from skill.providers.outcomes import Gone, Refused, Unknown
from skill.providers.ownership import NotOurs
from skill.providers.provider import Provider

Agree = Callable[[RentedInstance, str], None]
"""Is shown an instance, and in words what of it is billed, before it is changed; raises where it is not to be."""


def list_instances(where: Path) -> Inventory | Unknown:
    """What is rented beside what workers.yaml (`where`) names, and what it costs. Raises UseError."""
    workers = registry.Registry.load(where).workers.values()
    with connected() as client:
        live = client.instances()
    return live if isinstance(live, Unknown) else inventory.take_inventory(live, workers)


def reconcile_workers(where: Path, *, fix: bool) -> Outcome | Unknown:
    """Compare workers.yaml (`where`) with what is rented; with `fix`, write what is so into it. Raises UseError."""
    with connected() as client:
        return reconcile.reconcile(client, where, fix=fix)


class InstanceStatus(NamedTuple):
    """How an instance is after it was changed. `status`: None where that is unknown; `billing`: what of it is billed,
    in words."""

    id: int
    worker: str | None
    status: str | None
    billing: str


def stop_instance(where: Path, which: str, agree: Agree) -> InstanceStatus:
    """Stop an instance of ours: a number, or the name of a worker in workers.yaml (`where`). Its disk is still billed.

    Raises UseError where it is not ours, and FailedError where it is not known to be stopped.
    """
    with connected() as client:
        found = _there(client, where, which)
        agree(found, _billing(found))
        fault = confirm.stop(client, found.proof())
        if fault is not None:
            raise FailedError(f"instance {found.id} was not confirmed as stopped; it may still be billed: {fault}")
        _note(where, found, ledger.STOPPED)
        _patch(where, found, {"health.status": "stopped"})
        return _status(client, found)


def start_instance(where: Path, which: str, agree: Agree, say: Say) -> InstanceStatus:
    """Start a stopped instance of ours, wait until it can be entered, and update its address in workers.yaml (`where`).

    Raises UseError where it is not ours. Raises FailedError where it does not start; it is then stopped, or it is said
    that this is not known.
    """
    with connected() as client:
        found = _there(client, where, which)
        agree(found, _billing(found))
        _start(client, where, found, say)
        return _status(client, found)


def destroy_instance(where: Path, which: str, agree: Agree, say: Say, *, force: bool = False) -> InstanceStatus:
    """Destroy an instance of ours with its disk until that is confirmed, and disable its worker.

    Raises UseError where it is not ours, and FailedError where results on it are not here, unless `force`, or where it
    is not confirmed as deleted.
    """
    with connected() as client:
        found = ownership.find(client, where, which)
        if not isinstance(found.live, Gone):
            missing = ownership.at_risk(where, found.worker) if found.worker is not None else []
            for text in missing:
                say(text)
            if missing and not force:
                raise FailedError(
                    f"instance {found.id} was not destroyed, for that would be lost; first: wavequeue pull, or add "
                    "--force"
                )
            agree(found, _billing(found))
        _destroy(client, where, found)
        return _status(client, found)


def _there(client: Provider, where: Path, which: str) -> RentedInstance:
    """An instance of ours. Raises FailedError for one that has gone."""
    found = ownership.find(client, where, which)
    if isinstance(found.live, Gone):
        raise FailedError(f"instance {found.id} no longer exists and is not billed")
    return found


def _billing(found: RentedInstance) -> str:
    worker = f"{found.worker.name}: " if found.worker is not None else ""
    return f"{worker}{startup.billing(found.id, found.live)}"


def _status(client: Provider, found: RentedInstance) -> InstanceStatus:
    live = client.instance(found.id)
    status = GONE if isinstance(live, Gone) else None if isinstance(live, Unknown) else live.status
    worker = found.worker.name if found.worker is not None else None
    return InstanceStatus(found.id, worker, status, startup.billing(found.id, live))


def _start(client: Provider, where: Path, found: RentedInstance, say: Say) -> None:
    """Start an instance of ours, and have its worker's address mended. Raises FailedError; it is then stopped, or it is
    said that this is not known."""
    chosen = settings.read_renting(where)
    key = ssh_key.find_key(chosen.key)
    asked = time.time()
    answer = client.start(found.proof())
    if isinstance(answer, Refused):
        _take_back(client, where, found, answer.why)
    if isinstance(answer, Unknown):
        raise FailedError(
            f"whether instance {found.id} starts is unknown, and it may be billed: {answer.reason}. Run the same "
            f"again, or: wavequeue vast stop {found.id}"
        )
    _note(where, found, ledger.STARTED)
    name = found.worker.name if found.worker is not None else f"instance-{found.id}"
    came = await_ready.wait_until_ready(client, found.claim, name, key, asked, chosen.bounds.ready_within, say)
    if isinstance(came, Gone):
        raise FailedError(f"instance {found.id} no longer exists")
    if isinstance(came, NotOurs):
        raise FailedError(f"{came.why}; nothing more was done")
    if isinstance(came, Broken):
        _take_back(client, where, found, came.why)
    if found.worker is not None:
        refreshed = reconcile.reconcile(client, where, fix=True, names=[found.worker.name])
        if isinstance(refreshed, Unknown):
            say(f"{found.worker.name}: its address could not be compared; later: wavequeue vast reconcile --fix")


def _take_back(client: Provider, where: Path, found: RentedInstance, why: str) -> None:
    """Stop what was to be started. Raises FailedError in any case."""
    fault = confirm.stop(client, found.proof())
    if fault is not None:
        raise FailedError(
            f"instance {found.id} did not start ({why}), and the start could not be taken back ({fault}): it may begin "
            f"to bill at any time; run: wavequeue vast stop {found.id}"
        )
    _note(where, found, ledger.STOPPED)
    raise FailedError(
        f"instance {found.id} did not start ({why}), and the start was taken back. "
        f"{startup.billing(found.id, client.instance(found.id))}"
    )


def _destroy(client: Provider, where: Path, found: RentedInstance) -> None:
    """Destroy an instance of ours until that is confirmed, and disable its worker. Raises FailedError."""
    ended = confirm.Ended(by_us=False) if found.ours is None else confirm.destroy(client, found.ours)
    if isinstance(ended, str):
        raise FailedError(
            f"instance {found.id} was not confirmed as deleted; it may still be billed: {ended}. Run the command again"
        )
    _note(where, found, ledger.DESTROYED if ended.by_us else ledger.GONE)
    _patch(where, found, {"enabled": False, "health.status": GONE})


def _note(where: Path, found: RentedInstance, event: str) -> None:
    """Write into the ledger what became of it, unless that is there already."""
    if found.rental is None:
        return
    now = ledger_file.rentals(where)[found.rental.label]
    is_known = now.ended is not None or {ledger.STOPPED: now.stopped, ledger.STARTED: not now.stopped}.get(event, False)
    if not is_known:
        ledger_file.note(where, event, now.label)


def _patch(where: Path, found: RentedInstance, values: dict[str, Any]) -> None:

    if found.worker is None:
        return
    with registry.changed(where) as known:
        now = known.workers.get(found.worker.name)
        if now is not None and now.instance_id == found.id:
            known.patch(found.worker.name, values)
