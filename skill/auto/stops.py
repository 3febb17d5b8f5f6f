"""When a campaign ends. Pure: the reasons are derived from the campaign, and the policy acts on them."""

from __future__ import annotations

from typing import NamedTuple

from queue_manager.core.times import iso
from skill.auto.campaign import Campaign


class Why(NamedTuple):
    """`reason`: max_nodes, max_rounds, patience, target, deadline, max_usd, no_novel, agent, person or baseline."""

    reason: str
    text: str


def at_once(campaign: Campaign, now: float) -> Why | None:
    """Return why nothing more is started, although nodes may be half measured; what is in flight is waited for."""
    limits, best, baseline = campaign.config.limits, campaign.best, campaign.baseline
    if campaign.stop_requested:
        return Why("person", "a person stopped it")
    if baseline is not None and baseline.verdict in ("failed", "killed"):
        return Why("baseline", f"the baseline {baseline.id} gives no number: {baseline.reason}")
    if baseline is not None and not baseline.holds:
        return Why("baseline", f"the baseline {baseline.id}, measured again, gives no number: {baseline.reason}")
    if limits.deadline is not None and now >= limits.deadline:
        return Why("deadline", f"the deadline {iso(limits.deadline)} has passed")
    if limits.target is not None and best is not None and best.value is not None:
        objective = campaign.config.objective
        if best.value >= limits.target if objective.goal == "max" else best.value <= limits.target:
            return Why(
                "target", f"{best.id} reaches {objective.metric} {best.value:.6g}; the target is {limits.target:.6g}"
            )
    return None


def no_more_nodes(campaign: Campaign) -> Why | None:
    """Return why no further node is planned; existing ones are still measured."""
    limits = campaign.config.limits
    count = len(campaign.proposed)
    if limits.max_nodes is not None and count >= limits.max_nodes:
        return Why("max_nodes", f"{count} nodes were proposed; max_nodes is {limits.max_nodes}")
    if limits.max_rounds is not None and len(campaign.rounds) >= limits.max_rounds:
        return Why("max_rounds", f"{len(campaign.rounds)} rounds were planned; max_rounds is {limits.max_rounds}")
    row = without_gain(campaign)
    if limits.patience is not None and row >= limits.patience:
        return Why("patience", f"{row} nodes in a row were no improvement; patience is {limits.patience}")
    row = without_news(campaign)
    if limits.no_novel is not None and row >= limits.no_novel:
        return Why("no_novel", f"{row} rounds in a row had no new proposal; no_novel is {limits.no_novel}")
    last = campaign.rounds[-1] if len(campaign.rounds) > campaign.resumed_at_round else None
    if last is not None and last.stop:
        return Why("agent", f"the agent proposes nothing more: {last.why or '(no reason given)'}")
    return None


def without_gain(campaign: Campaign) -> int:
    """How many proposed nodes were judged since the last improvement; those that a person ended are not counted."""
    row = 0
    for name in reversed(campaign.judged):
        node = campaign.nodes[name]
        if node.verdict == "better":
            break
        row += node.kind == "proposed" and node.verdict != "killed"
    return row


def without_news(campaign: Campaign) -> int:
    """How many rounds at the end brought no experiment that was not there before."""
    row = 0
    for planned in reversed(campaign.rounds[campaign.resumed_at_round :]):
        if planned.handled < len(planned.proposals) or any(
            campaign.nodes[name].verdict != "duplicate" for name in planned.nodes
        ):
            break
        row += 1
    return row
