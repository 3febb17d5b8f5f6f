"""How a running job does, in words: its step, its rate, the time that is left, its loss, and what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skill.runs.digest import Row

UNKNOWN = "-"


def cells(row: Row) -> list[str]:
    """Step, rate, time left and loss of a running job, `-` where one is not known."""
    health = _health(row)
    step, total, rate, left, loss = (health.get(name) for name in ("step", "total", "rate", "eta_s", "loss"))
    return [
        UNKNOWN if step is None else f"{step}" + ("" if total is None else f"/{total}"),
        UNKNOWN if rate is None else _rate(rate),
        UNKNOWN if left is None else f"{_short(left)} left",
        UNKNOWN if loss is None else f"loss {loss:.4g}",
    ]


def summary(row: Row) -> str:
    """The same in one text, as far as it is known, with what is wrong; empty where nothing is to be said."""
    step, *others = cells(row)
    known = [f"step {step}" if step != UNKNOWN else "", *others]
    known = [cell for cell in known if cell not in ("", UNKNOWN)]
    return "; ".join(part for part in (flags(row), ", ".join(known)) if part)


def flags(row: Row) -> str:
    """What is wrong with a running job; empty where nothing is."""
    return "; ".join(f"{flag['kind']}: {flag['text']}" for flag in _health(row).get("flags") or ())


def _health(row: Row) -> Mapping[str, Any]:
    return (row.get("health") or {}) if row["status"] == "running" else {}


def _rate(rate: float) -> str:
    return f"{rate:.3g}/s" if rate >= 1 or rate <= 0 else f"{1 / rate:.3g} s/step"


def _short(seconds: float) -> str:
    """A time in as few characters as will do: 45s, 6m, 2h05m, 3d04h."""
    minutes = int(seconds / 60 + 0.5)
    if seconds < 60:
        return f"{seconds:.0f}s"
    if minutes < 60:
        return f"{minutes}m"
    return (
        f"{minutes // 60}h{minutes % 60:02d}m"
        if minutes < 48 * 60
        else f"{minutes // 1440}d{minutes % 1440 // 60:02d}h"
    )
