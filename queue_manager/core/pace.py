"""When to look: at attempts that no event announces, at what running attempts do, and at the GPUs. Pure.

What is only seen by looking is looked at often while somebody waits for it, and seldom else. None of it is journaled:
a manager that begins looks at everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from queue_manager.core import activity
from queue_manager.core import events as ev
from queue_manager.core.boundary import Doing
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.tick import wants_cards

CLOSE_UP = 0.25
"""Seconds between looks at what no event announces."""
BIRTH = 0.02
"""Seconds after a launch until its claim is looked for; doubles up to CLOSE_UP. By then it is there, and the first
milliseconds of the job are left to the job."""
HALF_GONE = 0.05
"""Seconds to wait for a session's end after its wrapper's, or the other way round, before looking at what stays."""
HEARTBEAT = 10.0
"""Seconds after which the snapshot is written again though nothing happened."""


CLEAN = 3.0
"""Seconds between removals of what killed sessions have left."""


def close_up(now: float, launched: float | None) -> float:
    """When to look next at an attempt that no event announces. `launched`: when its launch began, None once it has
    begun itself."""
    return now + (CLOSE_UP if launched is None else min(CLOSE_UP, max(BIRTH, now - launched)))


def idle_pace(poll: float, stale_after: float) -> float:
    """Seconds between two looks by which an attempt counts as idle or not."""
    return max(poll, stale_after / 20)


_FIRST, _AGAIN, _LEFT, _ASKED, _USUAL = 3.0, 2.0, 3.0, 10.0, 30.0
"""Seconds until the next look: after an attempt began, while one seems to wait for an answer, while one waits for what
its command left running, while one waits for an answer, else."""
_LEAST = 5.0
"""Seconds between looks at least, however often attempts begin."""


class ActivityPace:
    """When to look at what running attempts do."""

    def __init__(self) -> None:
        self.due = 0.0
        self._looked = 0.0

    def began(self, now: float) -> None:
        """An attempt has begun."""
        self.due = min(self.due, max(now + _FIRST, self._looked + _LEAST))

    def looked(self, now: float, doing: Sequence[Doing], idle: float, left: bool = False) -> None:
        """All have been looked at. `idle`: see `idle_pace`; `left`: whether one goes on for what its command left
        running."""
        pace = min(_LEFT if left else _USUAL, idle)
        if any(activity.may_wait(one) for one in doing):
            pace = min(pace, _AGAIN)
        elif any(activity.question(one) for one in doing):
            pace = min(pace, _ASKED)
        self.due = now + pace
        if doing:
            self._looked = now


FIRST_LOOK = 0.05
"""Seconds until GPUs are read again after a job ended on one and its memory lingered; doubles up to the poll."""
FOR_VIEW = 5.0
"""Seconds between readings at most while jobs run on GPUs and nobody waits for one, so that a view shows them."""
SETTLED = 1.0
"""Seconds from a job's begin or end until its memory shows in a reading that is made for the view."""


class CardPace:
    """When to read the GPUs: while a job waits for one, soon after an end, else at every poll. For those who look on
    also while jobs run on them, and soon after one begins or ends. `poll` is in seconds."""

    def __init__(self, state: QueueState, poll: float) -> None:
        self._state, self._poll = state, poll
        self._at_once = True
        self._at = 0.0
        self._after = FIRST_LOOK
        self._view_at = 0.0
        self._is_stale = False
        """Whether an attempt has ended on a GPU since the last reading."""

    def is_due(self, now: float) -> bool:
        """Whether it is time, if anybody waits for a GPU at all."""
        return self._at_once or now >= self._at

    def due(self, now: float) -> float | None:
        """When to read them next (epoch seconds); None while nobody waits for one."""
        if not wants_cards(self._state):
            return None
        return now if self._at_once else self._at

    def serves(self, ended: bool) -> bool:
        """Whether somebody waits for a GPU, or will when the attempts that `ended` have been taken in."""
        return wants_cards(self._state) or (ended and bool(self._state.tallies.card_jobs))

    def view_due(self) -> float | None:
        """When to read them next for those who look on (epoch seconds); None while no job uses one."""
        uses = self._is_stale or any(attempt.cards for attempt in self._state.live.values())
        return self._view_at if uses else None

    def read_for_job(self) -> None:
        """They are being read for a job that waits."""
        self._at_once = False

    def read_for_view(self, now: float) -> None:
        """They have been read for those who look on."""
        self._view_at = now + min(self._poll, FOR_VIEW)
        self._is_stale = False

    def turned(self, was_read: bool, records: Iterable[Record], now: float) -> None:
        """A turn is over in which they were read or not, and `records` came about."""
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
