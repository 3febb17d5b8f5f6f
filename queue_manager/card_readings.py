"""When the cards are read: while somebody waits for one, soon after an end, else at every poll."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.tick import wants_cards
from queue_manager.gpus import Nvml

FIRST_LOOK = 0.05
"""Seconds until cards are read again after a job ended on one and its memory lingered; doubles up to the poll."""


class CardReadings:
    """The readings of one manager. `poll` is in seconds; `last` is what was read last."""

    def __init__(self, state: QueueState, poll: float) -> None:
        self._state, self._poll = state, poll
        self._nvml = Nvml()
        self.last: Cards | Unreadable | None = None
        self._at_once = True
        self._at = 0.0
        self._after = FIRST_LOOK

    def used_mib(self) -> dict[str, int]:
        """MiB in use by uuid, as last read."""
        return {card.uuid: card.used_mib for card in self.last.cards} if isinstance(self.last, Cards) else {}

    def is_due(self, now: float) -> bool:
        return self._at_once or now >= self._at

    def due(self, now: float) -> float | None:
        """When the cards are to be read next (epoch seconds); None while nobody waits for one."""
        if not wants_cards(self._state):
            return None
        return now if self._at_once else self._at

    def read(self, ended: bool) -> Cards | Unreadable | None:
        """Read the cards, if somebody waits for one or will when the attempts that `ended` have been taken in."""
        if not (wants_cards(self._state) or (ended and self._state.card_jobs)):
            return None
        self._at_once = False
        self.last = self._nvml.read()
        return self.last

    def for_sample(self) -> Cards | Unreadable | None:
        """Read the cards if a job runs on one; else what was read last."""
        if any(attempt.cards for attempt in self._state.live.values()):
            self.last = self._nvml.read()
        return self.last

    def pace(self, was_read: bool, records: Iterable[Record], now: float) -> None:
        """Decide when to read next, after a turn in which the cards were read or not and `records` came about."""
        if was_read:
            self._after = min(self._poll, self._after * 2)
        for record in records:
            if isinstance(record.event, ev.AttemptEnded):
                self._after = min(self._poll, FIRST_LOOK)
            if isinstance(record.event, (ev.RetryDue, ev.AttemptEnded, ev.JobHeld)):
                self._at_once = True
        if was_read:
            self._at_once = False
            self._at = now + self._after
