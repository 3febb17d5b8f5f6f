"""A campaign as one document, for `auto status --json` and state.json. Pure, and the same for the same journal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from queue_manager.core.times import iso
from skill.auto import budget, stops
from skill.auto.campaign import Campaign, Job, Node, Spent

FORMAT = "wavequeue-campaign-state"


def document(campaign: Campaign) -> dict[str, Any]:
    """Return the document, with every node."""
    config, best = campaign.config, campaign.best
    return {
        "format": FORMAT,
        "version": 1,
        "campaign": config.name,
        "started": iso(campaign.started),
        "updated": iso(campaign.updated),
        "seq": campaign.seq,
        "objective": asdict(config.objective),
        "stopped": campaign.stopped,
        "stopped_text": campaign.stopped_text if campaign.stopped is not None else "",
        "paused_until": iso(campaign.paused_until) if campaign.trouble.row else None,
        "paused_reason": campaign.paused_reason if campaign.trouble.row else "",
        "best": None if best is None else best.id,
        "gpu": campaign.gpu,
        "periods": [{"at": iso(at), "reason": text} for at, text in campaign.periods],
        "limits": limits(campaign),
        "spent": {"gpu": spent(campaign.gpu_spent), "agent": spent(campaign.agent_spent)},
        "asks": [
            {"ask": ask.ask, "role": ask.role, "node": ask.node, "started": iso(ask.started)}
            for ask in campaign.open_asks
        ],
        "rounds": len(campaign.rounds),
        "nodes": [{**node_row(node), "state": state(node, campaign)} for node in campaign.nodes.values()],
        "findings": [{"id": one.id, "text": one.text, "nodes": list(one.nodes)} for one in campaign.findings],
        "notes": [{"at": iso(at), "text": text} for at, text in campaign.notes],
        "alerts": [{"at": iso(at), "text": text} for at, text in campaign.alerts],
        "refused": [
            {"round": planned.round, "title": title, "reason": reason}
            for planned in campaign.rounds
            for title, reason in planned.refused
        ],
    }


def limits(campaign: Campaign) -> list[dict[str, Any]]:
    """Each limit that is set, with how much of it was used."""
    bound, left = campaign.config.limits, budget.room(campaign)
    rows: list[tuple[str, float | None, float | None]] = [
        ("max_nodes", len(campaign.proposed), bound.max_nodes),
        ("max_rounds", len(campaign.rounds), bound.max_rounds),
        ("patience", stops.without_gain(campaign), bound.patience),
        ("no_novel", stops.without_news(campaign), bound.no_novel),
    ]
    for name, most, free in (
        ("max_usd", bound.max_usd, left.both),
        ("max_gpu_usd", bound.max_gpu_usd, left.gpu),
        ("max_agent_usd", bound.max_agent_usd, left.agent),
    ):
        if most is not None and free is not None:
            rows.append((name, round(most - free, 6), most))
    found: list[dict[str, Any]] = [
        {"limit": name, "used": used, "most": most} for name, used, most in rows if most is not None
    ]
    best = campaign.best
    if bound.target is not None:
        found.append({"limit": "target", "used": best.value if best is not None else None, "most": bound.target})
    if bound.deadline is not None:
        found.append({"limit": "deadline", "used": None, "most": iso(bound.deadline)})
    return found


def spent(money: Spent) -> dict[str, Any]:
    """US dollars; an unknown cost is counted apart, and never as 0."""
    return {"usd": round(money.known, 6), "unknown": money.unknown, "reserved": round(money.reserved, 6)}


def state(node: Node, campaign: Campaign) -> str:
    """Describe the status of a node in a word or two. `earlier`: its numbers are of another GPU model, or of before the
    machines changed, and are not comparable with the present ones."""
    words = (node.verdict or node.status).replace("_", " ")
    is_earlier = node.verdict is not None and node.value is not None and node.period < campaign.period
    return f"{words}, earlier" if is_earlier else words


def node_row(node: Node) -> dict[str, Any]:
    """One node."""
    return {
        "id": node.id,
        "kind": node.kind,
        "round": node.round,
        "parent": node.parent,
        "title": node.title,
        "hypothesis": node.hypothesis,
        "family": node.family,
        "settings": dict(node.settings),
        "edit": node.edit,
        "commit": node.commit,
        "files": list(node.files),
        "added": node.added,
        "removed": node.removed,
        "status": node.status,
        "verdict": node.verdict,
        "reason": node.reason,
        "value": node.value,
        "sd": node.sd,
        "effect": node.effect,
        "bar": node.bar,
        "against": node.against,
        "pinned": node.pinned,
        "boosted": node.boosted,
        "analysis": node.analysis,
        "jobs": [job_row(job) for job in (*node.earlier, *node.jobs.values())],
    }


def job_row(job: Job) -> dict[str, Any]:
    """One measurement."""
    return {
        "id": job.id,
        "seed": job.seed,
        "status": job.status,
        "metrics": dict(job.metrics),
        "error": job.error,
        "gpu": job.gpu,
        "period": job.period,
        "host": job.host,
        "seconds": round(job.seconds, 3),
        "usd": job.usd,
    }
