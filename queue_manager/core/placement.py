"""Jobs to cards. `views` says what each card can give now; `choose` picks cards for one job.

A card serves either one job that has it to itself, or jobs that were each promised some MiB. What a job was
promised counts from the moment it is placed, since it may load slowly; what NVML reads counts as well, since somebody
else may use the card. Both at once: free = total - max(used, base + promised), with `base` what was used
before our first job came.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from queue_manager.core.boundary import ForeignLease
from queue_manager.core.model import Attempt, Need, QueueState, Settling
from queue_manager.core.readings import Card, may_use

SETTLE_SECONDS = 30.0
"""After so long a shared card's reading is believed again, though it never fell after a job ended."""


class View:
    """One card as placement sees it; `take` books a job in, so that the next one sees what is left."""

    __slots__ = ("base", "card", "foreign", "note", "own", "promised", "settled", "shared_by")

    def __init__(
        self, card: Card, holders: Sequence[Attempt], foreign: Sequence[ForeignLease], settled: bool, threshold: int
    ) -> None:
        self.card = card
        self.own = any(holder.mib is None for holder in holders)
        self.foreign = any(lease.mib is None for lease in foreign)
        self.shared_by = len(holders) + len(foreign)
        self.promised = sum(holder.mib or 0 for holder in holders) + sum(lease.mib or 0 for lease in foreign)
        bases = [mib for holder in holders for uuid, mib in zip(holder.cards, holder.used_mib) if uuid == card.uuid]
        self.base = min([card.used_mib, *bases])
        self.settled = settled
        self.note = self._note(threshold)

    def _note(self, threshold: int) -> str:
        if self.own:
            return "assigned to a job of this run"
        if self.foreign:
            return "assigned to a job of another run"
        if self.shared_by:
            return "shared by jobs"
        if self.card.used_mib >= threshold:
            return "memory not released yet" if not self.settled else "used by another process"
        return ""

    def is_free(self, threshold: int) -> bool:
        """Whether a job may have the card to itself."""
        return not self.shared_by and self.card.used_mib < threshold

    def room(self) -> int:
        """MiB that may still be promised; negative or 0 where nothing may."""
        if self.own or self.foreign or not self.settled:
            return 0
        return self.card.total_mib - max(self.card.used_mib, self.base + self.promised)

    def take(self, mib: int | None) -> None:
        """Book a job in."""
        self.shared_by += 1
        self.own = self.own or mib is None
        self.promised += mib or 0
        self.note = "assigned to a job of this run" if mib is None else "shared by jobs"


def views(state: QueueState, cards: Iterable[Card], foreign: Iterable[ForeignLease], now: float) -> dict[str, View]:
    """The cards that this run may use, by uuid: allowed by the manifest and not quarantined."""
    leases: dict[str, list[ForeignLease]] = {}
    for lease in foreign:
        leases.setdefault(lease.card, []).append(lease)
    threshold = state.manifest.gpu_free_threshold_mib
    found = {}
    for card in allowed(state, cards):
        holders, others = state.cards.holders.get(card.uuid, []), leases.get(card.uuid, [])
        settled = is_settled(card, holders, others, state.cards.settling.get(card.uuid), threshold, now)
        found[card.uuid] = View(card, holders, others, settled, threshold)
    return found


def allowed(state: QueueState, cards: Iterable[Card]) -> list[Card]:
    """Cards by the manifest's `gpus`, without those in quarantine."""
    wanted = state.manifest.gpus
    return [card for card in cards if may_use(card.index, wanted) and card.uuid not in state.cards.quarantined]


def is_settled(
    card: Card,
    holders: Sequence[Attempt],
    foreign: Sequence[ForeignLease],
    settling: Settling | None,
    threshold: int,
    now: float,
) -> bool:
    """Whether the memory of the attempts that ended on this card has gone.

    Alone on the card that is a reading below the threshold. Beside others it is a reading that has fallen since,
    to no more than the others may use. Either way a reading is believed after SETTLE_SECONDS.
    """
    if settling is None or card.used_mib < threshold:
        return True
    waited = now - settling.since >= SETTLE_SECONDS
    if not holders and not foreign:
        return waited
    promised = sum(holder.mib or 0 for holder in holders) + sum(lease.mib or 0 for lease in foreign)
    bases = [mib for holder in holders for uuid, mib in zip(holder.cards, holder.used_mib) if uuid == card.uuid]
    fallen = card.used_mib < settling.used_mib and card.used_mib <= min(bases, default=threshold) + promised
    return fallen or waited


def choose(
    need: Need, cards: Mapping[str, View], threshold: int, after_oom: bool, last: Sequence[str]
) -> list[View] | None:
    """Cards for one job, or None. After an OOM: those with the most free memory, and if there is a choice not the
    ones it had; else, for a card of its own the lowest index, for a shared one the most room."""
    if need.mib is None:
        fit = [view for view in cards.values() if view.is_free(threshold)]
    else:
        fit = [view for view in cards.values() if view.room() >= need.mib]
    if need.gpus > 1:  # CUDA gives a process no more than one slice, and none beside a card
        fit = [view for view in fit if not view.card.is_slice]
    if len(fit) < need.gpus:
        return None

    def order(view: View) -> tuple[int, bool, int]:
        if after_oom:
            # In steps of 256 MiB: a driver's few MiB must not send it back to the card that it died on.
            return (-(view.card.free_mib // 256), view.card.uuid in last, view.card.index)
        return (0 if need.mib is None else -view.room(), False, view.card.index)

    return sorted(fit, key=order)[: need.gpus]


def impossible(need: Need, cards: Sequence[Card], listed: Sequence[int] | None) -> str | None:
    """Why no state of these cards will ever meet the need, in words; None if one may."""
    if need.gpus == 0:
        return None
    where = "this host has" if listed is None else f"of the GPUs {list(listed)} this host has"
    slices = sum(card.is_slice for card in cards)
    if need.gpus > 1 and slices:
        whole = [card for card in cards if not card.is_slice]
        if len(whole) < need.gpus:
            have = f"{_cards(len(whole)) if whole else 'none'} undivided and {slices} MIG slices"
            return f"needs {_cards(need.gpus)}; {where} {have}, of which a job can have only one"
        cards = whole
    if len(cards) < need.gpus:
        return f"needs {_cards(need.gpus)}; {where} {_cards(len(cards)) if cards else 'none'}"
    if need.mib is not None:
        big = sum(card.total_mib >= need.mib for card in cards)
        if big < need.gpus:
            most = max(card.total_mib for card in cards)
            return f"needs {need.mib} MiB on {_cards(need.gpus)}; the largest GPU has {most} MiB"
    return None


def _cards(count: int) -> str:
    return f"{count} GPU" + ("" if count == 1 else "s")
