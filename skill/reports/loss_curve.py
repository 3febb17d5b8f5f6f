"""The loss over the steps of one job, read from the text of its log. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")
POINTS = 160
"""Points of a curve at most: more cannot be distinguished on a page."""
_READ = 2 * POINTS
"""Lines of a log that are read at most, evenly over those that may tell a loss: reading all would take seconds."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_LOSS = re.compile(
    rf"(?<![\w/])(?:train(?:ing)?[_/ ]?|batch[_ ])?loss['\"]?\s*[=: ]\s*({_NUMBER})(?![\w.])", re.IGNORECASE
)
_STEPS = (
    re.compile(
        r"(?<![\w])(?:global[_ ])?(?:step|iter(?:ation)?|it|batch)s?['\"]?\s*[=: ]?\s*\[?\s*(\d+)", re.IGNORECASE
    ),
    re.compile(r"\|\s*(\d+)/\d+\s*\["),  # tqdm
    re.compile(r"(?<![\w/.])(\d+)/\d+ \[=*[>.=]*\]"),  # Keras
    re.compile(rf"(?<![\w])epoch['\"]?\s*[=: ]?\s*\[?\s*({_NUMBER})", re.IGNORECASE),
)
_MOST = 2000
"""Characters of a line that are looked at."""


def points(text: str) -> list[tuple[float, float]]:
    """Steps and losses, where lines tell a loss; at most POINTS of them, the first and the last among them.

    The step is what the line calls step, iteration or batch, or else its epoch; where no line has one, or they do not
    go on, the losses are counted. Empty where fewer than two lines tell a loss.
    """
    found = list(_read(text))
    if len(found) < 2:
        return []
    for kind in range(len(_STEPS)):
        steps = [steps[kind] for steps, _ in found]
        known = [(step, loss) for step, (_, loss) in zip(steps, found, strict=True) if step is not None]
        if len(known) > 0.9 * len(found) and all(a[0] < b[0] for a, b in zip(known, known[1:], strict=False)):
            return thinned(known)
    return thinned([(float(n), loss) for n, (_, loss) in enumerate(found, 1)])


def _read(text: str) -> Iterator[tuple[list[float | None], float]]:
    lines = [line for line in re.split(r"[\r\n]+", text) if "oss" in line or "OSS" in line]
    for line in thinned(lines, _READ):
        match = _LOSS.search(line, 0, _MOST)
        if match is not None and math.isfinite(float(match[1])):
            seen = [pattern.search(line, 0, _MOST) for pattern in _STEPS]
            yield [None if one is None else float(one[1]) for one in seen], float(match[1])


def thinned(found: Sequence[T], most: int = POINTS) -> list[T]:
    """At most so many of them, evenly, with both ends."""
    if len(found) <= most:
        return list(found)
    return [found[round(n * (len(found) - 1) / (most - 1))] for n in range(most)]
