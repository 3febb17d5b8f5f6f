"""What the cards of a host look like at one moment. Unknown is a value of its own, never zero and never absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLICE = "MIG-"
"""How the uuid of a part of a divided card begins."""


SLICES = 100
"""The slices of card N, where it is divided, have the indices from (N + 1) * 100 on: no whole card has such a one."""


def may_use(index: int, listed: Sequence[int] | None) -> bool:
    """Whether a run may use a card, by the manifest's `gpus`: a card that is divided stands for all of its slices."""
    return listed is None or index in listed or (index >= SLICES and index // SLICES - 1 in listed)


def cuda_name(index: int, uuid: str) -> str:
    """What CUDA_VISIBLE_DEVICES calls a card: a slice has no index there."""
    return uuid if uuid.startswith(SLICE) else str(index)


def listed_names(indices: Sequence[str]) -> str:
    """Cards by their indices, for people."""
    return f"GPU{'s' if len(indices) > 1 else ''} {', '.join(indices)}"


@dataclass(frozen=True)
class Unreadable:
    """The port could not tell, for the reason given; nothing may be concluded."""

    reason: str


@dataclass(frozen=True)
class Card:
    """One card. `index` is NVML's, in PCI order; memory in MiB; `util` in percent, None where not reported.

    A slice of a card that is divided (MIG) is a card, too: its uuid begins with MIG-, its index is from 100 on.
    """

    index: int
    uuid: str
    name: str
    total_mib: int
    used_mib: int
    util: int | None = None

    @property
    def free_mib(self) -> int:
        return self.total_mib - self.used_mib

    @property
    def is_slice(self) -> bool:
        return self.uuid.startswith(SLICE)


@dataclass(frozen=True)
class SickCard:
    """A card that is listed but cannot be used now."""

    index: int
    uuid: str
    name: str
    reason: str


@dataclass(frozen=True)
class Cards:
    """A reading of all cards. `note` says in words why there are none, or fewer than one might expect."""

    cards: tuple[Card, ...]
    sick: tuple[SickCard, ...] = ()
    note: str = ""
