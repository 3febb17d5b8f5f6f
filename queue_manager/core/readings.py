"""What the cards of a host look like at one moment. Unknown is a value of its own, never zero and never absent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Unreadable(NamedTuple):
    """The port could not tell, for the reason given; nothing may be concluded."""

    reason: str


@dataclass(frozen=True)
class Card:
    """One card. `index` is NVML's, in PCI order; memory in MiB; `util` in percent, None where not reported."""

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    util: int | None = None

    @property
    def free_mib(self) -> int:
        return self.total_mib - self.used_mib


@dataclass(frozen=True)
class SickCard:
    """A card that is listed but cannot be used now."""

    index: int
    uuid: str
    name: str
    reason: str


class Cards(NamedTuple):
    """A reading of all cards. `note` says in words why there are none, or fewer than one might expect."""

    cards: tuple[Card, ...]
    sick: tuple[SickCard, ...] = ()
    note: str = ""
