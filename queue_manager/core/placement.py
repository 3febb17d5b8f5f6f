"""Assign jobs to GPUs. `views` says what each GPU can give now; `choose` picks GPUs for one job.

A GPU serves either one job alone, or jobs with reserved MiB. A reservation counts from the moment of placement, since a
job may load slowly; NVML's reading counts as well, since others may use the GPU. Together: free = total - max(used,
base + reserved), with `base` what was used before our first job started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from queue_manager.core import gpu_models
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.model import Need, QueueState, Settling
from queue_manager.core.readings import Card, may_use

SETTLE_SECONDS = 30.0
"""Seconds after which a shared GPU's reading is believed again, even if it never fell after a job ended."""


class Holder(Protocol):
    """Whoever has GPUs, such as a live attempt: `mib` of each of `cards` (uuids), None: all of it; `used_mib` of each
    was used before."""

    @property
    def mib(self) -> int | None: ...
    @property
    def cards(self) -> tuple[str, ...]: ...
    @property
    def used_mib(self) -> tuple[int, ...]: ...


class View:
    """One GPU as placement sees it; `take` reserves it for a job, so that the next one sees what is left."""

    __slots__ = ("base", "card", "foreign", "note", "own", "promised", "settled", "shared_by")

    def __init__(
        self, card: Card, holders: Sequence[Holder], foreign: Sequence[ForeignLease], settled: bool, threshold: int
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
        """Whether a job may have the GPU alone."""
        return not self.shared_by and self.card.used_mib < threshold

    def room(self) -> int:
        """MiB that can still be reserved; negative or 0 where none can."""
        if self.own or self.foreign or not self.settled:
            return 0
        return self.card.total_mib - max(self.card.used_mib, self.base + self.promised)

    def take(self, mib: int | None) -> None:
        """Reserve it for a job."""
        self.shared_by += 1
        self.own = self.own or mib is None
        self.promised += mib or 0
        self.note = "assigned to a job of this run" if mib is None else "shared by jobs"


def views(state: QueueState, cards: Iterable[Card], foreign: Iterable[ForeignLease], now: float) -> dict[str, View]:
    """Return the GPUs that this run may use, by uuid: allowed by the manifest and not in quarantine."""
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
    """Return the GPUs in the manifest's `gpus`, without those in quarantine."""
    wanted = state.manifest.gpus
    return [card for card in cards if may_use(card.index, wanted) and card.uuid not in state.cards.quarantined]


def is_settled(
    card: Card,
    holders: Sequence[Holder],
    foreign: Sequence[ForeignLease],
    settling: Settling | None,
    threshold: int,
    now: float,
) -> bool:
    """Return whether the memory of the attempts that ended on this GPU was released.

    For a GPU that is used alone, that is a reading below the threshold. For a shared one, it is a reading that has
    fallen since, to no more than the others may use. In both cases a reading is believed after SETTLE_SECONDS.
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
    """Return GPUs for one job, or None. After an OOM: those with the most free memory, and if possible not the ones it
    had. Otherwise: for a job that runs alone the lowest index, for one that shares the most room."""
    if need.mib is None:
        fit = [view for view in cards.values() if view.is_free(threshold)]
    else:
        fit = [view for view in cards.values() if view.room() >= need.mib]
    if need.models:
        fit = [view for view in fit if gpu_models.fits(need.models, view.card.name)]
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
    """Say why no state of these GPUs will ever meet the need; None if one may."""
    if need.gpus == 0:
        return None
    where = "this host has" if listed is None else f"of the GPUs {list(listed)} this host has"
    of, there = "", cards
    if need.models:
        of = f" of model {gpu_models.words(need.models)}"
        cards = [card for card in cards if gpu_models.fits(need.models, card.name)]
        if len(cards) < need.gpus:
            have = gpu_models.counted(card.name for card in there) or "none"
            return f"needs {_cards(need.gpus)}{of}; {where} {have}"
    slices = sum(card.is_slice for card in cards)
    if need.gpus > 1 and slices:
        whole = [card for card in cards if not card.is_slice]
        if len(whole) < need.gpus:
            have = f"{_cards(len(whole)) if whole else 'none'} undivided and {slices} MIG slices"
            return f"needs {_cards(need.gpus)}{of}; {where} {have}, of which a job can have only one"
        cards = whole
    if len(cards) < need.gpus:
        return f"needs {_cards(need.gpus)}; {where} {_cards(len(cards)) if cards else 'none'}"
    if need.mib is not None:
        big = sum(card.total_mib >= need.mib for card in cards)
        if big < need.gpus:
            most = max(card.total_mib for card in cards)
            return (
                f"needs {need.mib} MiB on {_cards(need.gpus)}{of}; the largest {'one' if of else 'GPU'} has {most} MiB"
            )
    return None


def _cards(count: int) -> str:
    return f"{count} GPU" + ("" if count == 1 else "s")
