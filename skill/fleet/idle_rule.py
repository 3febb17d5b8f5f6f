"""What becomes of a rented machine that no run ends by itself: it goes on, is stopped, or is destroyed. Pure.

The tree: what works, or cannot be looked at, goes on. Work that is planned stops it and keeps its disk. Where nothing
is planned and the results are here it is destroyed; else they are pulled first, and once it has idled for a day it is
destroyed in the same go, after they are known to be here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from queue_manager.core.times import duration
from skill.common.units import usd
from skill.providers.instances import RUNNING, STOPPED

GRACE, DAY = 1800.0, 86400.0
"""Seconds for which a machine that idles is left as it is: somebody may be about to use it. And after which it is
destroyed at once."""


class Facts(NamedTuple):
    """What is known of a machine. `status`: that of its instance. In words, or None: `unknown`, why it could not be
    looked at; `busy`, what it does; `planned`, work of the next 24 hours that it may get; `unsynced`, results that are
    not here. `idle_s`: seconds since it last did something, None: not known. `storage_dph`: USD an hour of its disk."""

    status: str
    unknown: str | None = None
    busy: str | None = None
    planned: str | None = None
    unsynced: str | None = None
    idle_s: float | None = None
    storage_dph: float | None = None


@dataclass(frozen=True)
class Keep:
    """It goes on as it is."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """It is stopped; its disk stays, and is billed."""

    reason: str


@dataclass(frozen=True)
class SyncFirst:
    """Its results are pulled; it is looked at again later."""

    reason: str


@dataclass(frozen=True)
class SyncThenDestroy:
    """Its results are pulled, and once they are known to be here it is destroyed."""

    reason: str


@dataclass(frozen=True)
class Destroy:
    """It is destroyed with its disk; its results are here."""

    reason: str


Decision = Keep | Stop | SyncFirst | SyncThenDestroy | Destroy


def decide(facts: Facts) -> Decision:
    """What becomes of a machine."""
    if facts.status not in (RUNNING, STOPPED):
        return Keep(f"its instance is {facts.status}")
    if facts.unknown is not None:
        return Keep(f"it could not be looked at: {facts.unknown}")
    if facts.busy is not None:
        return Keep(facts.busy)
    if facts.planned is not None:
        if facts.status == STOPPED:
            return Keep(f"it is stopped, and {facts.planned}{_disk(facts)}")
        return Stop(f"{facts.planned}{_disk(facts)}")
    if facts.idle_s is None:
        return Keep("since when it idles is not known")
    if facts.idle_s < GRACE:
        return Keep(f"it has idled for {duration(facts.idle_s)} only")
    idle = f"it has idled for {duration(facts.idle_s)}, and nothing is planned"
    if facts.unsynced is None:
        return Destroy(f"{idle}; its results are here")
    if facts.status == STOPPED:
        return Keep(f"{idle}; it is stopped, and not all of its results are here: {facts.unsynced}{_disk(facts)}")
    then: Callable[[str], Decision] = SyncThenDestroy if facts.idle_s > DAY else SyncFirst
    return then(f"{idle}; not all of its results are here: {facts.unsynced}")


def _disk(facts: Facts) -> str:
    return "" if facts.storage_dph is None else f"; its disk costs {usd(facts.storage_dph * 24)} a day while stopped"
