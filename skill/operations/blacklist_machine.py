"""Machines that are not to be rented: put one on the blacklist, take it off, list them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from skill.common.errors import UseError
from skill.fleet import settings
from skill.fleet.blacklist import Banned
from skill.fleet.provider import connected
from skill.providers.outcomes import Unknown


class Added(NamedTuple):
    """A machine that is on the blacklist now. `was_there`: it was before, with another reason or the same; `doubt`: why
    it could not be looked up whether the number is that of a machine, None if it was."""

    was_there: bool
    doubt: str | None


def add(where: Path, machine: int, reason: str) -> Added:
    """Put a machine on the blacklist beside workers.yaml (`where`), by its machine id. Raises UseError for the id of an
    instance."""
    settings.read_blacklist(where)  # a file that cannot be read is said before anything is asked
    doubt = _check_machine(machine)
    return Added(settings.ban(where, machine, reason, renew=True), doubt)


def remove(where: Path, machine: int) -> None:
    """Take a machine off the blacklist. Raises UseError where it is not on it."""
    with settings.changed_blacklist(where) as banned:
        if machine not in banned:
            raise UseError(f"machine {machine} is not on the blacklist; see: wavequeue vast blacklist list")
        del banned[machine]


def listed(where: Path) -> list[Banned]:
    """The machines that are not to be rented, why, and since when. Raises UseError."""
    return list(settings.read_blacklist(where))


def _check_machine(machine: int) -> str | None:
    """Refuse the id of an instance, with UseError. Returns why that could not be looked up, if it could not."""
    try:
        with connected() as client:
            live = client.instances()
    except UseError as error:
        return f"could not check that {machine} is the id of a machine and not of an instance: {error}"
    if isinstance(live, Unknown):
        return f"could not check that {machine} is the id of a machine and not of an instance: {live.reason}"
    found = next((one for one in live if one.id == machine), None)
    if found is None or any(one.machine_id == machine for one in live):
        return None
    hint = f"; its machine is {found.machine_id}" if found.machine_id is not None else ""
    raise UseError(f"{machine} is the id of an instance{hint}; give the id of a machine")
