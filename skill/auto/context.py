"""Build the document about a campaign that goes into a prompt, by role. Bounded: it keeps the newest and the best
nodes. Pure, and the same for the same journal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from skill.auto import budget, noise
from skill.auto.campaign import COMPLETED, Campaign, Job, Node
from skill.auto.ports import Request

MOST = 60_000
"""Characters of a planner's document, at most."""
_SIZES = (40, 25, 15, 8, 4, 2)
"""Numbers of nodes, findings and notes, of which the first that fits is used."""
_TITLE, _SENTENCE, _TEXT = 120, 300, 4000
_NEAR = ("within_noise", "incomparable", "guard")


def document(request: Request, campaign: Campaign) -> dict[str, Any]:
    """Return the document for a request."""
    if request.role == "plan":
        return plan(campaign, request.want)
    common = {**_common(campaign), "task": request.role}
    if request.role == "report":
        return {
            **common,
            "nodes": [_row(campaign, one) for one in kept(campaign, _SIZES[0])],
            **_knowledge(campaign, 20),
        }
    node = campaign.nodes.get(request.node or "")
    if node is None:
        return {**common, **_scope(campaign)}
    found = {**common, "node": _row(campaign, node), **_scope(campaign)}
    parent = campaign.nodes.get(node.parent or "")
    if parent is not None:
        found["parent"] = _row(campaign, parent)
    if request.role in ("edit", "repair"):
        found["edit"] = cut(node.edit or "", _TEXT)
        found["refused_before"] = [cut(one, _TEXT) for one in node.refusals]
    if request.role == "repair":
        found["failed_jobs"] = [_failure(job) for job in node.jobs.values() if job.status != COMPLETED]
    if request.role == "analyze":
        found["runs"] = [_run(job) for job in node.jobs.values()]
        best = campaign.best
        if best is not None:
            found["best"] = _row(campaign, best)
    return found


def plan(campaign: Campaign, want: int) -> dict[str, Any]:
    """Return the planner's document. With many nodes it has fewer of each kind, to stay below MOST characters."""
    for size in _SIZES:
        found = _plan(campaign, want, size)
        if len(text(found)) <= MOST:
            return found
    return found


def text(document: Any) -> str:
    """Format a document for the prompt, with a line for each node."""
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            inner = ",\n  ".join(json.dumps(one, ensure_ascii=False) for one in value)
            lines.append(f"{json.dumps(key)}: [\n  {inner}\n]")
        else:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}"


