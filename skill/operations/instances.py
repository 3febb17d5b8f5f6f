"""Rented instances: list, compare with workers.yaml, stop, start and destroy."""

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
"""Receives an instance, and in words what of it is billed, before it is changed; raises to refuse."""


def list_instances(where: Path) -> Inventory | Unknown:
    """List rented instances beside the workers of workers.yaml (`where`), and their cost. Raises UseError."""
    workers = registry.Registry.load(where).workers.values()
    with connected() as client:
        live = client.instances()
    return live if isinstance(live, Unknown) else inventory.take_inventory(live, workers)


def reconcile_workers(where: Path, *, fix: bool) -> Outcome | Unknown:
    """Compare workers.yaml (`where`) with the rented instances; with `fix`, update it to match. Raises UseError."""
    with connected() as client:
        return reconcile.reconcile(client, where, fix=fix)


class InstanceStatus(NamedTuple):
    """An instance after a change. `status`: None where it is unknown; `billing`: what of it is billed, in words."""

    id: int
    worker: str | None
    status: str | None
    billing: str


def stop_instance(where: Path, which: str, agree: Agree) -> InstanceStatus:
    """Stop one of our instances: a number, or a worker's name in workers.yaml (`where`). Its disk is still billed.

    Raises UseError where it is not ours, and FailedError where it is unknown whether it stopped.
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
    """Start one of our stopped instances, wait until SSH login works, and update its address in workers.yaml (`where`).

    Raises UseError where it is not ours. Raises FailedError where it does not start; the message says whether it was
    stopped again.
    """
    with connected() as client:
        found = _there(client, where, which)
        agree(found, _billing(found))
        _start(client, where, found, say)
        return _status(client, found)


def destroy_instance(where: Path, which: str, agree: Agree, say: Say, *, force: bool = False) -> InstanceStatus:
    """Destroy one of our instances with its disk, wait for the confirmation, and disable its worker.

    Raises UseError where it is not ours. Raises FailedError where it has results that were not pulled, unless `force`,
    and where the deletion is not confirmed.
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
    """Return one of our instances. Raises FailedError where it no longer exists."""
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
    """Start one of our instances and update its worker's address. Raises FailedError; the message says whether it was
    stopped again."""
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
    """Stop an instance whose start failed. Always raises FailedError."""
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
    """Destroy one of our instances, wait for the confirmation, and disable its worker. Raises FailedError."""
    ended = confirm.Ended(by_us=False) if found.ours is None else confirm.destroy(client, found.ours)
    if isinstance(ended, str):
        raise FailedError(
            f"instance {found.id} was not confirmed as deleted; it may still be billed: {ended}. Run the command again"
        )
    _note(where, found, ledger.DESTROYED if ended.by_us else ledger.GONE)
    _patch(where, found, {"enabled": False, "health.status": GONE})


def _note(where: Path, found: RentedInstance, event: str) -> None:
    """Record in the ledger what happened to an instance, unless it is recorded already."""
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
