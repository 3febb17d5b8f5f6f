"""Files beside workers.yaml about Vast.ai: vast.yaml, which people write, and vast_blacklist.json."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from build_manifest.faults import listed, nearest
from build_manifest.values import seconds
from queue_manager.core.layout import id_fault
from queue_manager.core.times import iso
from skill.common.errors import UseError
from skill.common.files import locked, read_text, write_whole
from skill.common.project import SETTINGS, ProjectPaths
from skill.fleet import blacklist, profiles, watch_rules
from skill.fleet.blacklist import Banned
from skill.fleet.profiles import BUILT_IN, NUMBERS, Profile
from skill.fleet.startup import Bounds
from skill.fleet.watch_rules import Rules
from skill.hosts.registry import fields_of, mapping_in, place_of

_TOP: dict[str, tuple[type, str]] = {
    "profiles": (dict, "a mapping of names to profiles"),
    "rent": (dict, "a mapping, as in: rent: {ready_within: 30m}"),
    "watcher": (dict, "a mapping, as in: watcher: {max_dph: 0.10}"),
}
IMAGE = "vastai/pytorch:@vastai-automatic-tag"
"""What is rented runs this unless vast.yaml says another; Vast.ai chooses the tag by the machine's driver."""
_RENT: dict[str, tuple[type, str]] = {
    "image": (str, "the name of an image"),
    "key": (str, "the path of a private ssh key"),
    "ready_within": (object, "a time, such as 30m"),
    "tries": (int, "a number from 1 to 20"),
    "max_waste": (object, "$ as a number"),
}

_WATCHER: dict[str, tuple[type, str]] = {
    "profile": (str, "the name of a profile"),
    "every": (object, "a time, such as 5m"),
    "pool": (str, "a name"),
    **dict.fromkeys(watch_rules.NUMBERS, (object, "a number")),
}


class Renting(NamedTuple):
    """How machines are rented. `key`: path of the ssh key to enter them with; None: the first of ~/.ssh."""

    image: str = IMAGE
    key: str | None = None
    bounds: Bounds = Bounds()


_FIELDS: dict[str, tuple[type, str]] = dict.fromkeys(NUMBERS, (object, "a number"))
_FIELDS["gpu_names"] = (list, "a list of names of GPUs")


def read_profiles(registry: Path) -> dict[str, Profile]:
    """Return all profiles: built-in ones, and those of vast.yaml, which override them. Raises UseError with all
    faults."""
    path = ProjectPaths.of(registry).settings
    faults: list[tuple[int, int, str]] = []
    entries = _section(path, "profiles", faults)
    found = dict(BUILT_IN)
    for name, entry in entries.items():
        at = place_of(entries, name)
        fault = "has to be text; put it in quotes" if not isinstance(name, str) else id_fault(name)
        if fault:
            faults.append((*at, f"the name {name!r} {fault}"))
        elif not isinstance(entry, dict):
            faults.append((*at, f"{name} has to be a mapping, as in: {name}: {{cards: 1, gpu_ram_gb: 24}}"))
        else:
            fields = fields_of(entry, _FIELDS, faults, f"profile {name}")  # type: ignore[arg-type]
            faults += [
                (*place_of(entry, key), f"{key} of profile {name} {wrong}, and not {value!r}")
                for key, value in fields.items()
                if (wrong := _fault(key, value))
            ]
            found[name] = profiles.changed(name, fields, str(path))
    _refuse(path, faults)
    return found


def read_renting(registry: Path) -> Renting:
    """Return how machines are rented, from `rent:` in vast.yaml. Raises UseError with all faults."""
    path = ProjectPaths.of(registry).settings
    faults: list[tuple[int, int, str]] = []
    section = _section(path, "rent", faults)
    fields = fields_of(section, _RENT, faults, "rent")
    bounds = Bounds()
    if "ready_within" in fields:
        fields["ready_within"] = _time(section, "ready_within", 1.0, 86400.0, faults)
    if not 1 <= fields.get("tries", 1) <= 20:
        faults.append((*place_of(section, "tries"), f"tries of rent has to be {_RENT['tries'][1]}"))
    waste = fields.get("max_waste", bounds.max_waste)
    if isinstance(waste, bool) or not isinstance(waste, int | float) or not 0 <= waste <= 1000:
        faults.append((*place_of(section, "max_waste"), "max_waste of rent has to be a number from 0 to 1000, in $"))
    _refuse(path, faults)
    given = {name: fields[name] for name in Bounds._fields if name in fields}
    return Renting(fields.get("image", IMAGE), fields.get("key"), bounds._replace(**given))


