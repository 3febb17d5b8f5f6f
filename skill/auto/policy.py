"""What a campaign does next: pure, so that the same journal always leads to the same decision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Union

from skill.auto import budget, comparable, events, proposals, stops
from skill.auto.campaign import SUBMITTING, Campaign, Node
from skill.auto.campaign import Ask as Asked
from skill.auto.events import Event
from skill.auto.judge import Next, judge
from skill.auto.replies import Role
from skill.auto.stops import Why

BASELINE = "baseline"
ALERT_AFTER = 3
"""Failures of the agent in a row that raise an alert."""
LONGEST_PAUSE = 1800.0
USAGE_LIMIT_PAUSE = 900.0
"""The first pause after a usage limit that does not say when it ends."""
MOST_ANALYSES = 3
"""Attempts to have a node analysed, where the agent fails."""


@dataclass(frozen=True)
class Ask:
    """Call the agent. `usd`: to be reserved."""

    role: Role
    node: str | None = None
    want: int = 0
    complaint: str = ""
    usd: float | None = None


@dataclass(frozen=True)
class Gate:
    """Check the edit in a node's worktree."""

    node: str


@dataclass(frozen=True)
class Build:
    """Build the code of a node, which all nodes with this commit use."""

    node: str
    commit: str


@dataclass(frozen=True)
class Submit:
    """Have a node measured with these seeds. `usd`: to be reserved for each; `beside`: the seed of the baseline's run
    that is measured at the same time."""

    node: str
    seeds: tuple[int, ...]
    usd: float | None = None
    beside: int | None = None


@dataclass(frozen=True)
class Cancel:
    """Cancel the open jobs of a node."""

    node: str


@dataclass(frozen=True)
class Pause:
    """Do not call the agent until then."""

    until: float
    reason: str
    alert: bool = False


@dataclass(frozen=True)
class Stop:
    """End the campaign: nothing is in flight."""

    reason: str
    text: str


@dataclass(frozen=True)
class Note:
    """Journal a conclusion, and decide again."""

    event: Event


Action = Union[Ask, Gate, Build, Submit, Cancel, Pause, Stop, Note]
Need = Union[events.NodeJudged, Next, None]
"""What an undecided node comes to, as `judge` has it."""


def next_actions(campaign: Campaign, now: float) -> list[Action]:
    """Return what to do now; empty while there is nothing but to wait. A Note or a Pause comes alone: decide again
    after it."""
    if campaign.stopped is not None:
        return []
    needs = [(node, judge(campaign, node)) for node in campaign.undecided]
    conclusion = next(_conclusions(campaign, needs), None)
    if conclusion is not None:
        return [conclusion]
    actions: list[Action] = [
        Cancel(node.id) for node in campaign.undecided if node.killed and node.open_jobs and not node.cancelling
    ]
    why = stops.at_once(campaign, now)
    if why is None:
        wanted, dropped = _afforded(campaign, _wanted(campaign, needs, now))
        actions += wanted
        if not actions and not _in_flight(campaign):
            if dropped is not None:
                why = Why("max_usd", _no_money(campaign, dropped))
            elif not any(node.is_edited for node in campaign.undecided):
                why = stops.no_more_nodes(campaign)
                if why is not None and _has_work(campaign):
                    why = None
    if why is not None and not actions and not _in_flight(campaign):
        return [Stop(why.reason, why.text)]
    return actions


def _in_flight(campaign: Campaign) -> bool:
    return bool(campaign.open_asks or campaign.open_jobs)


def _has_work(campaign: Campaign) -> bool:
    """Whether a node waits for an edit while the agent is paused: the campaign goes on when it answers again."""
    return any(node.commit is None for node in campaign.undecided)


# -- conclusions: what follows from the journal alone ----------------------------------------------------------------


def _conclusions(campaign: Campaign, needs: Sequence[tuple[Node, Need]]) -> Iterator[Note | Pause]:
    for about in (comparable.model_due, comparable.drift_due, comparable.measured_again):
        found = about(campaign)
        if found is not None:
            yield Note(found)
    yield from _declared(campaign)
    if campaign.trouble.pause_due:
        yield _pause(campaign)
    for planned in campaign.rounds:
        if planned.handled < len(planned.proposals):
            yield Note(proposals.settle(campaign, planned))
    judged = []
    for node, verdict in needs:
        if isinstance(verdict, events.NodeJudged):
            ended = max((job.ended for job in node.jobs.values()), default=0.0)
            judged.append((ended, node.id, verdict))
    if judged:  # in the order in which their jobs ended, whenever that was seen
        yield Note(min(judged, key=lambda one: one[:2])[2])


