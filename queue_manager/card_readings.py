"""When the cards are read: while somebody waits for one, soon after an end, else at every poll. For those who look on
they are also read while jobs run on them, soon after one begins or ends, and at the end of the run."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.adapters.gpus import Nvml
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.tick import wants_cards

FIRST_LOOK = 0.05
"""Seconds until cards are read again after a job ended on one and its memory lingered; doubles up to the poll."""

FOR_VIEW = 5.0
"""Seconds between readings at most while jobs run on cards and nobody waits for one, so that a view shows them."""
SETTLED = 1.0
"""Seconds from a job's begin or end until its memory shows in a reading that is made for the view."""


class CardReadings:
    """The readings of one manager. `poll` is in seconds; `last` is what was read last."""

    def __init__(self, state: QueueState, poll: float) -> None:
        self._state, self._poll = state, poll
        self._nvml = Nvml()
        self.last: Cards | Unreadable | None = None
        self._at_once = True
        self._at = 0.0
        self._after = FIRST_LOOK
        self._view_at = 0.0
        self._is_stale = False
        """Whether an attempt has ended on a card since the last reading."""

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
        if not (wants_cards(self._state) or (ended and self._state.tallies.card_jobs)):
            return None
        self._at_once = False
        self.last = self._nvml.read()
        return self.last

    def for_sample(self) -> Cards | Unreadable | None:
        """Read the cards if a job runs on one; else what was read last."""
        if any(attempt.cards for attempt in self._state.live.values()):
            self.last = self._nvml.read()
        return self.last

    def view_due(self) -> float | None:
        """When the cards are to be read next for those who look on (epoch seconds); None while no job uses one."""
        uses = self._is_stale or any(attempt.cards for attempt in self._state.live.values())
        return self._view_at if uses else None

    def read_for_view(self, now: float) -> bool:
        """Read the cards if that is due for those who look on. Returns whether they are otherwise than before."""
        due = self.view_due()
        if due is None or now < due:
            return False
        before, self.last = self.last, self._nvml.read()
        self._view_at = now + min(self._poll, FOR_VIEW)
        self._is_stale = False
        return self.last != before

    def read_at_end(self) -> None:
        """Read the cards once more, if they were read at all: what ends now is not shown as if it went on."""
        if isinstance(self.last, Cards):
            self.last = self._nvml.read()

    def pace(self, was_read: bool, records: Iterable[Record], now: float) -> None:
        """Decide when to read next, after a turn in which the cards were read or not and `records` came about."""
        if was_read:
            self._after = min(self._poll, self._after * 2)
        for record in records:
            if isinstance(record.event, ev.AttemptEnded):
                self._after = min(self._poll, FIRST_LOOK)
                self._is_stale |= bool(self._state.job(record.event.job).last_cards)
            if isinstance(record.event, (ev.AttemptStarted, ev.AttemptEnded)):
                self._view_at = min(self._view_at, now + SETTLED) if self._view_at > now else now + SETTLED
            if isinstance(record.event, (ev.RetryDue, ev.AttemptEnded, ev.JobHeld)):
                self._at_once = True
        if was_read:
            self._at_once = False
            self._at = now + self._after
