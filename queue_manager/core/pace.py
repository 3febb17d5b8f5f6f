"""When to look: at attempts that no event announces, at what running attempts do, and at the GPUs. Pure.

What can only be found by polling is polled often while something waits for it, and rarely otherwise. None of it is
journaled: a manager that starts looks at everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from queue_manager.core import activity
from queue_manager.core import events as ev
from queue_manager.core.boundary import Doing
from queue_manager.core.events import Record
from queue_manager.core.model import QueueState
from queue_manager.core.tick import wants_cards

CLOSE_UP = 0.25
"""Seconds between looks at what no event announces."""
BIRTH = 0.02
"""Seconds after a launch until its claim is looked for; doubles up to CLOSE_UP. By then it exists, and the first
milliseconds of the job are left to the job."""
HALF_GONE = 0.05
"""Seconds to wait, when either a session or its wrapper has ended, for the other one, before looking at what
remains."""
HEARTBEAT = 10.0
"""Seconds after which the snapshot is written again although nothing happened."""


class Share(NamedTuple):
    """What part of the time a manager may spend on what nobody waits for: on writing the state, on estimating the end;
    and on turns, one after the other, where None is all of it."""

    writing: float
    estimating: float
    turning: float | None


OWN_HOST = Share(0.03, 0.01, None)
LOGIN_NODE = Share(0.003, 0.002, 0.04)
"""Login nodes are shared by many, who are told off for more than a few minutes of CPU time a day."""
MOST_REST = 0.5
"""Seconds of rest after a turn, at most."""


def rest(share: Share, used: float) -> float:
    """Return the seconds to wait until the next turn, after one that used so many seconds of CPU time."""
    return 0.0 if share.turning is None else min(MOST_REST, used / share.turning)


CLEAN = 3.0
"""Seconds between removals of what killed sessions have left."""


def close_up(now: float, launched: float | None) -> float:
    """Return when to look next at an attempt that no event announces. `launched`: when its launch began, None once it
    has started."""
    return now + (CLOSE_UP if launched is None else min(CLOSE_UP, max(BIRTH, now - launched)))


def idle_pace(poll: float, stale_after: float) -> float:
    """Return the seconds between two looks at whether an attempt is idle."""
    return max(poll, stale_after / 20)


_FIRST, _AGAIN, _LEFT, _ASKED, _USUAL = 3.0, 2.0, 3.0, 10.0, 30.0
"""Seconds until the next look: after an attempt started, while one seems to wait for input, while one waits for
processes that its command left, while one waits for input, else."""
_LEAST = 5.0
"""Least seconds between looks, however often attempts start."""


class ActivityPace:
    """When to look at what running attempts do."""

    def __init__(self) -> None:
        self.due = 0.0
        self._looked = 0.0

    def began(self, now: float) -> None:
        """Note that an attempt has started."""
        self.due = min(self.due, max(now + _FIRST, self._looked + _LEAST))

    def looked(self, now: float, doing: Sequence[Doing], idle: float, left: bool = False) -> None:
        """Note that all were looked at. `idle`: see `idle_pace`; `left`: whether one waits for processes that its
        command left."""
        pace = min(_LEFT if left else _USUAL, idle)
        if any(activity.may_wait(one) for one in doing):
            pace = min(pace, _AGAIN)
        elif any(activity.question(one) for one in doing):
            pace = min(pace, _ASKED)
        self.due = now + pace
        if doing:
            self._looked = now


FIRST_LOOK = 0.05
"""Seconds until GPUs are read again after a job ended on one and its memory was not released; doubles up to the
poll."""
FOR_VIEW = 5.0
"""Most seconds between readings while jobs run on GPUs and none waits for one, so that a view shows them."""
SETTLED = 1.0
"""Seconds after a job's start or end until its memory shows in a reading for the view."""


class CardPace:
    """When to read the GPUs: while a job waits for one, soon after an end, else at every poll. For viewers also while
    jobs run on them, and soon after one starts or ends. `poll` is in seconds."""

    def __init__(self, state: QueueState, poll: float) -> None:
        self._state, self._poll = state, poll
        self._at_once = True
        self._at = 0.0
        self._after = FIRST_LOOK
        self._view_at = 0.0
        self._is_stale = False
        """Whether an attempt has ended on a GPU since the last reading."""

    def is_due(self, now: float) -> bool:
        """Return whether it is time, if any job waits for a GPU."""
        return self._at_once or now >= self._at

    def due(self, now: float) -> float | None:
        """Return when to read them next (epoch seconds); None while no job waits for one."""
        if not wants_cards(self._state):
            return None
        return now if self._at_once else self._at

    def serves(self, ended: bool) -> bool:
        """Return whether a job waits for a GPU, or will once the attempts that `ended` have been processed."""
        return wants_cards(self._state) or (ended and bool(self._state.tallies.card_jobs))

    def view_due(self) -> float | None:
        """Return when to read them next for viewers (epoch seconds); None while no job uses one."""
        uses = self._is_stale or any(attempt.cards for attempt in self._state.live.values())
        return self._view_at if uses else None

    def read_for_job(self) -> None:
        """Note that they are being read for a job that waits."""
        self._at_once = False

    def read_for_view(self, now: float) -> None:
        """Note that they were read for viewers."""
        self._view_at = now + min(self._poll, FOR_VIEW)
        self._is_stale = False

    def turned(self, was_read: bool, records: Iterable[Record], now: float) -> None:
        """Note the end of a turn in which they were read or not, with its `records`."""
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
