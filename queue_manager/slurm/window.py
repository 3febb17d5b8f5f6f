"""How many tasks of a run are handed to Slurm: fewer once it refuses more, and more again later. Pure.

A limit on submitted jobs counts jobs of others too, and is not known beforehand. So after a refusal half as many are
tried beside those that Slurm has by then; after a while the window grows by 1, 2, 4 … tasks. Where that is refused
again, the next growth waits twice as long.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GROWS = 30.0
"""Seconds between two growths."""
SLOWEST = 900.0
"""Seconds from a refusal to the next growth at most, where growing is refused again and again."""
FIRST, LONGEST = 1.0, 60.0
"""Seconds from a refusal to the next submission: doubled where that is refused too."""


@dataclass(frozen=True)
class Window:
    """`most`: what is wanted; `size`: what is handed over at present, running or waiting. `limit`: the limit that was
    met last, None where none is in the way. `refusals`: in a row; nothing is handed over before `opens` (epoch
    seconds). `grows`: when it grows next, by `step` tasks; `pause`: seconds from the last refusal to the first growth,
    of which there were `growths`."""

    most: int
    size: int
    limit: str | None = None
    refusals: int = 0
    opens: float = 0.0
    grows: float = 0.0
    step: int = 1
    pause: float = GROWS
    growths: int = 0

    def room(self, live: int, now: float) -> int:
        """Return how many more tasks may be handed over, where Slurm has `live`."""
        return 0 if now < self.opens else max(0, self.size - live)


def whole(most: int) -> Window:
    """Return the window of a run that has met no limit."""
    return Window(most, most)


def accepted(window: Window) -> Window:
    """Return the window after Slurm took a batch."""
    return replace(window, refusals=0)


def refused(window: Window, limit: str, held: int, asked: int, now: float) -> Window:
    """Return the window after Slurm refused a batch of `asked` tasks for a limit, while it had `held` of the run."""
    refusals = window.refusals + 1
    pause = window.pause
    if not window.refusals:
        is_same = window.limit is not None and window.growths < 2
        pause = min(2 * pause, SLOWEST) if is_same else GROWS
    return Window(
        window.most,
        max(1, min(window.size, held + asked // 2)),
        limit,
        refusals,
        now + min(LONGEST, FIRST * 2.0 ** (refusals - 1)),
        now + pause,
        1,
        pause,
    )


def grown(window: Window, now: float) -> Window:
    """Return the window after the growth that is due; the same where none is."""
    if window.limit is None or now < window.grows:
        return window
    size = window.size + window.step
    if size >= window.most:
        return whole(window.most)
    return replace(window, size=size, step=2 * window.step, growths=window.growths + 1, grows=now + GROWS)
