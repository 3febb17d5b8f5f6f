"""Follow one running attempt by its log and its GPUs, and summarise its health at each check. Pure.

A tracker keeps what has to be remembered between two checks; `health` judges its readings.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from queue_manager.core import failures, metric_rules
from queue_manager.core.boundary import HealthReading
from queue_manager.core.health_policy import LOSS, EarlyStop, Policy, median
from queue_manager.core.kept import kept, recall
from queue_manager.core.metric_rules import LogValues, Rule, Values
from queue_manager.core.partial import Counts
from queue_manager.core.progress_forms import ProgressReader, worth_reading

_TRACEBACK = re.compile(r"^(?:.{0,120}[\s\]:)])?Traceback \(most recent call last\)")
_EXCEPTION = re.compile(r"^(?:.{0,40}[\]:)] ?)?[A-Za-z_][\w.]{0,200}(?::|$)")
_OOM_WORDS = ("emory", "MEMORY", "EXHAUSTED", "xhausted", "alloc", "ALLOC")
_SHOWN = 300
_LOADING = 1800.0
"""Seconds for which a job without a step counts as loading."""
_MOVING = 0.01
"""CPU cores below which a job counts as inactive."""
_WINDOW, _FIRST_STEPS, _WARM_UP = 12, 2, 6
"""Number of steps for the present rate; of first steps that are ignored, since libraries warm up and compile in them;
and of the next ones, which give the initial rate."""
_MEASURED = _FIRST_STEPS + _WARM_UP + _WINDOW


class HealthTracker:
    """Tracks an attempt that began at `began` (epoch seconds), with the policy and the metrics of its job."""

    KEPT = (
        "_values", "_step_at", "_moved_at", "_paces", "_intervals", "_advances", "_warm", "_low_since", "_found",
        "_in_traceback", "_last", "_was_busy",
    )  # fmt: skip

    def __init__(self, policy: Policy, metrics: Any, began: float) -> None:
        self._policy = policy
        self._reader = ProgressReader(policy.progress, policy.loss)
        rules = metric_rules.rules(metrics)
        self._logs = {n: LogValues(rule) for n, rule in rules.items() if isinstance(rule, Rule) and rule.kind == "log"}
        self._values: dict[str, float] = {}
        self._patience = None if policy.early_stop is None else _Patience(policy.early_stop)
        self._began = self._step_at = self._moved_at = began
        self._paces: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._intervals: deque[float] = deque(maxlen=_WINDOW)
        self._counts: Counts | None = None
        self._advances = 0
        self._warm: tuple[float, float] = (0.0, 0.0)
        self._low_since: float | None = None
        self._found: dict[str, tuple[float, str]] = {}
        self._in_traceback = False
        self._last: int | None = None
        self._was_busy = True

    def memory(self) -> dict[str, Any]:
        """What a later tracker of this attempt has to know."""
        return {
            "self": kept(self, self.KEPT),
            "progress": kept(self._reader, ProgressReader.KEPT),
            "logs": {name: kept(one.values, Values.KEPT) for name, one in self._logs.items()},
            "patience": None if self._patience is None else kept(self._patience, _Patience.KEPT),
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        """Record what an earlier tracker of this attempt knew. Raises ValueError where that does not fit."""
        try:
            parts: list[tuple[object, Iterable[str], Any]] = [(self, self.KEPT, memory["self"])]
            parts.append((self._reader, ProgressReader.KEPT, memory["progress"]))
            parts += [(one.values, Values.KEPT, memory["logs"][name]) for name, one in self._logs.items()]
            if self._patience is not None:
                parts.append((self._patience, _Patience.KEPT, memory["patience"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"does not fit: {error}") from None
        for one, names, found in parts:
            recall(one, names, found)

    def recall_flag(self, kind: str, at: float, line: str) -> None:
        """Record that an earlier tracker found something in the log that this one may not see again."""
        self._found.setdefault(kind, (at, line))

    def take(self, lines: Sequence[str], now: float, gap: bool = False) -> None:
        """Read new lines of its log. `gap`: lines before them were not seen."""
        stop = self._patience
        for name, one in self._logs.items():
            if gap:
                one.values.leave_gap()
            for line in lines:
                value = one.take(line)
                if value is not None and stop is not None and stop.metric == name:
                    stop.take(value)
        counts_losses = stop is not None and stop.metric == LOSS and LOSS not in self._logs
        for line in lines if counts_losses else worth_reading(lines):
            losses = self._reader.losses
            self._reader.take(line)
            if counts_losses and stop is not None and self._reader.losses > losses:
                stop.take(self._reader.progress.loss or 0.0)
        self._look_for_trouble(lines, now)

    def take_value(self, name: str, value: float) -> None:
        """Add a metric that was read from a file."""
        if self._patience is not None and self._patience.metric == name:
            self._patience.take(value)
        self._values[name] = value

    def take_counts(self, counts: Counts) -> None:
        """Record how many items are completed, from its partial results. They are its steps, unless its policy says
        how its log counts."""
        if self._policy.progress is None:
            self._counts = counts

    def _look_for_trouble(self, lines: Sequence[str], now: float) -> None:
        text = "\n".join(lines)
        if not self._in_traceback and "Traceback (" not in text and not any(word in text for word in _OOM_WORDS):
            return
        for line in lines:
            if self._in_traceback:
                if line[:1] not in (" ", "\t", "") and _EXCEPTION.match(line):
                    kind = "oom_survived" if failures.words(line) == "oom" else "traceback"
                    self._found[kind] = (now, line[:_SHOWN])
                    self._in_traceback = False
            elif "Traceback (most" in line and _TRACEBACK.match(line):
                self._in_traceback = True
            elif any(word in line for word in _OOM_WORDS) and failures.words(line[:_SHOWN]) == "oom":
                self._found["oom_survived"] = (now, line[:_SHOWN])

    def look(self, now: float, grew: bool, cpu: float | None, util: float | None, mem_mib: int | None) -> HealthReading:
        """Return its health. `grew`: its log has grown; `cpu` in cores and `util` in percent, None where unknown."""
        before, progress, stop = self._last, self._reader.progress, self._patience
        if self._counts is not None:
            progress = progress._replace(step=self._counts.completed, total=self._counts.total, rate=None)
        self._last = progress.step
        busy = (self._counts is None and self._reader.busy) or (
            progress.total is not None and (progress.step or 0) >= progress.total
        )
        if grew or (cpu is not None and cpu > _MOVING):
            self._moved_at = now
        if progress.step is not None and progress.step != before:
            self._advance(now, before, progress.step, busy)
        self._was_busy = busy
        self._look_at_gpu(now, util, busy)
        values = {
            name: value
            for name, one in self._logs.items()
            if isinstance(value := one.values.taken(one.rule.take), float)
        }
        rate = progress.rate or self._pace(self._paces)
        left = None if progress.step is None or progress.total is None else max(0, progress.total - progress.step)
        pace = self._pace(self._paces) or rate
        return HealthReading(
            at=now,
            step=progress.step,
            total=progress.total,
            loss=progress.loss,
            rate=rate,
            eta_s=None if left is None or not pace else left / pace,
            util=util,
            mem_mib=mem_mib,
            line=self._reader.line[:_SHOWN],
            # Items are saved now and then: what moves in between is no stall.
            busy=busy or self._counts is not None,
            still=now - self._step_at,
            interval=median(self._intervals) if len(self._intervals) > 1 else None,
            quiet=now - self._moved_at,
            low=None if self._low_since is None else now - self._low_since,
            pace=self._pace(self._paces) if len(self._paces) >= _WARM_UP else None,
            warm_pace=self._pace([self._warm]) if self._advances >= _MEASURED else None,
            found=dict(self._found),
            metrics={**values, **self._values},
            since_best=None if stop is None else stop.since,
        )

    def _advance(self, now: float, before: int | None, step: int, busy: bool) -> None:
        """Note a new step. Time spent on other work in between, such as an evaluation, is not part of its rate."""
        passed, done = now - self._step_at, step - (before if before is not None else step)
        self._step_at = now
        if before is None or passed <= 0:
            return
        self._intervals.append(passed)
        if done <= 0 or busy or self._was_busy:
            return
        self._advances += 1
        if self._advances <= _FIRST_STEPS:
            return
        self._paces.append((passed, done))
        if self._advances <= _FIRST_STEPS + _WARM_UP:
            self._warm = (self._warm[0] + passed, self._warm[1] + done)

    def _look_at_gpu(self, now: float, util: float | None, busy: bool) -> None:
        if self._policy.low is None or util is None:  # unknown is neither low nor not
            return
        may_be_busy = self._last is not None or now - self._began < _LOADING
        exempt = busy and may_be_busy and now - self._moved_at < self._policy.low[1]
        if util >= self._policy.low[0] or exempt:
            self._low_since = None
        elif self._low_since is None:
            self._low_since = now

    @staticmethod
    def _pace(paces: Iterable[tuple[float, float]]) -> float | None:
        all_of = list(paces)
        seconds = sum(passed for passed, _ in all_of)
        return sum(done for _, done in all_of) / seconds if seconds else None


class _Patience:
    """The values of the metric of an early stop."""

    KEPT = ("best", "since")

    def __init__(self, rule: EarlyStop) -> None:
        self.metric = rule.metric
        self.best: float | None = None
        self.since = 0
        """Values since the best one."""
        self._rule = rule

    def take(self, value: float) -> None:
        """Add the next value; NaN is never better."""
        sign = -1.0 if self._rule.goal == "max" else 1.0
        if self.best is None or math.isnan(self.best):
            self.best = value
        elif sign * value < sign * self.best - self._rule.min_delta:
            self.best, self.since = value, 0
        else:
            self.since += 1
