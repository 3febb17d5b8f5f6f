"""The port to a provider of rented machines, and what is asked of one. Their table is skill.fleet.provider.

A provider returns the facts, or `Unknown`; it raises for nothing that the world does. What changes an instance takes
the proof that it is ours. What a provider promises is held by tests/contracts/test_provider.py.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from skill.providers.instances import Instance, Offer, User
from skill.providers.outcomes import Created, Done, Gone, Refused, Unknown
from skill.providers.ownership import Ours


class Need(NamedTuple):
    """What an offer has to have, at least; 0, None and empty: nothing is asked for. GB are 10^9 bytes.

    `cards`: exactly so many; `gpu_names`: one of these; `inet_down` in Mb/s; `max_dph` in $ per hour with the disk;
    `banned`: machine ids that are not wanted.
    """

    disk_gb: float
    reliability: float = 0.0
    cards: int | None = None
    least_cards: int | None = None
    gpu_names: tuple[str, ...] = ()
    gpu_ram_mib: float = 0.0
    cpu_ram_gb: float = 0.0
    cpu_cores: float = 0.0
    cuda: float = 0.0
    inet_down: float = 0.0
    max_dph: float | None = None
    banned: frozenset[int] = frozenset()


class NewInstance(NamedTuple):
    """What is to be made of an offer: with ssh, running, and rather refused than made stopped. `guard`: it is to
    destroy itself if it never gets a run."""

    label: str
    image: str
    disk_gb: float
    guard: bool = False


class Found(NamedTuple):
    """Offers by their price. `complete`: these are all; else the cheapest."""

    offers: tuple[Offer, ...]
    complete: bool


class Provider(Protocol):
    """One account at a provider."""

    name: str
    """How people call it."""

    def close(self) -> None:
        """End its connections."""

    def instances(self) -> tuple[Instance, ...] | Unknown:
        """All instances of the account, by id; Unknown if any of them is."""

    def instance(self, instance_id: int, /) -> Instance | Gone | Unknown:
        """One instance, with what it costs. Gone only where the provider says so."""

    def search(self, need: Need, /) -> Found | Unknown:
        """What can be rented, the cheapest first. It may keep less than all of the need: who asks looks again."""

    def offer(self, number: int, disk_gb: float, /) -> Offer | Gone | Unknown:
        """One offer by its number, its price with a disk of so many GB."""

    def user(self) -> User | Unknown:
        """Whose account this is, and what is left to spend."""

    def rent(self, offer_id: int, new: NewInstance, /) -> Created | Refused | Unknown:
        """Rent an offer; never twice for one call. Unknown: it may have happened; find it by its label, and do not ask
        again. A number in the answer is believed once the instance shows that label."""

    def start(self, ours: Ours, /) -> Done | Refused | Unknown:
        """Start a stopped instance. Where it is refused as queued, it would start later: take that back by `stop`."""

    def stop(self, ours: Ours, /) -> Done | Refused | Unknown:
        """Stop an instance, or take back a start that waits. Its disk is kept, and billed."""

    def destroy(self, ours: Ours, /) -> Done | Refused | Unknown:
        """Destroy an instance, with its disk. One that has gone is refused as gone."""

    def attach_key(self, ours: Ours, public_key: str, /) -> Done | Refused | Unknown:
        """Let a public ssh key in."""
