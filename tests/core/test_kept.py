"""What an object remembers over a restart is what it was, and what does not fit changes nothing."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import Any

import pytest

from queue_manager.core.health_policy import Policy
from queue_manager.core.health_tracker import HealthTracker
from queue_manager.core.kept import kept, recall
from queue_manager.core.metric_rules import Values
from queue_manager.core.progress_forms import Progress, ProgressReader


class Sample:
    def __init__(self) -> None:
        self.text, self.data, self.number, self.whole = "", b"", 0.0, 0
        self.maybe: float | None = None
        self.pair: tuple[float, float] = (0.0, 0.0)
        self.named = Progress()
        self.some: set[str] = set()
        self.last: deque[tuple[float, float]] = deque(maxlen=2)
        self.by_name: dict[str, tuple[float, str]] = {}


NAMES = tuple(vars(Sample()))


def test_all_kinds_of_values_come_back_as_they_were() -> None:
    one = Sample()
    one.text, one.data, one.number, one.whole, one.maybe = "é", b"\xff\r", math.inf, 3, 0.5
    one.pair, one.named, one.some = (1.0, 2.0), Progress(3, None, 0.5), {"b", "a"}
    one.last.extend([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)])
    one.by_name["x"] = (1.0, "line")
    found = json.loads(json.dumps(kept(one, NAMES)))
    other = Sample()
    recall(other, NAMES, found)
    assert vars(other) == vars(one)
    assert other.last.maxlen == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("text", 3), ("whole", "3"), ("whole", 0.5), ("number", []), ("named", [1]), ("some", 3), ("last", {}),
     ("by_name", []), ("data", 3), ("pair", None), ("maybe", {})],
)  # fmt: skip
def test_what_does_not_fit_changes_nothing(name: str, value: Any) -> None:
    one = Sample()
    with pytest.raises(ValueError, match="does not fit"):
        recall(one, NAMES, {**kept(Sample(), NAMES), "text": "new", name: value})
    assert vars(one) == vars(Sample())


@pytest.mark.parametrize(
    "one", [ProgressReader(), Values(), HealthTracker(Policy(), None, 0.0)], ids=lambda one: type(one).__name__
)
def test_nothing_that_changes_is_forgotten(one: Any) -> None:
    fixed = {"_progress", "_loss", "_policy", "_reader", "_logs", "_patience", "_began", "_counts"}
    assert set(vars(one)) - fixed == set(one.KEPT)
