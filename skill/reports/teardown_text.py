"""What becomes of rented machines, as it is shown: what each will do, what it waits for, what it has cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from skill.runs.assignment import LOST


class Line(NamedTuple):
    """One machine: its host, what becomes of it, and its cost so far, in words."""

    host: str
    plan: str
    cost: str


def lines(document: Mapping[str, Any]) -> list[Line]:
    """A line for each machine that its own manager may end; none for hosts of one's own, and runs that say nothing."""
    meta = document["meta"]
    if "hosts" not in meta:
        row = meta.get("teardown")
        return [_line(str(meta["host"]), row, fresh=True)] if _is_shown(row) else []
    return [
        _given_up(host["name"], host["teardown"])
        if host["state"] == LOST
        else _line(host["name"], host["teardown"], fresh=host["reachable"])
        for host in meta["hosts"]
        if _is_shown(host["teardown"])
    ]


def _is_shown(row: Mapping[str, Any] | None) -> bool:
    """Whether there is a machine that costs something: what blocks its end is among the conditions in any case."""
    return row is not None and (row["instance_id"] is not None or row["cost_usd"] is not None)


def _line(host: str, row: Mapping[str, Any], *, fresh: bool) -> Line:
    if not fresh and not row["confirmed"] and row["plan"] not in ("stop", "destroy", "sync"):
        plan = f"unknown now; when last read, it was to be kept, then {_wanted(row)}"
        return Line(host, plan, _cost(row, fresh=False))
    return Line(host, _plan(row) if fresh else f"when last read: {_plan(row)}", _cost(row, fresh=fresh))


def _given_up(host: str, row: Mapping[str, Any]) -> Line:
    """A lost machine may be billed all the same, until it is destroyed."""
    words = _plan(row) if row["confirmed"] else "given up; see whether it is still billed: wavequeue vast instances"
    return Line(host, words, _cost(row, fresh=False))


def _plan(row: Mapping[str, Any]) -> str:
    plan, reason = row["plan"], row["reason"] or "its manager has not said why"
    if row["confirmed"]:
        return f"stopped; its disk is billed{_per_day(row)}" if plan == "stop" else "destroyed and no longer billed"
    if plan in ("stop", "destroy"):
        doing = {"stop": "stopped", "destroy": "destroyed"}[plan]
        return f"{'is being' if row['since'] else 'is to be'} {doing}: {reason}"
    if plan == "sync":
        return f"waits, then {_wanted(row)}: {row['waits_for'] or reason}"
    over = f"; {row['bound']}" if row["bound"] and row["bound"] not in reason else ""
    return f"keeps running, then {_wanted(row)}: {reason}{over}"


def _wanted(row: Mapping[str, Any]) -> str:
    """What the spec wants of it in the end; hosts whose manager is an older one do not tell."""
    return f"when_done: {row['when_done']}" if row.get("when_done") else "as the spec says"


def _per_day(row: Mapping[str, Any]) -> str:
    rate = row["usd_per_day_stopped"]
    return f", ${rate:.2f} a day" if rate else ""


def _cost(row: Mapping[str, Any], *, fresh: bool) -> str:
    """Since the submit; of a machine that cannot be asked it is what was known, and it may go on."""
    cost, rate = row["cost_usd"], row["usd_per_hour"]
    if cost is None:
        return "cost unknown"
    if row["confirmed"]:
        return f"${cost:.2f} in all" if row["plan"] == "destroy" else f"${cost:.2f} until then"
    so_far = f"${cost:.2f} so far" if fresh else f"${cost:.2f} by then"
    return so_far if rate is None else f"{so_far}, ${rate:.2f} an hour"
