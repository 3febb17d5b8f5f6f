"""Find the instance that is meant, whether it is ours, and what would be lost with it.

`providers.ownership` decides what is ours: an account may have instances of other people and projects.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from skill.common.errors import FailedError, UseError
from skill.fleet import ledger_file
from skill.fleet.ledger import Rental
from skill.hosts.registry import Registry, Worker
from skill.providers.instances import Instance
from skill.providers.outcomes import Gone, Unknown
from skill.providers.ownership import Claim, NotOurs, Ours, decide
from skill.providers.provider import Provider
from skill.runs import directory
from skill.runs.open import on_hosts
from skill.transfer.completeness import missing_of


class RentedInstance(NamedTuple):
    """An instance of ours. `worker` and `rental`: as what it is registered, and how it was rented; None: not known."""

    id: int
    live: Instance | Gone
    worker: Worker | None
    rental: Rental | None
    ours: Ours | None = None
    """The proof; None for one that has gone, of which nothing can be changed."""

    @property
    def claim(self) -> Claim:
        return Claim(self.id, self.rental.label if self.rental is not None else None, self.worker is not None)

    def proof(self) -> Ours:
        """The proof. Raises FailedError for one that has gone."""
        if self.ours is None:
            raise FailedError(f"instance {self.id} no longer exists and is not billed")
        return self.ours


def find(client: Provider, where: Path, text: str) -> RentedInstance:
    """Return the instance with a number or of a worker. Raises UseError where it is not ours, and FailedError where
    that is unknown."""
    known = Registry.load(where)
    if text.isascii() and text.isdigit() and text not in known.workers:
        number = int(text)
        worker = next((one for one in known.workers.values() if one.instance_id == number), None)
    else:
        worker = known.named(text)
        if worker.instance_id is None:
            raise UseError(f"{text} is not a rented machine: it has no instance_id in workers.yaml")
        number = worker.instance_id
    live = client.instance(number)
    if isinstance(live, Unknown):
        raise FailedError(f"the state of instance {number} is unknown, so nothing was done: {live.reason}")
    rental = _rental(where, number, live)
    found = RentedInstance(number, live, worker, rental)
    if isinstance(live, Gone):
        if worker is None and rental is None:
            raise UseError(f"there is no instance {number}, and none of this number was rented here")
        return found
    verdict = decide(found.claim, live)
    if isinstance(verdict, NotOurs):
        raise UseError(f"{verdict.why}; nothing was done" if rental is not None else verdict.why)
    return found._replace(ours=verdict)


def _rental(where: Path, number: int, live: Instance | Gone) -> Rental | None:
    """What the ledger has of an instance: of several with its number the one whose label it bears, else the last."""
    mine = [one for one in ledger_file.rentals(where).values() if one.instance_id == number]
    bears = (one for one in mine if isinstance(live, Instance) and one.label == live.label)
    return next(bears, mine[-1] if mine else None)


def at_risk(where: Path, worker: Worker) -> list[str]:
    """Return what would be lost with a worker's disk, a line for each run on it, by what was pulled."""
    return [
        f"run {run.id}: {why}"
        for run in directory.of_project(where.parent, Path.cwd())
        if on_hosts(run) and (why := missing_of(run, worker.name)) is not None
    ]
