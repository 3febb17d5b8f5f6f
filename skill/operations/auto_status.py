"""Read how a campaign stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skill.auto import overview, store
from skill.auto.layout import WorkDir
from skill.operations.auto_steer import is_running


def status(root: Path) -> dict[str, Any]:
    """The document of `auto status --json`: skill.auto.overview, and whether a loop works on it. Raises UseError,
    FailedError."""
    work = WorkDir.at(root)
    campaign, _ = store.load(work)
    return {**overview.document(campaign), "running": is_running(work), "directory": str(work.root)}


def headline(found: dict[str, Any]) -> str:
    """Describe the state of a campaign in a line."""
    if found["stopped"] is not None:
        return f"{found['campaign']}: stopped ({found['stopped']}): {found['stopped_text']}"
    if not found["running"]:
        return f"{found['campaign']}: interrupted; continue with: wavequeue auto run {found['directory']}"
    if found["paused_reason"]:
        return (
            f"{found['campaign']}: running; the agent is paused until {found['paused_until']}: {found['paused_reason']}"
        )
    return f"{found['campaign']}: running"


def lines(found: dict[str, Any]) -> list[str]:
    """Return the lines above the table of nodes: the best, the budget, what is in flight."""
    lines = [headline(found)]
    metric, nodes = found["objective"]["metric"], {row["id"]: row for row in found["nodes"]}
    best = nodes.get(found["best"] or "")
    base = next((row for row in found["nodes"] if row["kind"] == "baseline"), None)
    if best is not None and base is not None:
        than = "" if best is base else f"; baseline {value_text(base)}"
        lines.append(f"  best: {best['id']} {metric} {value_text(best)}{than}")
    if found["limits"]:
        lines.append("  " + ", ".join(f"{row['limit']} {_used(row)}" for row in found["limits"]))
    spent = found["spent"]
    lines.append(f"  spent: GPUs {_spent(spent['gpu'])}, agent {_spent(spent['agent'])}")
    running = [
        job["id"] for row in found["nodes"] for job in row["jobs"] if job["status"] in ("submitting", "submitted")
    ]
    if running:
        lines.append(
            f"  in the queue: {', '.join(running[:8])}" + (f" and {len(running) - 8} more" if running[8:] else "")
        )
    for ask in found["asks"]:
        lines.append(f"  the agent is asked: {ask['role']}{' ' + ask['node'] if ask['node'] else ''}")
    lines += [f"  alert {one['at']}: {one['text']}" for one in found["alerts"][-3:]]
    return lines


def value_text(row: dict[str, Any]) -> str:
    """A node's value with its spread."""
    if row["value"] is None:
        return "-"
    return f"{row['value']:.6g}" + (f" ± {row['sd']:.2g}" if row["sd"] is not None else "")


def cells(found: dict[str, Any]) -> list[list[str]]:
    """The table of nodes, with its head."""
    table = [["node", "from", "status", found["objective"]["metric"], "gain", "needs", "jobs", "what"]]
    for row in found["nodes"]:
        ended = sum(job["status"] not in ("submitting", "submitted") for job in row["jobs"])
        mark = "*" if row["id"] == found["best"] else ""
        state = row["state"]
        table.append([
            row["id"] + mark, row["parent"] or "-", state, value_text(row), _signed(row["effect"]),
            "-" if row["bar"] is None else f">{row['bar']:.2g}", f"{ended}/{len(row['jobs'])}", what(row),
        ])  # fmt: skip
    return table


def what(row: dict[str, Any]) -> str:
    """What a node is, and why it ended so, where that needs words."""
    return f"{row['title']} ({row['reason']})" if row["reason"] else f"{row['title']}"


def tree(found: dict[str, Any]) -> list[str]:
    """The nodes as a tree, each under what it changes."""
    children: dict[str | None, list[dict[str, Any]]] = {}
    for row in found["nodes"]:
        children.setdefault(row["parent"], []).append(row)

    def draw(parent: str | None, depth: int) -> list[str]:
        lines = []
        for row in children.get(parent, ()):
            state = row["state"]
            mark = "*" if row["id"] == found["best"] else ""
            lines.append(f"{'  ' * depth}{row['id']}{mark} {state} {value_text(row)} {what(row)}")
            lines += draw(row["id"], depth + 1)
        return lines

    return draw(None, 0)


def _used(row: dict[str, Any]) -> str:
    used, most = row["used"], row["most"]
    return f"{most}" if used is None else f"{used:g}/{most:g}"


def _spent(money: dict[str, Any]) -> str:
    more = f" and {money['unknown']} of unknown cost" if money["unknown"] else ""
    reserved = f", {money['reserved']:.2f} reserved" if money["reserved"] else ""
    return f"${money['usd']:.2f}{more}{reserved}"


def _signed(effect: float | None) -> str:
    return "-" if effect is None else f"{effect:+.3g}"
