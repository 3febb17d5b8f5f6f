"""The machine of a run, as its manager sees it: which instance it is, its price, and who else needs it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from queue_manager.core.readings import Unreadable
from queue_manager.core.times import epoch, iso

_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Instance:
    """A rented machine, as written into the run at submit. `dph` and `storage_dph`: USD an hour while it runs (disk
    included) and while it is stopped; `since`: when it was rented (epoch seconds). None: unknown."""

    id: int
    dph: float | None = None
    storage_dph: float = 0.0
    since: float | None = None

    def cost(self, now: float, away: float) -> float | None:
        """Return USD so far, for a machine that was stopped for `away` seconds; None where the price is unknown."""
        if self.dph is None or self.since is None:
            return None
        away = min(away, max(0.0, now - self.since))
        return (max(0.0, now - self.since - away) * self.dph + away * self.storage_dph) / 3600


@dataclass(frozen=True)
class Container:
    """What process 1 of a rented machine knows: which instance it is, and the key that can end it and no other."""

    id: int | None
    key: str | None

    def __repr__(self) -> str:
        return f"Container(id={self.id}, key={'None' if self.key is None else '***'})"


@dataclass(frozen=True)
class Other:
    """Another run on this machine. `busy`: its jobs are running, or were a moment ago; `left`: it has jobs that have
    not run; `safe`: its results have been pulled."""

    run_id: str
    busy: bool
    left: bool
    safe: bool


@dataclass(frozen=True)
class MachineReading:
    """What was read of the machine in one turn.

    `container`: the instance that the machine identifies itself as; `key`: whether it has its key; `instance`: the one
    that the run was sent to. `acknowledged`: the journal's seq up to which results were pulled. `others`: None where
    they were not checked. `doing`: the command of the run that runs beside its jobs now. `completed`: exit code of
    `on_complete`, once. `pushed`: seq up to which `results_to` has copied results, `push_fault`: why it failed.
    `confirmed`: the plan (stop, destroy) that the provider has confirmed, `fault`: why it has not yet.
    """

    container: int | Unreadable | None = None
    key: bool = False
    instance: Instance | Unreadable | None = None
    acknowledged: int = 0
    others: tuple[Other, ...] | None = None
    doing: str | None = None
    completed: int | None = None
    pushed: int = 0
    push_fault: str | None = None
    confirmed: str | None = None
    fault: str | None = None

    @property
    def rented(self) -> bool:
        """Whether the run may be on an instance: unknown is not absent."""
        return self.instance is not None or self.container is not None

    @property
    def price(self) -> Instance | None:
        """The price of the machine, where known."""
        known = self.instance
        return known if isinstance(known, Instance) and known.dph is not None and known.since is not None else None

    def own(self) -> int | str:
        """Return the instance that may be ended; or why none may, in words."""
        if isinstance(self.instance, Unreadable):
            return self.instance.reason
        if isinstance(self.container, Unreadable):
            return f"cannot determine which instance this is: {self.container.reason}"
        if self.container is None:
            if self.instance is None:
                return "this machine is not a Vast.ai instance"
            return f"this machine does not say that it is instance {self.instance.id}: process 1 has no CONTAINER_ID"
        if self.instance is not None and self.instance.id != self.container:
            return f"the run was sent to instance {self.instance.id}, and this machine is {self.container}"
        if not self.key:
            return f"instance {self.container} has no key to end itself: process 1 has no CONTAINER_API_KEY"
        return self.container


def parse_instance(text: str) -> Instance | Unreadable:
    """Read instance.json: {"instance_id": N, "dph": USD an hour, "storage_dph": USD an hour, "since": ISO time}."""
    try:
        data = json.loads(text)
        number, since = data["instance_id"], data.get("since")
        if type(number) is not int or number <= 0:
            raise ValueError("instance_id is not an instance number")
        return Instance(
            number,
            _dollars(data.get("dph")),
            _dollars(data.get("storage_dph")) or 0.0,
            None if since is None else epoch(since),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Unreadable(f"instance.json cannot be read: {error!r}")


def instance_text(instance: Instance) -> str:
    """Write instance.json for a run that is sent to a rented machine."""
    row = {"instance_id": instance.id, "dph": instance.dph, "storage_dph": instance.storage_dph}
    return json.dumps({**row, "since": iso(instance.since)}) + "\n"


def acknowledged_text(seq: int, now: float) -> str:
    """Write `acknowledged`: all results up to the journal's line `seq` were pulled; `seq` is that before they were
    listed."""
    return json.dumps({"seq": seq, "at": iso(now)}) + "\n"


def _dollars(value: Any) -> float | None:
    if value is None:
        return None
    found = float(value)
    if not 0 <= found < float("inf"):
        raise ValueError(f"{value} is not a price")
    return found


def parse_acknowledged(text: str) -> int:
    """Read `acknowledged`: {"seq": N, "at": ISO time}. Returns 0 where it cannot be read: then nothing counts as
    pulled."""
    try:
        found = json.loads(text)["seq"]
    except (ValueError, KeyError, TypeError):
        return 0
    return found if type(found) is int and found > 0 else 0


def parse_container(environment: bytes) -> Container:
    """Read the environment of process 1, as in /proc/1/environ."""
    found = dict(pair.split(b"=", 1) for pair in environment.split(b"\0") if b"=" in pair)
    number = found.get(b"CONTAINER_ID", b"").strip()
    key = found.get(b"CONTAINER_API_KEY", b"").decode(errors="replace").strip()
    # A key with anything else in it could not stand in a header, and would be quoted in the complaint.
    return Container(int(number) if number.isdigit() else None, key if _KEY.fullmatch(key) else None)


def other(run_id: str, meta: Mapping[str, Any], held: bool, acknowledged: int, now: float, patience: float) -> Other:
    """Describe another run by the `meta` of its state. `held`: a manager is running; it is busy until it has been idle
    for `patience` seconds. One with missing fields counts as unsafe."""
    left = meta.get("manager") != "finished"
    idle_since = meta.get("idle_since")
    busy = held and left
    if busy and isinstance(idle_since, str):
        try:
            busy = now - epoch(idle_since) < patience
        except ValueError:
            busy = True
    results, pushed = meta.get("results_seq"), meta.get("pushed_seq", 0)
    safe = isinstance(results, int) and isinstance(pushed, int) and max(acknowledged, pushed) >= results
    return Other(run_id, busy, left, safe)
