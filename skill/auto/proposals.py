"""Decide which proposals become nodes. Pure."""

from __future__ import annotations

from build_manifest.faults import listed, nearest
from skill.auto.campaign import Campaign, Node, Round
from skill.auto.config import Settings, Value
from skill.auto.events import NodeCreated, ProposalRefused
from skill.auto.replies import Proposal


def settle(campaign: Campaign, planned: Round) -> NodeCreated | ProposalRefused:
    """Turn the next open proposal of a round into a node, or refuse it."""
    proposal = planned.proposals[planned.handled]
    title = " ".join(proposal.title.split())[:200] or "(no title)"
    parent = _parent(campaign, planned, proposal)
    reason = f"there is no node {proposal.parent} to start from" if parent is None else None
    settings: Settings = {}
    if parent is not None:
        settings = {**parent.settings, **proposal.settings}
        reason = fault(campaign, planned, proposal, parent, settings)
    if reason is not None or parent is None or parent.commit is None:
        return ProposalRefused(planned.round, title, reason or "its parent has no code yet")
    return NodeCreated(
        campaign.next_node, "proposed", planned.round, title, settings, parent.commit, parent.id,
        proposal.hypothesis, proposal.family, proposal.edit or None,
    )  # fmt: skip


def _parent(campaign: Campaign, planned: Round, proposal: Proposal) -> Node | None:
    """Return the node that a proposal starts from; where it names none, the best when the planner was called."""
    if proposal.parent is not None:
        return campaign.nodes.get(proposal.parent)
    ask = campaign.asks.get(planned.ask)
    best = campaign.best if ask is None or ask.best is None else campaign.nodes[ask.best]
    return next((node for node in campaign.nodes.values() if node.pinned), best)


def fault(campaign: Campaign, planned: Round, proposal: Proposal, parent: Node, settings: Settings) -> str | None:
    """Why a proposal is refused, in words for the agent; None if it may become a node."""
    config = campaign.config
    if config.limits.max_nodes is not None and len(campaign.proposed) >= config.limits.max_nodes:
        return "the campaign has all the nodes it may have"
    if parent.commit is None:
        return f"node {parent.id} has no code yet; start from another one"
    ask = campaign.asks.get(planned.ask)
    if ask is not None and len(planned.nodes) >= max(1, ask.want):
        return f"{max(1, ask.want)} proposals were asked for"
    known = config.launch.settings
    for name, value in proposal.settings.items():
        if name not in known:
            close = nearest(name, list(known))
            hint = f"did you mean {close}?" if close else f"there are: {listed(known)}" if known else "there are none"
            return f"no setting is called {name}; {hint}"
        if _kind(value) != _kind(known[name]):
            return f"{name} is a {_kind(known[name])}, and {value!r} is not"
    if proposal.edit and not config.scope.editable:
        return "no file may be edited in this campaign; change settings only"
    if not proposal.edit and settings == parent.settings:
        return f"it changes nothing of {parent.id}"
    twin = _twin(campaign, proposal, parent, settings)
    return f"{twin.id} is the same" if twin is not None else None


def _kind(value: Value) -> str:
    return "switch" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _twin(campaign: Campaign, proposal: Proposal, parent: Node, settings: Settings) -> Node | None:
    """The node that is the same experiment already."""
    for node in campaign.nodes.values():
        if node.settings != settings or node.verdict == "killed":
            continue
        if proposal.edit:
            if node.edit is not None and node.base == parent.commit and _words(node.edit) == _words(proposal.edit):
                return node
        elif node.commit == parent.commit:
            return node
    return None


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def same_code(campaign: Campaign, node: Node) -> Node | None:
    """The earlier node whose edit came to the same code with the same settings."""
    if not node.tree:
        return None
    for other in campaign.nodes.values():
        if other.id == node.id:
            return None
        if other.tree == node.tree and other.settings == node.settings and other.verdict not in ("killed", "duplicate"):
            return other
    return None
