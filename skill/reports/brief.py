"""A run in less than 2 KB, however many jobs it has: for programs that ask often and pay for what they read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from skill.common.fitting import fill
from skill.runs import digest, eta, sequence
from skill.runs.digest import Row

MOST = 2000
"""Bytes of the document as it is printed."""
_MOST_TEXT, _MOST_ID, _MOST_ROWS = 160, 64, 10


def brief(document: Mapping[str, Any], alive: bool, now: float, changed: Sequence[Row] | None = None) -> dict[str, Any]:
    """How a run stands. `changed`: the jobs that have changed since a look before; None where none was meant.

    `problems`, `person` (jobs that need one), `unhealthy`, `changed` and `running` hold as much as there is room for,
    what is first before the rest; `totals` tells how many there are of each.
    """
    picked, meta = digest.digest(document), document["meta"]
    problems = digest.problems(document, alive)
    unhealthy = [row for row in picked.running if _flags(row)]
    lists: dict[str, Iterator[Any]] = {
        "problems": map(_short, problems),
        "person": ({**_named(row), "reason": _short(digest.reason(row))} for row in picked.person),
        "unhealthy": ({"id": _id(row), "flags": _flags(row)} for row in unhealthy),
        "changed": map(_named, changed or ()),
        "running": map(_id, picked.running),
    }
    totals = {
        "problems": len(problems), "person": len(picked.person), "unhealthy": len(unhealthy),
        "changed": len(changed or ()), "running": len(picked.running),
    }  # fmt: skip
    if changed is None:
        del lists["changed"], totals["changed"]
    left = eta.seconds(document, now) if alive else None
    found: dict[str, Any] = {
        "run_id": meta["run_id"],
        "manager": meta["manager"],
        "manager_alive": alive,
        "paused": meta["paused"],
        "seq": sequence.newest(document),
        "age_s": digest.age(document, now),
        "eta_s": None if left is None else round(left),
        "jobs": document.get("jobs_total", len(document["jobs"])),
        "counts": document["counts"],
        "queued": meta.get("queued") or 0,
        "totals": totals,
        **{name: [] for name in lists},
    }
    if "hosts" in meta:
        found["hosts"] = {
            "total": len(meta["hosts"]), "unreachable": sum(not row["reachable"] for row in meta["hosts"])
        }  # fmt: skip
    fill(found, lists, MOST, _MOST_ROWS)
    return found


def lines(found: Mapping[str, Any], headline: str) -> Iterator[str]:
    """The same for people."""
    yield headline
    yield f"  {digest.counts_text(digest.counts(found))}; seq {found['seq']}"
    for text in found["problems"]:
        yield f"  {text}"
    for row in found["person"]:
        yield f"  {row['status']}  {row['id']}  {row['reason']}"
    for row in found["unhealthy"]:
        yield f"  unhealthy  {row['id']}  {', '.join(row['flags'])}"
    for row in found.get("changed", ()):
        yield f"  changed  {row['id']}  {row['status']}"
    shown = {name: len(found[name]) for name in found["totals"]}
    more = {name: total - shown[name] for name, total in found["totals"].items() if total > shown[name] > 0}
    if more:
        yield "  and more: " + ", ".join(f"{count} {name}" for name, count in more.items())


def _named(row: Row) -> dict[str, Any]:
    return {"id": _id(row), "status": row["status"]}


def _id(row: Row) -> str:
    """The id of a job; of a longer one the middle is left out."""
    name = str(row["id"])
    half = (_MOST_ID - 3) // 2
    return name if len(name) <= _MOST_ID else f"{name[:half]}...{name[-half:]}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[: _MOST_TEXT - 3]}..."


def _flags(row: Row) -> list[str]:
    return list(dict.fromkeys(flag["kind"] for flag in (row.get("health") or {}).get("flags", ())))
