"""The blacklist of machines that must not be rented: add one, remove one, list them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from skill.common.errors import UseError
from skill.fleet import settings
from skill.fleet.blacklist import Banned
from skill.fleet.provider import connected
from skill.providers.outcomes import Unknown


class Added(NamedTuple):
    """A machine on the blacklist. `was_there`: it was on it before, with this or another reason. `doubt`: why its ID
    could not be checked, None where it was."""

    was_there: bool
    doubt: str | None


def add(where: Path, machine: int, reason: str) -> Added:
    """Add a machine by its machine ID to the blacklist beside workers.yaml (`where`). Raises UseError for the ID of an
    instance."""
    settings.read_blacklist(where)  # report an unreadable file before Vast.ai is asked
    doubt = _check_machine(machine)
    return Added(settings.ban(where, machine, reason, renew=True), doubt)


def remove(where: Path, machine: int) -> None:
    """Remove a machine from the blacklist. Raises UseError where it is not on it."""
    with settings.changed_blacklist(where) as banned:
        if machine not in banned:
            raise UseError(f"machine {machine} is not on the blacklist; see: wavequeue vast blacklist list")
        del banned[machine]


def listed(where: Path) -> list[Banned]:
    """List the machines that must not be rented, with reason and date. Raises UseError."""
    return list(settings.read_blacklist(where))


def _check_machine(machine: int) -> str | None:
    """Refuse the ID of an instance with UseError. Returns why the ID could not be checked, None where it was."""
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
