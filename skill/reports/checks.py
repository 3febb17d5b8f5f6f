"""One check of a running job as a line of nine fields: its state, its rate, and when it is checked next. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core import cadence
from queue_manager.core.times import epoch, iso
from skill.runs import activity, digest, recovery
from skill.runs.digest import Row

FIELDS = ("ts", "state", "step", "rate", "gpu", "mem", "eval", "action", "next_eta")
UNKNOWN = "-"
OTHER_HOST = "needs_another_host"
"""The action of a job whose ladder asks for another host."""
_UNSAFE = re.compile(r"[^\w.,:+=/@%-]+")
_WELL = frozenset(("running", "completed", "cancelled"))


class Check(NamedTuple):
    """What one look at a job showed. Times are epoch seconds, `rate` steps a second, `util` percent of its GPUs, `mem`
    MiB on them; None is unknown. `state`: the job's status, or what is wrong with it while it runs. `action`: what was
    done or is to be done about it. `alert`: something is wrong; `flags` say what, in words."""

    ts: float
    job: str
    host: str | None
    attempt: int
    state: str
    step: int | None
    total: int | None
    rate: float | None
    util: float | None
    mem: int | None
    eval: tuple[str, float] | None
    action: str | None
    next: float | None
    eta_s: float | None
    alert: bool
    flags: tuple[str, ...]


def check(
    row: Row, document: Mapping[str, Any], now: float, following: float | None, *, gone: bool, goal: str | None = None
) -> Check:
    """Check one job of a state. `following`: time of the next check; `gone`: the run's manager is not running; `goal`:
    the metric that counts most."""
    health: Mapping[str, Any] = row.get("health") or {}
    cards = _cards(row, document)
    flags = tuple(health.get("flags") or ())
    runs = row["status"] == "running"
    state = row["status"]
    if runs:
        away = _away(row, document)
        state = "+".join(one["kind"] for one in flags) or state
        state = "unreachable" if away else "unwatched" if gone else state
    words = tuple(f"{one['kind']}: {one['text']}" for one in flags)
    if row["status"] != "completed" and not runs and row["error"]:
        words += (row["error"],)
    doubtful = row["status"] == "completed" and row["warning"] is not None
    if doubtful:
        words += (f"completed with a warning: {row['warning']}",)
    return Check(
        ts=now,
        job=row["id"],
        host=row.get("host"),
        attempt=row["attempt"],
        state=state,
        step=health.get("step") if runs else None,
        total=health.get("total") if runs else None,
        rate=health.get("rate") if runs else None,
        util=_first(health.get("util"), _mean([card["util"] for card in cards])) if runs else None,
        mem=_first(health.get("mem_mib"), _sum([card["used_mib"] for card in cards])) if runs else None,
        eval=_eval(row, health, flags, goal),
        action=_action(row),
        next=following,
        eta_s=health.get("eta_s") if runs else None,
        alert=doubtful or state not in _WELL,
        flags=words,
    )


def is_watched(row: Row) -> bool:
    """Return whether a job is checked: it runs, waits for its retry, or is stuck."""
    return row["status"] in digest.RETRIES or row["status"] in ("running", "stuck")


def next_check(row: Row, now: float, *, healthy: bool) -> float:
    """Return when a running job is checked next, assuming that it has been checked on time so far."""
    if not healthy:
        return now + cadence.ALERT[0]
    plan = cadence.launched(epoch(row["started"]) if row["started"] else now)
    while plan.due <= now:
        plan = cadence.checked(plan, plan.due, True)
    return plan.due


def line(found: Check) -> str:
    """Return the nine fields, separated by spaces and without spaces inside; `-` is unknown. The second is
    JOB:STATE."""
    step = UNKNOWN if found.step is None else f"{found.step}" + ("" if found.total is None else f"/{found.total}")
    fields = (
        time_text(found.ts),
        f"{found.job}:{found.state}",
        step,
        UNKNOWN if found.rate is None else f"{_digits(found.rate)}/s",
        UNKNOWN if found.util is None else f"{found.util:.0f}%",
        UNKNOWN if found.mem is None else f"{found.mem}MiB",
        UNKNOWN if found.eval is None else f"{found.eval[0]}={_digits(found.eval[1])}",
        found.action or UNKNOWN,
        UNKNOWN if found.next is None else time_text(found.next),
    )
    return " ".join(_UNSAFE.sub("_", field) for field in fields)


def row_json(found: Check, log: Sequence[str] = ()) -> dict[str, Any]:
    """Return one row of `wavequeue babysit --json`: the fields of the line as numbers, and what else is known."""
    value = None if found.eval is None else {"name": found.eval[0], "value": _finite(found.eval[1])}
    return {
        "ts": time_text(found.ts), "job": found.job, "host": found.host, "attempt": found.attempt, "state": found.state,
        "step": found.step, "total": found.total, "rate": found.rate, "gpu": found.util, "mem_mib": found.mem,
        "eval": value, "action": found.action, "next_eta": None if found.next is None else time_text(found.next),
        "eta_s": found.eta_s, "alert": found.alert, "flags": list(found.flags), "log": list(log),
    }  # fmt: skip


def _action(row: Row) -> str | None:
    status, step = row["status"], recovery.pending(row)
    if status in digest.RETRIES and step is not None and row["retry_at"]:
        return f"{step}_at_{digest.clock(row['retry_at'])}"
    if status in digest.RETRIES:
        return f"retries_at_{digest.clock(row['retry_at'])}" if row["retry_at"] else "retries"
    if status == "stuck":
        return OTHER_HOST if recovery.wants_host(row) else "needs_a_person"
    if row.get("outcome"):
        return str(row["outcome"])
    tried = "" if step is None else f":{step}"
    return f"attempt_{row['attempt']}{tried}" if row["attempt"] > 1 else None


def _eval(
    row: Row, health: Mapping[str, Any], flags: Sequence[Mapping[str, Any]], goal: str | None
) -> tuple[str, float] | None:
    metrics = {name: value for name, value in (row.get("metrics") or {}).items() if value is not None}
    if metrics:
        name = goal if goal is not None and goal in metrics else next(iter(metrics))
        return str(name), float(metrics[name])
    if any(one["kind"] == "nan" for one in flags):
        return "loss", math.nan
    return None if health.get("loss") is None else ("loss", health["loss"])


def _cards(row: Row, document: Mapping[str, Any]) -> list[Row]:
    return [card for card in document["gpus"] if activity.is_on(row, card)]


def _away(row: Row, document: Mapping[str, Any]) -> bool:
    hosts = document["meta"].get("hosts", ())
    return any(host["name"] == row.get("host") and not host["reachable"] for host in hosts)


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _digits(value: float) -> str:
    return f"{value:.4g}"


def time_text(at: float) -> str:
    """To the second: `2026-01-01T10:00:00Z`."""
    return f"{(iso(at) or '')[:19]}Z"
