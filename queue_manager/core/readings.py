"""A reading of a host's GPUs. Unknown is a value of its own, never zero and never absent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SLICE = "MIG-"
"""Prefix of the uuid of a MIG slice."""


SLICES = 100
"""The slices of GPU N have the indices from (N + 1) * 100 on; no whole GPU has such an index."""


def may_use(index: int, listed: Sequence[int] | None) -> bool:
    """Return whether a run may use a GPU, by the manifest's `gpus`: a divided GPU stands for all of its slices."""
    return listed is None or index in listed or (index >= SLICES and index // SLICES - 1 in listed)


def cuda_name(index: int, uuid: str) -> str:
    """Return the name of a GPU in CUDA_VISIBLE_DEVICES: a slice has no index there."""
    return uuid if uuid.startswith(SLICE) else str(index)


def listed_names(indices: Sequence[str]) -> str:
    """List GPUs by their indices, for people."""
    return f"GPU{'s' if len(indices) > 1 else ''} {', '.join(indices)}"


@dataclass(frozen=True)
class Unreadable:
    """A reading failed, for the reason given; nothing may be concluded from it."""

    reason: str


@dataclass(frozen=True)
class Card:
    """One GPU. `index` is NVML's, in PCI order; memory in MiB; `util` in percent, None where not reported.

    A slice of a divided GPU (MIG) counts as a GPU: its uuid begins with MIG-, its index is from 100 on.
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
    """A GPU that is listed but cannot be used now."""

    index: int
    uuid: str
    name: str
    reason: str


@dataclass(frozen=True)
class Cards:
    """A reading of all GPUs. `note` says why there are none, or fewer than expected."""

    cards: tuple[Card, ...]
    sick: tuple[SickCard, ...] = ()
    note: str = ""