def read_rules(registry: Path) -> tuple[Rules, dict[str, str]]:
    """Return the rules of the watcher, from `watcher:` in vast.yaml, and the source of each value. Raises UseError with
    all faults."""
    path = ProjectPaths.of(registry).settings
    faults: list[tuple[int, int, str]] = []
    section = _section(path, "watcher", faults)
    fields = fields_of(section, _WATCHER, faults, "watcher")
    if "every" in fields:
        fields["every"] = _time(section, "every", 1.0, 86400.0, faults)
    for name, (least, most) in watch_rules.NUMBERS.items():
        value = fields.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            words = f"{name} of watcher has to be a number from {least:g} to {most:g}, and not {value!r}"
            faults.append((*place_of(section, name), words))
        elif name == "most_instances" and not isinstance(value, int):
            faults.append((*place_of(section, name), f"{name} of watcher has to be a whole number"))
    fault = id_fault(fields["pool"]) if "pool" in fields else None
    if fault:
        faults.append((*place_of(section, "pool"), f"the pool {fields['pool']!r} {fault}"))
    _refuse(path, faults)
    rules = Rules(**fields)
    profile(read_profiles(registry), rules.profile)
    sources = {
        name: f"{SETTINGS}:{place_of(section, name)[0]}" if name in fields else "built in" for name in Rules._fields
    }
    return rules, sources


def _section(path: Path, name: str, faults: list[tuple[int, int, str]]) -> Any:
    """One mapping of vast.yaml; empty where it is not there. Faults of the file itself are added."""
    tree = mapping_in(path)
    if tree is None:
        raise UseError(f"{path}:1:1: has to be a mapping with {listed(_TOP)}")
    return fields_of(tree, _TOP, faults, "the file").get(name, {})


def _time(section: Any, name: str, least: float, most: float, faults: list[tuple[int, int, str]]) -> float:
    """A span of time, in seconds."""
    try:
        found = seconds(str(section[name]))
        if least <= found <= most:
            return found
        why = f"is not between {least:g} s and {most:g} s"
    except ValueError as error:
        why = str(error)
    faults.append((*place_of(section, name), f"{name}: {section[name]!r} {why}"))
    return least


def _refuse(path: Path, faults: list[tuple[int, int, str]]) -> None:
    if faults:
        raise UseError("\n".join(f"{path}:{line}:{column}: {text}" for line, column, text in sorted(faults)))


def profile(known: Mapping[str, Profile], name: str) -> Profile:
    """Return the profile of this name. Raises UseError that names the nearest one."""
    if name in known:
        return known[name]
    close = nearest(name, list(known))
    hint = f"did you mean {close}?" if close else f"there are: {listed(known)}"
    raise UseError(f"there is no profile {name}; {hint} Write your own into {SETTINGS}, below profiles:")


def read_blacklist(registry: Path) -> tuple[Banned, ...]:
    """Return machines that must not be rented. Raises UseError where the file cannot be read."""
    path = ProjectPaths.of(registry).blacklist
    try:
        return blacklist.parse(read_text(path), str(path))
    except FileNotFoundError:
        return ()


def ban(registry: Path, machine: int, reason: str, *, renew: bool = False) -> bool:
    """Put a machine on the blacklist. `renew`: one that is on it gets this reason. Returns whether it was on it. Raises
    UseError."""
    with changed_blacklist(registry) as banned:
        before = banned.get(machine)
        if before is None or renew:
            since = before.added if before else f"{(iso(time.time()) or '')[:19]}Z"
            banned[machine] = Banned(machine, reason, since)
    return before is not None


@contextlib.contextmanager
def changed_blacklist(registry: Path) -> Iterator[dict[int, Banned]]:
    """The blacklist by machine, to be changed while nobody else of us does. Raises UseError and OSError."""
    lock = ProjectPaths.of(registry).blacklist_lock
    with locked(lock):
        found = {one.machine_id: one for one in read_blacklist(registry)}
        before = dict(found)
        yield found
        if found != before:
            write_whole(ProjectPaths.of(registry).blacklist, blacklist.encode(found.values()), mode=None)


def _fault(key: str, value: Any) -> str | None:
    if key != "gpu_names":
        return profiles.number_fault(key, value)
    return None if all(isinstance(name, str) for name in value) else "has to be a list of names of GPUs"