def kept(campaign: Campaign, size: int) -> list[Node]:
    """Choose the judged nodes of a document, in the order of their creation: the baseline, the best, the best
    near-misses, the newest."""
    judged = [campaign.nodes[name] for name in campaign.judged]
    if len(judged) <= size:
        return sorted(judged, key=lambda node: node.id)
    sign = -1.0 if campaign.config.objective.goal == "max" else 1.0
    ranked = sorted((one for one in judged if one.value is not None), key=lambda one: (sign * (one.value or 0), one.id))
    third = max(1, size // 3)
    chosen: dict[str, Node] = {}
    for group in (
        [campaign.baseline],
        [campaign.best],
        ranked[:third],
        near_misses(campaign)[:third],
        reversed(judged),
    ):
        for node in group:
            if node is not None and node.verdict is not None and len(chosen) < size:
                chosen[node.id] = node
    return [chosen[name] for name in sorted(chosen)]


def near_misses(campaign: Campaign) -> list[Node]:
    """Return nodes that looked better but were not kept, the largest effect first: two of them may add up."""
    near = [one for one in campaign.nodes.values() if one.verdict in _NEAR and (one.effect or 0.0) > 0]
    return sorted(near, key=lambda one: (-(one.effect or 0.0), one.id))


def families(campaign: Campaign) -> dict[str, dict[str, Any]]:
    """Count ideas by family: tried, kept, and the largest effect."""
    found: dict[str, dict[str, Any]] = {}
    for node in campaign.nodes.values():
        if node.family and node.verdict is not None:
            row = found.setdefault(cut(node.family, _TITLE), {"tried": 0, "kept": 0, "best_effect": None})
            row["tried"] += 1
            row["kept"] += node.verdict == "better"
            if node.effect is not None and (row["best_effect"] is None or node.effect > row["best_effect"]):
                row["best_effect"] = node.effect
    return dict(sorted(found.items(), key=lambda one: (-one[1]["kept"], -one[1]["tried"], one[0])))


def cut(words: str, most: int) -> str:
    """Shorten a text to `most` characters."""
    return words if len(words) <= most else words[: most - 1] + "…"


def _plan(campaign: Campaign, want: int, size: int) -> dict[str, Any]:
    best, baseline = campaign.best, campaign.baseline
    running = [node for node in campaign.undecided if node.kind != "baseline"]
    known = families(campaign)
    return {
        **_common(campaign),
        "task": "plan",
        "want": want,
        **_scope(campaign),
        "noise_sd": _noise(campaign, best),
        "left": _left(campaign),
        "baseline": baseline.id if baseline else None,
        "best": best.id if best else None,
        "pinned": next((node.id for node in campaign.nodes.values() if node.pinned), None),
        "nodes_judged": len(campaign.judged),
        "nodes": [_row(campaign, one) for one in kept(campaign, size)],
        "near_misses": [one.id for one in near_misses(campaign)[:size]],
        "families": {name: known[name] for name in list(known)[:size]},
        "running": [
            {
                "id": one.id,
                "title": cut(one.title, _TITLE),
                "settings": one.settings,
                "edit": cut(one.edit or "", _TITLE),
            }
            for one in running[-size:]
        ],
        "refused": [
            {"title": cut(title, _TITLE), "reason": cut(reason, _SENTENCE)}
            for planned in campaign.rounds
            for title, reason in planned.refused
        ][-size:],
        **_knowledge(campaign, size),
    }


def _common(campaign: Campaign) -> dict[str, Any]:
    config = campaign.config
    return {
        "campaign": config.name,
        "objective": {"metric": config.objective.metric, "goal": config.objective.goal},
        "guards": [{name: value for name, value in asdict(one).items() if value is not None} for one in config.guards],
        "command": config.launch.command,
        "settings": dict(config.launch.settings),
    }


def _scope(campaign: Campaign) -> dict[str, Any]:
    scope = campaign.config.scope
    return {"editable": list(scope.editable), "protected": list(scope.protected), "max_lines": scope.max_lines}


def _knowledge(campaign: Campaign, size: int) -> dict[str, Any]:
    findings = [
        {"id": one.id, "text": cut(one.text, _SENTENCE), "nodes": list(one.nodes)} for one in campaign.findings[-size:]
    ]
    return {"findings": findings, "notes_of_the_user": [cut(words, _TEXT // 4) for _, words in campaign.notes[-size:]]}


def _left(campaign: Campaign) -> dict[str, Any]:
    limits, room = campaign.config.limits, budget.room(campaign)
    found = {
        "nodes": None if limits.max_nodes is None else max(0, limits.max_nodes - len(campaign.proposed)),
        "rounds": None if limits.max_rounds is None else max(0, limits.max_rounds - len(campaign.rounds)),
        "usd": None if room.both is None else round(max(0.0, room.both), 2),
    }
    return {name: value for name, value in found.items() if value is not None}


def _noise(campaign: Campaign, best: Node | None) -> float | None:
    spread = noise.pooled(campaign, noise.model(best)) if best is not None else None
    return None if spread is None else spread.sd


def _row(campaign: Campaign, node: Node) -> dict[str, Any]:
    """Return a node without its empty fields."""
    runs = noise.values(node, campaign.config, node.period)
    row = {
        "id": node.id,
        "kind": node.kind if node.kind != "proposed" else "",
        "parent": node.parent,
        "title": cut(node.title, _TITLE),
        "hypothesis": cut(node.hypothesis, _SENTENCE),
        "family": cut(node.family, _TITLE),
        "settings": dict(node.settings),
        "edit": cut(node.edit or "", _SENTENCE),
        "lines": f"+{node.added} -{node.removed}" if node.files else "",
        "files": list(node.files[:10]),
        "change": f"nodes/{node.id}/change.patch" if node.files else "",
        "verdict": node.verdict or "",
        "reason": cut(node.reason, _SENTENCE),
        "value": node.value,
        "sd": node.sd,
        "n": len(runs) or None,
        "effect": node.effect,
        "bar": node.bar,
        "against": node.against,
    }
    return {name: value for name, value in row.items() if value not in (None, "", [], {})}


def _run(job: Job) -> dict[str, Any]:
    return {"job": job.id, "seed": job.seed, "status": job.status, "metrics": dict(job.metrics), "gpu": job.gpu}


def _failure(job: Job) -> dict[str, Any]:
    return {"job": job.id, "status": job.status, "error": cut(job.error, _TEXT)}
