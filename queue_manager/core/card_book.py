"""What is known of the GPUs of a run, and how they are reserved. Changed only by `QueueState.apply`."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

from queue_manager.core.state_types import Attempt, Settling

FAILURES_KEPT = 8
"""Number of the last jobs that failed on a GPU that are remembered."""


class CardBook:
    """Leases, memory that was not released yet, and GPUs in quarantine; all by uuid.

    `holders`: live attempts that have the GPU, derived from them; `settling`: GPUs that an attempt has left;
    `quarantined`: why a GPU gets no job. `failures`: the jobs that failed on a GPU one after the other; `served`: GPUs
    on which a job has completed. `wave`: the number of the last wave, and `wave_cards` its GPUs.
    """

    def __init__(self) -> None:
        self.holders: dict[str, list[Attempt]] = {}
        self.settling: dict[str, Settling] = {}
        self.quarantined: dict[str, str] = {}
        self.failures: dict[str, tuple[str, ...]] = {}
        self.served: set[str] = set()
        self.wave = 0
        self.wave_cards: tuple[str, ...] = ()

    # -- asked --------------------------------------------------------------------------------------------------------

    def conflict(self, cards: Iterable[str], mib: int | None) -> str | None:
        """Return why a job that wants `mib` of each of these GPUs (None: all of it) cannot have them; None if it
        can."""
        for card in cards:
            holders = self.holders.get(card)
            if holders and (mib is None or any(holder.mib is None for holder in holders)):
                return f"GPU {card} is held by {holders[0].job!r}"
        return None

    def copy(self) -> CardBook:
        """Return a copy without `holders`, which `hold` derives again."""
        made = copy(self)
        made.holders, made.settling, made.quarantined = {}, dict(self.settling), dict(self.quarantined)
        made.failures, made.served = dict(self.failures), set(self.served)
        return made

    # -- called by apply ----------------------------------------------------------------------------------------------

    def give(self, attempt: Attempt) -> None:
        """Give an attempt its GPUs, in its wave."""
        for card in attempt.cards:
            self.holders.setdefault(card, []).append(attempt)
            self.settling.pop(card, None)
        self.wave_cards = attempt.cards if attempt.wave != self.wave else (*self.wave_cards, *attempt.cards)
        self.wave = attempt.wave

    def take_back(self, attempt: Attempt, at: float, used_mib: Iterable[int]) -> None:
        """Release the GPUs of an attempt that ended at `at` (epoch seconds). `used_mib`: last reading of each."""
        for card, mib in zip(attempt.cards, used_mib):
            holders = self.holders[card]
            holders.remove(attempt)
            if not holders:
                del self.holders[card]
            self.settling[card] = Settling(at, mib)

    def completed(self, cards: Iterable[str]) -> None:
        """Note that a job completed on these GPUs."""
        for card in cards:
            self.failures.pop(card, None)
            self.served.add(card)

    def failed(self, cards: Iterable[str], job: str) -> None:
        """Note that a job failed on these GPUs, other than by OOM."""
        for card in cards:
            before = tuple(name for name in self.failures.get(card, ()) if name != job)
            self.failures[card] = (*before, job)[-FAILURES_KEPT:]

    def put_aside(self, card: str, reason: str) -> None:
        """Quarantine a GPU: it gets no job until `try_again`."""
        self.quarantined[card] = reason
        self.failures.pop(card, None)

    def try_again(self) -> None:
        """End the quarantine of GPUs: a person says that they are to be used again."""
        self.quarantined.clear()
        self.failures.clear()

    def hold(self, attempts: Iterable[Attempt]) -> None:
        """Derive `holders` from the live attempts."""
        self.holders = {}
        for attempt in attempts:
            for card in attempt.cards:
                self.holders.setdefault(card, []).append(attempt)
