"""A job's `health` policy, as in its manifest: what to read in the log, and what counts as unhealthy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

KEYS = ("progress", "loss", "stall", "low_util", "slow", "bounds", "min_steps", "early_stop", "then")
LOW_UTIL_KEYS = ("below", "for")
BOUND_KEYS = ("metric", "above", "below", "after_step")
EARLY_STOP_KEYS = ("metric", "patience", "min_delta")
THEN = ("alert", "stop", "recover")
LOSS = "loss"
"""The metric of every job whose log shows it: the training loss."""
FLAGS = ("stalled", "nan", "low_util", "slow", "out_of_bounds", "traceback", "oom_survived")
"""The kinds of flags."""
STOPS = frozenset({"stalled", "nan", "low_util", "slow", "out_of_bounds"})
"""Flags that end a job whose `then` is stop or recover; with the others the job continues."""


class Bound(NamedTuple):
    """Limits for a metric, from a step on."""

    metric: str
    above: float | None = None
    below: float | None = None
    after_step: int = 0


class EarlyStop(NamedTuple):
    """`patience`: so many values in a row that are not better than the best by `min_delta` end the job. `goal`: min or
    max."""

    metric: str
    patience: int
    min_delta: float = 0.0
    goal: str = "min"


class Policy(NamedTuple):
    """`stall` in seconds, None: by the job's own pace; `watches_steps`: whether a job without new steps is one. `low`:
    percent of utilization, and seconds. `slow` in percent. `then`: one of THEN."""

    progress: str | None = None
    loss: str | None = None
    stall: float | None = None
    watches_steps: bool = True
    low: tuple[float, float] | None = None
    slow: float | None = None
    bounds: tuple[Bound, ...] = ()
    min_steps: int | None = None
    early_stop: EarlyStop | None = None
    then: str = "alert"


def policy(health: Any, metrics: Any = None) -> Policy:
    """Return the policy in a job's `health`. `metrics`: the job's rules, which say which direction of a metric is
    better."""
    if not isinstance(health, Mapping):
        return Policy()
    low, stop, stall = health.get("low_util"), health.get("early_stop"), health.get("stall")
    return Policy(
        health.get("progress"),
        health.get("loss"),
        stall if _is_number(stall) else None,
        stall != "off",
        (low["below"], low["for"]) if isinstance(low, Mapping) else None,
        health.get("slow"),
        tuple(
            Bound(one["metric"], one.get("above"), one.get("below"), one.get("after_step", 0))
            for one in health.get("bounds", ())
        ),
        health.get("min_steps"),
        None
        if not isinstance(stop, Mapping)
        else EarlyStop(stop["metric"], stop["patience"], stop.get("min_delta", 0.0), _goal(stop["metric"], metrics)),
        health.get("then", "alert"),
    )


def _goal(metric: str, metrics: Any) -> str:
    rule = metrics.get(metric) if isinstance(metrics, Mapping) else None
    return "max" if isinstance(rule, Mapping) and rule.get("goal") == "max" else "min"


def median(values: Iterable[float]) -> float:
    """Return the median; the module statistics takes long to import."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def is_policy(value: Any) -> bool:
    """Return whether a manifest may have this as a job's `health`."""
    return isinstance(value, Mapping) and all(key in _FITS and _FITS[key](one) for key, one in value.items())


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_above_0(value: Any) -> bool:
    return _is_number(value) and value > 0


def _is_steps(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_low(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == set(LOW_UTIL_KEYS) and all(map(_is_above_0, value.values()))


def _is_bound(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) <= set(BOUND_KEYS)
        and _is_text(value.get("metric"))
        and ("above" in value or "below" in value)
        and all(_is_number(value[key]) for key in ("above", "below") if key in value)
        and _is_steps(value.get("after_step", 0))
    )


def _is_early_stop(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) <= set(EARLY_STOP_KEYS)
        and _is_text(value.get("metric"))
        and _is_steps(value.get("patience"))
        and _is_number(value.get("min_delta", 0))
    )


_FITS: dict[str, Callable[[Any], bool]] = {
    "progress": _is_text,
    "loss": _is_text,
    "stall": lambda value: value == "off" or _is_above_0(value),
    "low_util": _is_low,
    "slow": _is_above_0,
    "bounds": lambda value: isinstance(value, Sequence) and all(map(_is_bound, value)),
    "min_steps": _is_steps,
    "early_stop": _is_early_stop,
    "then": lambda value: value in THEN,
}
