"""Which alerts one recipient has been sent, and which are due: each once, and again while it still holds. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from queue_manager.core.notify_messages import Alert, Sending


class Book:
    """The alerts of one recipient. `every`: seconds after which one that holds is sent again. `sent`: how often each
    has been sent, and when last (epoch seconds), by its seq.

    Alerts are sent in the order of the journal, so the last one that was sent tells that those before were.
    """

    def __init__(self, every: float, sent: Mapping[int, tuple[int, float]]) -> None:
        self._every = every
        self._sent = dict(sent)
        self._last = max(sent, default=0)
        self._open: dict[int, Alert] = {}
        """Alerts that have been sent, and may hold still; those that are being sent again are not among them."""

    def take(self, alert: Alert) -> Sending | None:
        """Take note of an alert. What is to be sent; None where it has been sent before."""
        if alert.seq > self._last:
            self._last = alert.seq
            return Sending(alert)
        if alert.seq in self._sent:
            self._open[alert.seq] = alert
        return None

    def sent(self, sending: Sending, at: float) -> None:
        """Take note that an alert has been sent at that time (epoch seconds)."""
        self._sent[sending.alert.seq] = sending.n, at
        self._open[sending.alert.seq] = sending.alert

    def due(self) -> float | None:
        """When to look which alerts are to be sent again (epoch seconds); None where there are none."""
        return min((self._sent[seq][1] + self._every for seq in self._open), default=None)

    def again(self, now: float, holds: Callable[[Alert], bool]) -> list[Sending]:
        """The alerts that are to be sent again. Those that no longer hold are forgotten."""
        due = [seq for seq in self._open if self._sent[seq][1] + self._every <= now]
        alerts = [self._open.pop(seq) for seq in due]
        return [Sending(one, self._sent[one.seq][0] + 1) for one in alerts if holds(one)]
