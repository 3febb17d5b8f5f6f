"""The port to what follows live attempts: processes of this host, or tasks of a cluster."""

from __future__ import annotations

import selectors
import subprocess
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from queue_manager.core.boundary import Doing, Evidence
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.core.readings import Cards, Unreadable


class Follower(Protocol):
    """The followed attempts of a run, by the job's order. Times are epoch seconds."""

    @property
    def boot(self) -> str:
        """What attempts do not outlive: the boot of the host that they run on."""

    @property
    def selector(self) -> selectors.BaseSelector:
        """Wakes the loop; the keys of watched processes have the job's order as their data."""

    @property
    def left_dead(self) -> bool:
        """Whether an attempt has ended whose session may have been killed, so that something of it is still there."""

    def follow(self, order: int, spec: JobSpec, attempt: Attempt, cwd: str, inherited: bool = False) -> None:
        """Begin to follow an attempt; `inherited` from an earlier manager."""

    def respecify(self, order: int, spec: JobSpec) -> None:
        """Judge an attempt by another spec of its job from now on, if it is followed."""

    def launched(self, order: int, frontend: subprocess.Popen[bytes] | None, error: str | None) -> None:
        """Take note of how the launch went so far."""

    def drop(self, order: int) -> None:
        """Follow an attempt no longer."""

    def close_up(self) -> list[int]:
        """Attempts that no event announces."""

    def over(self) -> set[int]:
        """Attempts to be observed, asked when the bell has rung."""

    def ended(self, fd: int, order: int) -> bool:
        """A watched process of an attempt has ended. Returns whether it was the last one."""

    def observe(self, orders: Iterable[int], now: float) -> dict[int, Evidence]:
        """Look at these attempts."""

    def sample_due(self) -> float:
        """When to look at what running attempts do."""

    def sample(self, now: float, cards: Cards | Unreadable | None, pace: float) -> list[int]:
        """Look at what running attempts do. Returns those to be observed. `pace`: seconds over which idleness
        counts."""

    def doing(self) -> Mapping[int, Doing]:
        """What each running attempt did when that was last looked at."""

    def queued(self) -> Mapping[int, str]:
        """Where each attempt waits that was handed over and has not begun, in words."""

    def began_ns(self, order: int) -> int | None:
        """When a followed attempt began, in ns since the epoch; None if it has not."""

    def stop(self, order: int, kill: bool) -> None:
        """Signal all that an attempt started."""

    def close_unclaimed(self, order: int) -> None:
        """See to it that an attempt does not begin that was taken back."""

    def quit_session(self, order: int) -> None:
        """Close an attempt's session; the second time, by killing it."""

    def clean_up(self, is_ours: Callable[[str], bool]) -> None:
        """Remove what killed sessions of this run have left."""
