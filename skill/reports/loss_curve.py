"""The loss over the steps of one job, read from the text of its log. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from queue_manager.core.progress_forms import ProgressReader

T = TypeVar("T")
POINTS = 160
"""Points of a curve at most: more cannot be distinguished on a page."""
_READ = 2 * POINTS
"""Lines of a log that are read at most, evenly over those that may tell a loss: reading all would take seconds."""
_BEFORE = 2
"""Lines before such a line that may tell its step: a progress bar."""
_EPOCH = re.compile(r"(?<![\w])epoch['\"]?\s{0,8}[=: ]?\s{0,8}\[?\s{0,8}(\d{1,9}(?:\.\d{1,20})?)", re.IGNORECASE)
_MOST = 2000
"""Characters of a line that are looked at."""


class _Point(NamedTuple):
    """A loss, the step and the epoch that the log has beside it."""

    step: float | None
    epoch: float | None
    loss: float


def points(text: str) -> list[tuple[float, float]]:
    """Steps and losses, where lines tell a loss; at most POINTS of them, the first and the last among them.

    The step is what the health of the job would show then, or else the epoch of the line; where no line has one, or
    they do not go on, the losses are counted. Empty where fewer than two lines tell a loss.
    """
    found = list(_read([line[:_MOST] for line in re.split(r"[\r\n]+", text)]))
    if len(found) < 2:
        return []
    for at in (0, 1):
        known = [(one[at], one.loss) for one in found if one[at] is not None]
        by_step = {step: loss for step, loss in known if step is not None}  # of a step that is drawn twice the last one
        steps = list(by_step)
        if len(known) > 0.9 * len(found) and len(by_step) >= max(2, 0.5 * len(known)) and steps == sorted(steps):
            return thinned(list(by_step.items()))
    return thinned([(float(n), one.loss) for n, one in enumerate(found, 1)])


def _read(lines: Sequence[str]) -> Iterator[_Point]:
    reader = ProgressReader()
    headings = [n for n, line in enumerate(lines) if "poch" in line and "oss" not in line]
    wanted = [n for n, line in enumerate(lines) if "oss" in line or "OSS" in line]
    read = heading = -1
    for n in thinned(wanted, _READ):
        while heading + 1 < len(headings) and headings[heading + 1] < n:
            heading += 1
        before = {headings[heading]} if heading >= 0 else set()
        for other in sorted(before | set(range(max(0, n - _BEFORE), n))):
            if other > read and "oss" not in lines[other]:
                reader.take(lines[other])
        read, known_losses = n, reader.losses
        reader.take(lines[n])
        loss = reader.progress.loss
        if reader.losses > known_losses and loss is not None and math.isfinite(loss):
            epoch = _EPOCH.search(lines[n])
            step = reader.progress.step
            yield _Point(None if step is None else float(step), None if epoch is None else float(epoch[1]), loss)


def thinned(found: Sequence[T], most: int = POINTS) -> list[T]:
    """At most so many of them, evenly, with both ends."""
    if len(found) <= most:
        return list(found)
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]