def _declared(campaign: Campaign) -> Iterator[Note]:
    """Create the baseline, then the nodes that a person declared."""
    config, launch = campaign.config, campaign.config.launch
    if campaign.baseline is None:
        yield Note(
            events.NodeCreated(campaign.next_node, "baseline", 0, BASELINE, dict(launch.settings), config.anchor)
        )
        return
    known = sum(node.kind in ("control", "declared") for node in campaign.nodes.values())
    for one in config.declared[known:]:
        kind: events.Kind = "control" if one.control else "declared"
        settings = {**launch.settings, **one.settings}
        base, parent = config.anchor, campaign.baseline.id
        yield Note(
            events.NodeCreated(campaign.next_node, kind, 0, one.title, settings, base, parent, edit=one.edit or None)
        )


def _pause(campaign: Campaign) -> Pause:
    trouble = campaign.trouble
    first = campaign.config.agent.backoff
    wait = min(first * 2.0 ** min(trouble.row - 1, 30), max(first, LONGEST_PAUSE))
    until = trouble.at + wait
    if trouble.kind == "usage_limit":
        until = trouble.until if trouble.until is not None else trouble.at + max(wait, USAGE_LIMIT_PAUSE)
    reason = f"the agent failed ({trouble.kind.replace('_', ' ')}): {trouble.text}"
    return Pause(until, reason, alert=trouble.row == ALERT_AFTER)


# -- what is to be done ----------------------------------------------------------------------------------------------


def _wanted(
    campaign: Campaign, undecided: Sequence[tuple[Node, Need]], now: float
) -> Iterator[Ask | Gate | Build | Submit]:
    """Yield what is to be done by importance, whatever it costs."""
    needs = sorted((one for one in undecided if not one[0].killed), key=lambda one: not one[0].boosted)
    yield from _submits(campaign, needs)
    builds = {node.commit: node.id for node, need in reversed(needs) if isinstance(need, Next) and need.build}
    yield from (Build(node, commit) for commit, node in builds.items() if commit is not None)
    yield from (Gate(node.id) for node, _ in needs if node.is_edited)
    if now < campaign.paused_until:
        return
    free = campaign.config.agent.parallel - len(campaign.open_asks)
    for ask, _ in zip(_asks(campaign, needs), range(max(0, free)), strict=False):
        yield ask


def _submits(campaign: Campaign, needs: Sequence[tuple[Node, Need]]) -> Iterator[Submit]:
    """Yield what is to be measured: what was begun, and what others are compared with, first; screening runs last."""
    usd, beside = budget.job_usd(campaign), comparable.beside_next(campaign)
    for node in campaign.nodes.values():
        begun = tuple(seed for seed, job in node.jobs.items() if job.status == SUBMITTING)
        if begun and not node.killed:
            yield Submit(node.id, begun, beside=node.jobs[begun[0]].beside)
    for node, seeds in comparable.due_again(campaign):
        yield Submit(node.id, seeds, usd)
    baseline = campaign.baseline
    fresh = [
        Submit(node.id, need.seeds, usd, beside)
        for node, need in needs
        if isinstance(need, Next) and need.seeds and not any(job.status == SUBMITTING for job in node.jobs.values())
    ]
    if fresh and beside is not None and baseline is not None and beside not in baseline.jobs:
        yield Submit(baseline.id, (beside,), usd)
    yield from sorted(fresh, key=lambda one: (len(one.seeds) == 1, not campaign.nodes[one.node].boosted))


def _asks(campaign: Campaign, needs: Sequence[tuple[Node, Need]]) -> Iterator[Ask]:
    strict = campaign.config.strict
    for node, need in needs:
        if node.is_edited or _is_asked(campaign, node.id, "edit", "repair"):
            continue
        if isinstance(need, Next) and need.repair is not None:
            yield _ask(campaign, "repair", node.id, complaint=need.repair)
        elif node.commit is None:
            yield _ask(campaign, "edit", node.id, complaint=node.refusals[-1] if node.refusals else "")
    analyses = [_ask(campaign, "analyze", node.id) for node in campaign.nodes.values() if _is_due(campaign, node)]
    if strict:
        yield from analyses
    want = _proposals_wanted(campaign)
    if want and not (strict and (analyses or _is_asked(campaign, None, "analyze"))):
        yield _ask(campaign, "plan", want=want)
    if not strict:
        yield from analyses


