"""What a person should know of a run and the queue does not decide by: shown as conditions, and once in alerts."""

from __future__ import annotations

from collections.abc import Callable

from queue_manager.publish import Publisher


class Notices:
    """The notices of one manager. `now`: the time in epoch seconds. `seq`: of the journal."""

    def __init__(self, publisher: Publisher, now: Callable[[], float], seq: Callable[[], int]) -> None:
        self._publisher, self._now, self._seq = publisher, now, seq
        self._shown: dict[str, tuple[str, float]] = {}

    @property
    def shown(self) -> dict[str, tuple[str, float]]:
        """Text, and since when, by kind."""
        return dict(self._shown)

    def say(self, kind: str, text: str | None) -> None:
        """Show a notice, or no longer show it (None). The same text again changes nothing."""
        before = self._shown.get(kind)
        if text == (None if before is None else before[0]):
            return
        if text is None:
            del self._shown[kind]
        else:
            self._shown[kind] = (text, self._now())
            self._publisher.alert_now(kind, text, self._now(), self._seq())
        self._publisher.changed()
