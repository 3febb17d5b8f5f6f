"""The page of a campaign: report.html. Pure, but for the files of its template."""

from __future__ import annotations

import shlex
from typing import Any

from queue_manager.core.times import iso
from skill.auto import context, narrate, overview, pictures, tables
from skill.auto.campaign import Campaign, Node
from skill.auto.drawing import svg
from skill.reports import html_page


def page(campaign: Campaign) -> str:
    """Create the page of a campaign; it needs nothing else, and runs no script."""
    config, best, baseline = campaign.config, campaign.best, campaign.baseline
    prose = tables.narration(campaign)
    names: dict[str, Any] = {
        "name": config.name,
        "standing": tables.standing(campaign),
        "metric": config.objective.metric,
        "goal": config.objective.goal,
        "best": best.id if best else None,
        "best_value": pictures.number(best) if best else "",
        "baseline": baseline.id if baseline else None,
        "baseline_value": pictures.number(baseline) if baseline else "",
        "spent": tables.spent(campaign),
        "progress": svg(pictures.progress(campaign)),
        "tree": svg(pictures.hypothesis_tree(campaign)),
        "prose": narrate.check(prose, campaign) if prose else [],
        "nodes": [_row(campaign, node) for node in campaign.nodes.values()],
        "path": [_row(campaign, node) for node in pictures.best_path(campaign)],
        "near": [_row(campaign, node) for node in context.near_misses(campaign)[:10]],
        "families": context.families(campaign),
        "findings": campaign.findings,
        "command": config.launch.command,
        "repo": config.repo,
        "anchor": config.anchor,
        "agent": shlex.join(config.agent.cmd),
        "digest": campaign.agent_digest,
        "limits": overview.limits(campaign),
        "alerts": [(iso(at), text) for at, text in campaign.alerts],
    }
    return html_page.render("campaign.html.j2", names)


def _row(campaign: Campaign, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "parent": node.parent,
        "state": overview.state(node, campaign),
        "colour": pictures.colour(node),
        "value": pictures.number(node),
        "runs": tables.runs(campaign, node),
        "effect": "-" if node.effect is None else f"{node.effect:+.3g}",
        "bar": "-" if node.bar is None else f"{node.bar:.2g}",
        "title": node.title,
        "settings": ", ".join(f"{name}={value}" for name, value in node.settings.items()),
        "reason": node.reason,
    }
