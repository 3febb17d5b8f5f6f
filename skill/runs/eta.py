"""When a run will have ended, as its managers estimate it: of all hosts, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from queue_manager.core.times import duration, epoch
from skill.runs.digest import Clock, clock

Eta = Mapping[str, Any]
"""`at`: ISO time, None where it is not known; `basis`: what tells how long jobs take; `note`: what has to be so for it,
or why nothing is known."""


def merged(metas: Iterable[Mapping[str, Any]]) -> Eta | None:
    """Of a run on several hosts: when the last one will have ended. `metas`: of the states of hosts that go on."""
    etas = [meta.get("eta") for meta in metas]
    known = [eta for eta in etas if eta]
    if not known or len(known) < len(etas):
        return None
    ats = [eta["at"] for eta in known]
    return {
        "at": None if None in ats else max(ats),
        "basis": list(dict.fromkeys(line for eta in known for line in eta["basis"])),
        "note": ", ".join(dict.fromkeys(eta["note"] for eta in known if eta["note"])) or None,
    }


def seconds(document: Mapping[str, Any], now: float) -> float | None:
    """Seconds until the run will have ended; None where that is not known. `now` in epoch seconds."""
    eta = _of(document)
    return None if eta is None or eta["at"] is None else max(0.0, epoch(eta["at"]) - now)


def line(document: Mapping[str, Any], alive: bool, now: float, clock: Clock = clock) -> str:
    """The same in words, with what it is from; empty where nothing was estimated, or the run has stopped."""
    eta, left = _of(document), seconds(document, now)
    if eta is None or not alive:
        return ""
    if left is None:
        return f"ETA unknown: {eta['note']}"
    when = f"{clock(eta['at'])}, in about {duration(left)}" if left else "any moment: jobs take longer than expected"
    note = f", {eta['note']}" if eta["note"] else ""
    return f"ETA {when}{note} (from {'; '.join(eta['basis'])})"


def document(state: Mapping[str, Any], alive: bool, now: float) -> dict[str, Any] | None:
    """What `status --json` has of it as `estimate`; None where nothing was estimated. The cost is that of rented
    machines, with what they have cost by now."""
    eta, left = _of(state), seconds(state, now)
    if eta is None or not alive:
        return None
    meta = state["meta"]
    begun = epoch(meta["started"]) if meta["started"] else now
    ends = [row.get("teardown") for row in meta.get("hosts", [meta])]
    priced = [one for one in ends if one and one["cost_usd"] is not None and one["usd_per_hour"] is not None]
    cost = None
    if left is not None and priced:
        cost = round(sum(one["cost_usd"] + left / 3600.0 * one["usd_per_hour"] for one in priced), 4)
    return {
        "eta_s": None if left is None else round(left, 1),
        "makespan_s": None if left is None else round(left + now - begun, 1),
        "cost_usd": cost,
        "basis": list(eta["basis"]),
        "note": eta["note"],
    }


def _of(document: Mapping[str, Any]) -> Eta | None:
    """The estimate of the managers, for a run that continues."""
    meta = document["meta"]
    found: Eta | None = meta.get("eta") if meta["manager"] == "running" else None
    return found
