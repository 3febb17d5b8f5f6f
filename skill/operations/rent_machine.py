"""Rent a machine and register it as a worker; show what is still billed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.layout import id_fault
from skill.common.errors import UseError
from skill.common.units import usd
from skill.fleet import ledger, ledger_file, rent, settings, ssh_key, startup
from skill.fleet.ledger import Rental
from skill.fleet.offers import Priced, Work
from skill.fleet.provider import connected
from skill.hosts.registry import Registry, Worker
from skill.operations import choose_offer
from skill.operations.build_spec import Given, Say
from skill.operations.choose_offer import AS_PROFILE, Asked
from skill.providers.outcomes import Gone, Unknown
from skill.providers.provider import Provider

PURPOSE = "rent"
Agree = Callable[[Priced, Work, str], None]
"""Receives the best offer, the work that it is priced for and the image before it is rented; raises to refuse."""


class Rent:
    """A machine to be rented: the offer of that number, or the best one (`offer` None), for the jobs of `spec` if
    given. Its creation checks all that can be checked locally. `where`: workers.yaml.

    Raises UseError and SpecErrors.
    """

    def __init__(
        self,
        where: Path,
        offer: int | None,
        *,
        spec: Given | None = None,
        profile: str | None = None,
        asked: Asked = AS_PROFILE,
        name: str | None = None,
        pool: str | None = None,
    ) -> None:
        if spec is not None and offer is not None:
            raise UseError("--for goes with --best")
        self._where, self._offer, self._name, self._pool = where, offer, name, pool
        self._renting = settings.read_renting(where)
        ssh_key.find_key(self._renting.key)
        _check_name(where, name)
        self._profile, self._work = choose_offer.wanted(where, spec, profile, asked)

    def go(self, agree: Agree, say: Say) -> Worker:
        """Rent it, wait until SSH login works, and register it. An interrupted rental is finished first, and nothing
        else is rented then. Raises FailedError and UseError."""
        candidates: tuple[Priced, ...] = ()
        with connected() as client:
            if rent.unfinished(self._where, PURPOSE):
                say("an interrupted rental is finished first; to rent another, run the command again")
            else:
                candidates = self._candidates(client)
                agree(candidates[0], self._work, self._renting.image)
            request = rent.RentRequest(self._profile, PURPOSE, self._name, self._pool)
            return rent.rent(client, self._where, request, candidates, say)

    def _candidates(self, client: Provider) -> tuple[Priced, ...]:
        if self._offer is None:
            return choose_offer.rank(client, self._where, self._profile, self._work)
        return (choose_offer.by_number(client, self._where, self._offer, self._profile, self._work),)


def _check_name(where: Path, name: str | None) -> None:
    known = Registry.load(where)
    if name is None:
        return
    fault = id_fault(name)
    if fault:
        raise UseError(f"the name {name!r} {fault}")
    if name in known.workers:
        raise UseError(f"{name} is registered already; take another name, or first: wavequeue hosts remove {name}")


def still_billing(where: Path, purpose: str) -> list[str]:
    """Return a line for each machine that was rented for a purpose and may still be billed. Where there is none, return
    what all of them cost. `where`: workers.yaml. Raises UseError where there is no key."""
    with connected() as client:
        return _still_billing(client, where, purpose)


def _still_billing(client: Provider, where: Path, purpose: str) -> list[str]:
    found = []
    for one in ledger_file.rentals(where).values():
        if one.purpose != purpose or one.ended is not None:
            continue
        if one.instance_id is not None:
            live = client.instance(one.instance_id)
            end = "" if isinstance(live, Gone) else f"; to delete it: wavequeue vast destroy {one.instance_id}"
            found.append(startup.billing(one.instance_id, live) + end)
            continue
        listed = client.instances()
        mine = [] if isinstance(listed, Unknown) else [live for live in listed if live.label == one.label]
        doubt = f"offer {one.offered.offer_id} was requested under the label {one.label} and may still be rented"
        again = f", at ${one.offered.dph:.4f} an hour; run the same command again to find out"
        found += [startup.billing(live.id, live) for live in mine] or [doubt + again]
    made = [one for one in ledger_file.rentals(where).values() if one.purpose == purpose and one.rates]
    cost = ledger.spent(made, time.time())
    if not made:
        return found or ["nothing was rented or billed"]
    return found or [f"nothing is billed any more; what was rented for this cost {usd(cost)}, at most, without traffic"]


class Ledger(NamedTuple):
    """What was rented for a project, and `spent`: its cost in $ until `now` (epoch seconds), at most."""

    rentals: tuple[Rental, ...]
    now: float
    spent: float


def read_ledger(where: Path) -> Ledger:
    """Read what was rented for a project (`where`: workers.yaml). Sends no request. Raises UseError."""
    found, now = tuple(ledger_file.rentals(where).values()), time.time()
    return Ledger(found, now, ledger.spent(found, now))
