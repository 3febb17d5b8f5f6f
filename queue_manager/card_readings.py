"""Reads the cards, when `core.pace` says so, and keeps what was read last."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.adapters.gpus import Nvml
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.pace import CardPace
from queue_manager.core.readings import Cards, Unreadable


class CardReadings:
    """The readings of one manager. `poll` is in seconds; `last` is what was read last."""

    def __init__(self, state: QueueState, poll: float) -> None:
        self._state, self._pace = state, CardPace(state, poll)
        self._nvml = Nvml()
        self.last: Cards | Unreadable | None = None
        self.is_due, self.due, self.view_due = self._pace.is_due, self._pace.due, self._pace.view_due

    def used_mib(self) -> dict[str, int]:
        """MiB in use by uuid, as last read."""
        return {card.uuid: card.used_mib for card in self.last.cards} if isinstance(self.last, Cards) else {}

    def read(self, ended: bool) -> Cards | Unreadable | None:
        """Read the cards, if somebody waits for one or will when the attempts that `ended` have been taken in."""
        if not self._pace.serves(ended):
            return None
        self._pace.read_for_job()
        self.last = self._nvml.read()
        return self.last

    def for_sample(self) -> Cards | Unreadable | None:
        """Read the cards if a job runs on one; else what was read last."""
        if any(attempt.cards for attempt in self._state.live.values()):
            self.last = self._nvml.read()
        return self.last

    def read_for_view(self, now: float) -> bool:
        """Read the cards if that is due for those who look on. Returns whether they are otherwise than before."""
        due = self.view_due()
        if due is None or now < due:
            return False
        before, self.last = self.last, self._nvml.read()
        self._pace.read_for_view(now)
        return self.last != before

    def read_at_end(self) -> None:
        """Read the cards once more, if they were read at all: what ends now is not shown as if it went on."""
        if isinstance(self.last, Cards):
            self.last = self._nvml.read()

    def pace(self, was_read: bool, records: Iterable[Record], now: float) -> None:
        """Decide when to read next, after a turn in which the cards were read or not and `records` came about."""
        self._pace.turned(was_read, records, now)
