"""Wait for an instance that was rented or started: until it runs, SSH login works and its instance ID matches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

from skill.fleet import drift, startup
from skill.fleet.drift import Identified
from skill.fleet.reconcile import identify
from skill.fleet.ssh_key import Key
from skill.fleet.startup import Broken, Wait
from skill.hosts.registry import Ssh, Worker
from skill.providers.instances import Instance
from skill.providers.outcomes import Done, Gone, Refused, Unknown
from skill.providers.ownership import Claim, NotOurs, decide
from skill.providers.provider import Provider

_SLOWEST, _FASTEST, _SHARE = 10.0, 0.5, 0.05
"""Most and least seconds between looks at an instance; in between, a share of the time so far."""
_BLIND, _WARN_AGAIN = 30.0, 600.0
"""Seconds for which the state of an instance may be unknown before a warning, and between two warnings."""
Say = Callable[[str], None]


class Arrived(NamedTuple):
    """The instance is ready; with what it answered when it identified itself."""

    live: Instance
    identified: Identified


def wait_until_ready(
    client: Provider, claim: Claim, name: str, key: Key, asked: float, ready_within: float, say: Say
) -> Arrived | Broken | Gone | NotOurs:
    """Wait for an instance, and attach the SSH key. `asked`: when it was requested, in epoch seconds. `say` gets a line
    for each of its states."""
    number = claim.number
    worker = Worker(name, ssh=Ssh("127.0.0.1", None, "root", key.private), instance_id=number)
    key_attached, shown, since = False, "", time.monotonic()
    refused, blind = "", _Blind(number)
    while True:
        live = client.instance(number)
        if isinstance(live, Gone):
            return live
        text = blind.words(live)
        if text is not None:
            say(text)
        identified: list[Identified] = []
        if isinstance(live, Instance):
            verdict = decide(claim, live)
            if isinstance(verdict, NotOurs):
                return verdict
            if not key_attached:  # a young instance may not take it yet
                attached = client.attach_key(verdict, key.public)
                key_attached = isinstance(attached, Done)
                refused = attached.why if isinstance(attached, Refused) else ""
            live = _with_ports(client, live)
            if live.status != shown:
                shown, since = live.status, time.monotonic()
                say(f"instance {number} is {shown}" + (f": {live.status_msg}" if live.status_msg else ""))
            for way in drift.to_try(worker, live):
                identified.append(identify(worker, way))
                if identified[-1].instance_id == number:
                    break
        found = startup.verdict(
            live, _doubt(number, identified), time.time() - asked, time.monotonic() - since, ready_within
        )
        if isinstance(found, Broken):
            ours = (
                f"Vast.ai did not accept the ssh key for its machines: {refused}" if refused and found.entry else None
            )
            return found._replace(ours=ours)
        if not isinstance(found, Wait) and isinstance(live, Instance):
            return Arrived(live, identified[-1])
        time.sleep(min(_SLOWEST, max(_FASTEST, _SHARE * (time.time() - asked))))


class _Blind:
    """Tracks for how long the state of an instance, which may be billed meanwhile, has been unknown."""

    def __init__(self, number: int) -> None:
        self._number, self._since, self._warned_at = number, time.monotonic(), -math.inf

    def words(self, live: Instance | Unknown) -> str | None:
        """Return the warning after a look; None where there is none."""
        now = time.monotonic()
        if isinstance(live, Instance):
            self._since = now
            return None
        if now - self._since < _BLIND or now - self._warned_at < _WARN_AGAIN:
            return None
        self._warned_at = now
        return (
            f"the state of instance {self._number} is unknown for {now - self._since:.0f} s ({live.reason}); it may "
            "be billed meanwhile; asking again"
        )


def _with_ports(client: Provider, live: Instance) -> Instance:
    """Return an instance with its ports, which a query for one instance may lack."""
    if live.status != "running" or live.ssh_port_direct is not None:
        return live
    listed = client.instances()
    if isinstance(listed, Unknown):
        return live
    return next((one for one in listed if one.id == live.id), live)


def _doubt(number: int, identified: list[Identified]) -> str | None:
    """Return why it is unknown whether SSH login works and the instance ID matches."""
    if not identified:
        return "Vast.ai shows no address for it"
    if identified[-1].instance_id == number:
        return None
    return "; ".join(
        f"{one.address.way}: "
        + (
            one.fault or "it does not identify itself"
            if one.instance_id is None
            else f"leads to instance {one.instance_id}"
        )
        for one in identified
    )
