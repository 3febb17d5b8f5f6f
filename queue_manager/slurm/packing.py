"""Which attempts a pilot starts next in its allocation, and on which GPUs. Pure.

The rules are those of a host, see core.placement: what was promised to an attempt counts from its start to its end, and
what NVML reads counts as well, so that a GPU is never promised more memory than it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from queue_manager.core.model import Need, Settling
from queue_manager.core.placement import View, choose, impossible, is_settled
from queue_manager.core.readings import Card

THRESHOLD_MIB = 500
"""A GPU with less memory in use counts as released by those that have ended."""


class Offer(NamedTuple):
    """An attempt that any pilot of its pool may start. `mib`: memory that it needs of a GPU; `after_oom`: an attempt
    before it ran out of memory; `limit`: seconds that it may take, None: any; `rank`: those with less go first."""

    attempt: str
    job: str
    tag: str
    mib: int
    after_oom: bool
    limit: float | None
    rank: tuple[int, int]

    @property
    def need(self) -> Need:
        return Need(1, self.mib)


class Held(NamedTuple):
    """What a running attempt has, see placement.Holder."""

    mib: int
    cards: tuple[str, ...]
    used_mib: tuple[int, ...]


class Start(NamedTuple):
    """Start an attempt on a GPU, of which `base_mib` were used before. `card` None: no GPU here can ever hold it, for
    this `fault`."""

    offer: Offer
    card: Card | None
    base_mib: int = 0
    fault: str = ""


def starts(
    offers: Iterable[Offer],
    running: Sequence[Held],
    settling: Mapping[str, Settling],
    cards: Sequence[Card],
    are_all: bool,
    now: float,
) -> list[Start]:
    """Return what to start now, in order. `settling`: GPUs (uuid) that attempts have left; `are_all`: whether `cards`
    are all that the allocation has, since one that does not answer may come back; `now` in epoch seconds."""
    views = {}
    for card in cards:
        holders = [one for one in running if card.uuid in one.cards]
        settled = is_settled(card, holders, (), settling.get(card.uuid), THRESHOLD_MIB, now)
        views[card.uuid] = View(card, holders, (), settled, THRESHOLD_MIB)
    found = []
    for offer in sorted(offers, key=lambda one: one.rank):
        fault = impossible(offer.need, cards, None) if are_all else None
        if fault is not None:
            found.append(Start(offer, None, fault=fault.replace("this host", "the allocation")))
            continue
        chosen = choose(offer.need, views, THRESHOLD_MIB, offer.after_oom, ())
        if chosen is not None:
            found.append(Start(offer, chosen[0].card, chosen[0].base))
            chosen[0].take(offer.mib)
    return found


def fits_in_time(left: float | None, longest: float) -> bool:
    """Whether to start another attempt with `left` seconds of the allocation's time, None: unknown, by the `longest`
    time that one has taken there so far."""
    return left is None or left > longest
