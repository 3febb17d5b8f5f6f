"""Renting: an offer of Vast.ai becomes a worker. What is about to be asked for is in the ledger first, so that a rental
that was cut off anywhere is taken up again, and nothing is rented twice.

A create whose answer was lost is settled by listing, by its label. What does not come up is destroyed, its machine
blacklisted, and the next offer taken, within bounds.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.times import iso
from skill.common import files
from skill.common.errors import FailedError
from skill.common.project import ProjectPaths
from skill.common.units import usd
from skill.fleet import await_ready, confirm, ledger, ledger_file, settings, ssh_key, startup
from skill.fleet.await_ready import Arrived, Say
from skill.fleet.drift import DISK, PRICE, STATUS
from skill.fleet.ledger import Offered, Rental
from skill.fleet.offers import Priced
from skill.fleet.profiles import Profile
from skill.fleet.ssh_key import Key
from skill.fleet.startup import Bounds, Broken
from skill.hosts import registry, ssh_preflight
from skill.hosts.connection import replace_key
from skill.hosts.registry import Ssh, Worker
from skill.providers.instances import HOURS_PER_MONTH, Instance
from skill.providers.outcomes import AUTH, NO_OFFER, Created, Gone, Refused, Unknown
from skill.providers.ownership import Claim, NotOurs, Ours, decide
from skill.providers.provider import NewInstance, Provider

_SETTLE = (1.0, 2.0, 4.0)
"""Seconds before each look for an instance whose create was not answered; so many have to know nothing of it."""
_LOOKS = 6


class RentRequest(NamedTuple):
    """What to rent, and for whom. An interrupted rental is continued by a request with the same `purpose`.

    `name`: of the worker; else one is generated. `notes`: what the purpose needs to know when it continues. `once`: the
    purpose needs one machine only; if it has one, that is used.
    """

    profile: Profile
    purpose: str
    name: str | None = None
    pool: str | None = None
    notes: Mapping[str, Any] = {}
    once: bool = False


def unfinished(where: Path, purpose: str) -> list[Rental]:
    """Return the rentals of a purpose that were begun, and are neither in use nor ended. Raises UseError."""
    return [one for one in ledger_file.rentals(where).values() if one.purpose == purpose and one.unfinished]


def finish(client: Provider, where: Path, request: RentRequest, say: Say) -> Worker | None:
    """Finish an interrupted rental of the same purpose. Returns a worker, or None where it came to nothing.

    Raises FailedError where that cannot be known, and says what may be billed; UseError where there is no ssh key.
    """
    with alone(where):
        return _renting(client, where, request, say).finish()


def rent(client: Provider, where: Path, request: RentRequest, candidates: Sequence[Priced], say: Say) -> Worker:
    """Rent the first of these offers that starts, and register it in the workers.yaml at `where`.

    An interrupted rental of the same purpose is finished first, which may be all. Raises FailedError where nothing was
    rented, and says whether anything may be billed; UseError where there is no ssh key.
    """
    with alone(where):
        return _renting(client, where, request, say).go(candidates)


def _renting(client: Provider, where: Path, request: RentRequest, say: Say) -> _Renting:
    chosen = settings.read_renting(where)
    return _Renting(client, where, request, chosen.image, chosen.bounds, ssh_key.find_key(chosen.key), say)


def alone(where: Path) -> AbstractContextManager[None]:
    """Lock out other rentals of the same project. Raises FailedError where one is running."""
    lock = ProjectPaths.of(where).rent_lock
    return files.alone(lock, "another command is renting for this project; try again when it has finished")


class _Renting:
    """One rental, from offers to a worker."""

    def __init__(
        self, client: Provider, where: Path, request: RentRequest, image: str, bounds: Bounds, key: Key, say: Say
    ) -> None:
        self._client, self._where, self._request, self._image = client, where, request, image
        self._bounds, self._key, self._say = bounds, key, say
        self._chain: str | None = None
        self._began = time.time()
        self._suspects: list[tuple[Rental, str]] = []
        """What could not be entered, and why: that the machine is to blame, one that can be entered shows."""
        self._last = ""
        """Why the last try came to nothing."""

    def finish(self) -> Worker | None:
        for one in unfinished(self._where, self._request.purpose):
            self._say(f"resuming the rental of {iso(one.intended)} ({one.offered.cards}, {one.label})")
            self._chain, self._began = one.chain, min(self._began, one.intended)
            worker = self._finish(one)
            if worker is not None:
                return worker
        return None

    def go(self, candidates: Sequence[Priced]) -> Worker:
        worker = self.finish() or (self._there() if self._request.once else None)
        if worker is not None:
            return worker
        fault = ssh_preflight.fault(self._key.private, self._key.public)
        if fault is not None:
            raise FailedError(f"nothing was rented: logging in to rented machines does not work from here: {fault}")
        self._last = self._last or "no offer is left to try"
        for priced in candidates:
            why = startup.exhausted(self._tried(), self._bounds, self._began, time.time())
            if why is not None:
                raise FailedError(f"nothing was rented: {why}{self._cost()}")
            if self._is_banned(priced):
                continue
            one = self._intend(priced)
            new = NewInstance(one.label, self._image, self._request.profile.disk_gb, guard=self._request.once)
            outcome = self._client.rent(one.offered.offer_id, new)
            if isinstance(outcome, Refused) and outcome.instance_id is None:
                self._note(ledger.REFUSED, one, why=outcome.why)
                self._last = f"offer {one.offered.offer_id} was refused: {outcome.why}"
                self._say(self._last)
                if outcome.kind != NO_OFFER:  # the next one would be refused as well
                    break
                continue
            worker = self._finish(self._taken(one, outcome))
            if worker is not None:
                return worker
        raise FailedError(f"nothing was rented: {self._last}{self._cost()}")

    def _cost(self) -> str:
        """Return the cost of the tries, as the end of a message."""
        made = [one for one in self._tried() if one.instance_id is not None]
        if not made:
            return ""
        return f". What was tried cost {usd(ledger.spent(made, time.time()))}, at most and without traffic"

    def _there(self) -> Worker | None:
        """The machine that the purpose has, if another process rented it meanwhile."""
        mine = (one for one in ledger_file.rentals(self._where).values() if one.purpose == self._request.purpose)
        names = [one.worker for one in mine if one.ready and one.ended is None]
        return registry.Registry.load(self._where).workers.get(names[-1]) if names else None

    # -- one rental -----------------------------------------------------------------------------------------------

    def _intend(self, priced: Priced) -> Rental:
        """Record what is about to be rented, under a unique label."""
        offer, request = priced.offer, self._request
        assert offer.machine_id is not None
        label = f"{startup.PREFIX}{secrets.token_hex(6)}"
        self._chain = self._chain or label
        disk = (offer.storage_cost or 0.0) * request.profile.disk_gb / HOURS_PER_MONTH
        offered = Offered(offer.id, offer.machine_id, offer.cards, priced.dph, disk, request.profile.disk_gb)
        intent = ledger.intent(request.purpose, self._chain, self._name(), offered, request.notes)
        ledger_file.note(self._where, ledger.INTENDED, label, **intent)
        self._say(f"renting offer {offer.id}: {offer.cards}, ${priced.dph:.4f} an hour")
        return ledger_file.rentals(self._where)[label]

    def _taken(self, one: Rental, outcome: Created | Refused | Unknown) -> Rental:
        """A rental as it is after its create."""
        if isinstance(outcome, Unknown):
            self._say(f"whether it was rented is unknown ({outcome.reason}); looking for {one.label}")
            return one
        number = outcome.instance_id
        assert number is not None
        live = self._client.instance(number)
        verdict = decide(Claim(number, one.label), live) if isinstance(live, Instance) else None
        if not isinstance(verdict, Ours):  # whose it is, the answer to a create does not tell
            why = verdict.why if verdict is not None else f"instance {number} is not shown"
            self._say(f"the answer named instance {number}, which was not touched ({why}); looking for {one.label}")
            one = self._settle(one, named=number)
            if one.instance_id is None:
                return one
        else:
            one = self._note(ledger.CREATED, one, instance_id=number)
        if isinstance(outcome, Refused):
            one = self._note(ledger.BROKEN, one, why=outcome.why)
        return one

    def _finish(self, one: Rental) -> Worker | None:
        """Finish a rental. Returns a worker, or None where nothing is left of it. Raises FailedError."""
        if one.instance_id is None and one.ended is None:
            one = self._settle(one)
        if one.instance_id is None:
            self._last = f"offer {one.offered.offer_id} was not rented: {one.why}"
            return None
        number, own = one.instance_id, None
        claim = Claim(number, one.label)
        if not one.broken:
            found = await_ready.wait_until_ready(
                self._client, claim, one.worker, self._key, one.intended, self._bounds.ready_within, self._say
            )
            if isinstance(found, Arrived):
                for suspect, why in self._suspects:  # what this one does, they could not
                    self._ban(suspect, why)
                return self._register(one, found)
            if isinstance(found, NotOurs):
                return self._left_alone(one, found.why)
            if isinstance(found, Gone):
                self._note(ledger.GONE, one, why="it disappeared while starting")
                self._last = f"instance {number} no longer exists"
                self._say(self._last)
                return None
            one = self._note(ledger.BROKEN, one, why=found.why)
            own = self._blame(one, found)
        self._say(f"instance {number} failed to start ({one.why}); destroying it")
        ended = confirm.destroy_claimed(self._client, claim)
        if isinstance(ended, str):
            raise FailedError(
                f"instance {number} failed to start ({one.why}), and its deletion failed: {ended}. It is still billed; "
                f"run the same command again, or: wavequeue vast destroy {number}"
            )
        self._note(ledger.DESTROYED if ended.by_us else ledger.GONE, one)
        self._last = f"instance {number} failed to start, and {'was destroyed' if ended.by_us else 'no longer exists'}"
        if own is not None:
            raise FailedError(f"nothing was rented: {own}. No machine was blacklisted{self._cost()}")
        if startup.is_image_fault(one.why):
            raise FailedError(
                f"the image {self._image} cannot be pulled ({one.why}); set another in vast.yaml: rent: {{image: NAME}}"
                f"{self._cost()}"
            )
        return None

    def _blame(self, one: Rental, found: Broken) -> str | None:
        """Blacklist the machine, if it is what was at fault. Returns what is at fault here, where that is so: every
        machine would show it, and no other is tried."""
        if startup.is_image_fault(found.why):
            return None
        if not found.entry:
            self._ban(one, found.why)
            return None
        fault = found.ours or ssh_preflight.fault(self._key.private, self._key.public)
        if fault is not None:
            return fault
        if any(startup.is_alike(found.why, why) for _, why in self._suspects):
            return f"the login failed on two machines in a row, so the reason may be on this side: {found.why}"
        self._suspects.append((one, found.why))
        return None

    def _left_alone(self, one: Rental, why: str) -> Worker | None:
        """Go on with a rental whose number is another's instance: what was made for it is found by its label."""
        self._say(f"{why}, and was not touched; looking for {one.label}")
        found = self._settle(one)
        return self._finish(found) if found.ended is None else None

    def _settle(self, one: Rental, named: int | None = None) -> Rental:
        """Find out by its label whether an instance was made. `named`: the number that the answer gave, of one that
        does not bear the label. Raises FailedError where that cannot be known."""
        known, reason = 0, ""
        for look in range(_LOOKS):
            time.sleep(_SETTLE[min(look, len(_SETTLE) - 1)])
            listed = self._client.instances()
            if isinstance(listed, Unknown):
                reason = listed.reason
                if listed.kind == AUTH:
                    break
                continue
            mine = next((live for live in listed if live.label == one.label), None)
            if mine is not None:
                self._say(f"it is instance {mine.id}")
                return self._note(ledger.CREATED, one, instance_id=mine.id)
            known += 1
            if known == len(_SETTLE):
                if named is not None:
                    raise FailedError(
                        f"whether offer {one.offered.offer_id} was rented is unknown: the answer named instance "
                        f"{named}, which was not touched, and none has the label {one.label}. See what is billed: "
                        "wavequeue vast instances; then run the same command again"
                    )
                self._say("it was not rented")
                return self._note(ledger.REFUSED, one, why="no instance with its label was made")
        raise FailedError(
            f"whether offer {one.offered.offer_id} was rented is unknown: {reason}. Nothing else is rented until that "
            f"is known; an instance labelled {one.label} may be billed. Run the same command again"
        )

    # -- what is written ------------------------------------------------------------------------------------------

    def _register(self, one: Rental, found: Arrived) -> Worker:
        """Make it a worker; in the ledger last, so that whatever is cut off is done again."""
        way, live = found.identified.address, found.live
        with registry.changed(self._where) as known:
            name = one.worker
            there = known.workers.get(name)
            if there is not None and there.instance_id != one.instance_id:
                name, there = self._free_name(), None
            if found.identified.key is not None:
                replace_key(ProjectPaths.of(self._where).known_hosts, name, found.identified.key)
            offered = one.offered._replace(
                dph=one.offered.dph if live.dph is None else live.dph,
                storage_dph=one.offered.storage_dph if live.storage_dph is None else live.storage_dph,
            )
            if there is None:
                known.add(
                    Worker(
                        name,
                        pool=self._request.pool,
                        ssh=Ssh(way.host, way.port, "root", self._key.private),
                        resources=startup.resources(offered, live.num_gpus),
                        health={"status": live.status},
                        instance_id=one.instance_id,
                        notes=f"rented {(iso(one.intended) or '')[:10]} for {one.purpose}",
                    )
                )
            else:
                at = {"ssh.host": way.host, "ssh.port": way.port, STATUS: live.status, "enabled": True}
                known.patch(name, {**at, PRICE: round(offered.dph, 4), DISK: round(offered.storage_dph, 6)})
            worker = known.workers[name]
        self._note(ledger.READY, one, worker=name)
        return worker

    def _ban(self, one: Rental, why: str) -> None:
        machine = one.offered.machine_id
        settings.ban(self._where, machine, f"failed to start: {why}")
        self._say(f"machine {machine} is on the blacklist; to remove it: wavequeue vast blacklist remove {machine}")

    def _is_banned(self, priced: Priced) -> bool:
        return any(one.machine_id == priced.offer.machine_id for one in settings.read_blacklist(self._where))

    def _tried(self) -> list[Rental]:
        return [one for one in ledger_file.rentals(self._where).values() if one.chain == self._chain]

    def _note(self, event: str, one: Rental, **fields: Any) -> Rental:
        ledger_file.note(self._where, event, one.label, **fields)
        return ledger_file.rentals(self._where)[one.label]

    def _name(self) -> str:
        return self._free_name() if self._request.name is None else self._request.name

    def _free_name(self) -> str:
        """The first of vast1, vast2, ... that no worker has, and no rental that is under way."""
        taken = {*registry.Registry.load(self._where).workers}
        taken |= {one.worker for one in ledger_file.rentals(self._where).values() if one.ended is None}
        return next(name for number in range(1, len(taken) + 2) if (name := f"vast{number}") not in taken)
