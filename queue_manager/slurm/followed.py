"""What a manager remembers of one live attempt between two looks at it."""

from __future__ import annotations

from queue_manager.core.boundary import Doing, Place
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Unreadable
from queue_manager.slurm.attempt_files import Taken
from queue_manager.slurm.commands import Listed
from queue_manager.slurm.fate import Fate, fate

_WAITS = ("PENDING", "CONFIGURING")


class Followed:
    """One attempt. `inherited` from an earlier manager. Times in epoch seconds: `kill_at`: when it was to be killed
    first; `last_signal`: whether the last signal that it got was KILL, and when."""

    def __init__(self, spec: JobSpec, attempt: Attempt, cwd: str, inherited: bool) -> None:
        self.spec, self.attempt, self.cwd, self.inherited = spec, attempt, cwd, inherited
        self.name = f"{spec.id}~{attempt.n}"
        self.launch_error: str | None = None
        self.put_off = self.never = self.is_cancelled = False
        self.taken: Taken | None = None
        self.queued: str | None = None
        self.gone_at: float | None = None
        self.held = inherited  # by an earlier manager, for all that is known
        self.listed_at = 0.0
        self.is_unsure = False
        self.unsure_since: float | None = None
        self.last_signal: tuple[bool, float] = False, 0.0
        self.place: Place | None = None
        self.kill_at: float | None = None
        self.is_revoked = False
        self.runs_since: float | None = None
        self.doing: Doing | None = None
        self._news: object = None

    def was_killed_for(self, now: float) -> float:
        """Return the seconds since it was to be killed first, which is now if it never was."""
        self.kill_at = self.kill_at or now
        return now - self.kill_at

    def is_phantom(self, runs: bool, now: float, within: float) -> bool:
        """Return whether its task has been shown as running for `within` seconds, and has begun nothing. After a crash
        Slurm's controller may give a task an ID that its node knows as another's, which then does not start it.

        `runs`: whether it is shown so now.
        """
        self.runs_since = (self.runs_since or now) if runs else None
        return self.runs_since is not None and now - self.runs_since >= within

    def awaits_listing(self) -> None:
        """Take note that the last listing is too old to say anything of it: the next one is news, whatever it says."""
        self._news = None

    def has_news(self, row: Listed | Unreadable | None, offered: object, now: float) -> bool:
        """Whether a new listing says anything of it that the one before did not, or that counts once it has lasted.

        `row`: what it lists of the attempt; `offered`: what keeps it from beginning in a pilot, None where it is not
        offered to any. Most of a long queue is as it was, and looking at each attempt's files costs much more.
        """
        news = row if isinstance(row, Listed) else (type(row), offered)
        before, self._news = self._news, news
        if isinstance(row, Listed):
            self.listed_at = now
            is_calm = row.state in _WAITS if self.taken is None else fate(row) is Fate.RUNS
            return news != before or not is_calm
        return news != before or (row is None and (offered is None or self.taken is not None))