def _ask(campaign: Campaign, role: Role, node: str | None = None, want: int = 0, complaint: str = "") -> Ask:
    texts = campaign.malformed.get((role, node), [])
    return Ask(role, node, want, texts[-1] if texts else complaint, campaign.config.agent.usd_per_call)


def _is_asked(campaign: Campaign, node: str | None, *roles: Role) -> bool:
    return any(ask.role in roles and node in (None, ask.node) for ask in campaign.open_asks)


def _is_due(campaign: Campaign, node: Node) -> bool:
    """Return whether the agent is to analyse a node."""
    if not campaign.config.agent.analyze or node.analysis or node.kind not in ("proposed", "declared"):
        return False
    if node.verdict in (None, "refused", "duplicate", "killed") or _is_asked(campaign, node.id, "analyze"):
        return False
    failed = [ask for ask in campaign.asks.values() if ask.role == "analyze" and ask.node == node.id and _failed(ask)]
    return len(failed) < MOST_ANALYSES


def _failed(ask: Asked) -> bool:
    return ask.outcome not in (None, "answered", "interrupted")


def _proposals_wanted(campaign: Campaign) -> int:
    """How many experiments are to be proposed now."""
    config, baseline = campaign.config, campaign.baseline
    if baseline is None or baseline.verdict != "baseline" or _is_asked(campaign, None, "plan"):
        return 0
    if stops.no_more_nodes(campaign) is not None:
        return 0
    active = sum(node.kind in ("proposed", "declared") for node in campaign.undecided)
    if active and (config.strict or _knows_nothing_new(campaign)):
        return 0
    want = config.per_round - active
    if config.limits.max_nodes is not None:
        want = min(want, config.limits.max_nodes - len(campaign.proposed))
    return max(0, want)


def _knows_nothing_new(campaign: Campaign) -> bool:
    """Return whether the planner would get the same document again, after all its last proposals were known or
    refused."""
    if not stops.without_news(campaign):
        return False
    ask = campaign.asks.get(campaign.rounds[-1].ask)
    return ask is not None and all((campaign.nodes[name].judged or 0.0) <= ask.started for name in campaign.judged)


# -- money -----------------------------------------------------------------------------------------------------------


def _afforded(
    campaign: Campaign, wanted: Iterator[Ask | Gate | Build | Submit]
) -> tuple[list[Action], Ask | Gate | Build | Submit | None]:
    """Return what the limits pay for, up to the first thing that they do not, and that thing."""
    left = budget.room(campaign)
    chosen: list[Action] = []
    for one in wanted:
        gpu = (one.usd or 0.0) * len(one.seeds) if isinstance(one, Submit) else 0.0
        left = left.after(gpu, (one.usd or 0.0) if isinstance(one, Ask) else 0.0)
        if left.is_over:
            return _without_lone(campaign, chosen), one
        chosen.append(one)
    return chosen, None


def _without_lone(campaign: Campaign, chosen: list[Action]) -> list[Action]:
    """Drop a new run of the baseline where the limits do not pay for what it was to be beside."""
    last, baseline = (chosen[-1] if chosen else None), campaign.baseline
    if not isinstance(last, Submit) or baseline is None or last.node != baseline.id or last.usd is None:
        return chosen
    return chosen[:-1] if last.seeds == (comparable.beside_next(campaign),) else chosen


def _no_money(campaign: Campaign, dropped: Ask | Gate | Build | Submit) -> str:
    gpu, agent = campaign.gpu_spent, campaign.agent_spent
    what = f"measuring {dropped.node}" if isinstance(dropped, Submit) else f"a call of the agent ({_role(dropped)})"
    unknown = gpu.unknown + agent.unknown
    more = f", with {unknown} costs that are unknown and counted as reserved" if unknown else ""
    return f"{gpu.committed + agent.committed:.2f} USD are spent{more}, and {what} would exceed the limit"


def _role(dropped: Ask | Gate | Build | Submit) -> str:
    return dropped.role if isinstance(dropped, Ask) else "none"


def wakes_at(campaign: Campaign, now: float) -> float | None:
    """Return when to decide again although nothing happens: at the end of a pause, or at the deadline."""
    times = [campaign.paused_until]
    if campaign.config.limits.deadline is not None:
        times.append(campaign.config.limits.deadline)
    return min((at for at in times if at > now), default=None)
