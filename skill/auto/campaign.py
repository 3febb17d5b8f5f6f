"""The state of a campaign, which is the fold of its journal's events. Pure.

Only `apply` changes it. What can be derived (the best node, what is in flight, what was spent) is a property.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from skill.auto import events as ev
from skill.auto.config import COUNTS, Config, Settings
from skill.auto.events import Event, Kind, Verdict
from skill.auto.replies import Finding, Proposal, Role

SUBMITTING, SUBMITTED = "submitting", "submitted"
COMPLETED = "completed"
LOST = "lost"
"""Status of a job that is no longer waited for: no GPU of its model is left."""


class CampaignError(Exception):
    """An event cannot follow those before it: an internal error, or a journal that something else wrote to."""


class Record(NamedTuple):
    """A line of the journal; `at` is epoch seconds, whole to the millisecond."""

    seq: int
    at: float
    event: Event


@dataclass
class Job:
    """One measurement of a node. `status`: submitting, submitted, lost, or as the queue calls its end. `period`: runs
    of one period only are compared; `screens`: it decides whether the node is run with more seeds; `beside`: the seed
    of the baseline's run that was measured at the same time."""

    node: str
    seed: int
    revision: int
    status: str
    reserved: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    gpu: str = ""
    host: str = ""
    seconds: float = 0.0
    ended: float = 0.0
    usd: float | None = None
    period: int = 0
    screens: bool = False
    beside: int | None = None

    @property
    def id(self) -> str:
        return job_id(self.node, self.seed, self.revision)

    @property
    def is_open(self) -> bool:
        return self.status in (SUBMITTING, SUBMITTED)


def job_id(node: str, seed: int, revision: int) -> str:
    """NODE_sSEED; of code that was repaired NODE.rREVISION_sSEED."""
    return f"{node}_s{seed}" if not revision else f"{node}.r{revision}_s{seed}"


@dataclass
class Node:
    """One code identity with its settings.

    `commit`: None until its edit was accepted; `is_edited`: the agent has answered, and the gate has not yet;
    `is_refused`: the gate refused what is in the worktree; `build_fault`: why its code cannot be built. `jobs`: of the
    present revision, by seed; `earlier`: of revisions before. `judged_in`: the period that its numbers are of; `holds`:
    it is what it was judged, as far as it was measured again.
    """

    id: str
    kind: Kind
    round: int
    title: str
    settings: Settings
    base: str
    parent: str | None
    hypothesis: str
    family: str
    edit: str | None
    created: float
    commit: str | None = None
    tree: str = ""
    files: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    revision: int = 0
    is_edited: bool = False
    is_refused: bool = False
    build_fault: str = ""
    refusals: list[str] = field(default_factory=list)
    jobs: dict[int, Job] = field(default_factory=dict)
    earlier: list[Job] = field(default_factory=list)
    verdict: Verdict | None = None
    reason: str = ""
    value: float | None = None
    sd: float | None = None
    effect: float | None = None
    bar: float | None = None
    against: str | None = None
    judged: float | None = None
    judged_in: int = 0
    holds: bool = True
    analysis: str = ""
    killed: bool = False
    cancelling: bool = False
    pinned: bool = False
    boosted: bool = False

    @property
    def status(self) -> str:
        """proposed (its edit is due), ready, measuring, or judged."""
        if self.verdict is not None:
            return "judged"
        if self.commit is None:
            return "proposed"
        return "measuring" if self.jobs else "ready"

    @property
    def open_jobs(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.is_open]

    @property
    def period(self) -> int:
        """The period of its numbers."""
        if self.verdict is not None:
            return self.judged_in
        return max((job.period for job in self.jobs.values()), default=0)

    def fresh_seeds(self, count: int) -> tuple[int, ...]:
        """Return `count` seeds that it has not been run with."""
        first = max(self.jobs, default=-1) + 1
        return tuple(range(first, first + count))


@dataclass
class Ask:
    """A call of the agent; `outcome` None: it is in flight. `best`: the best node when it started."""

    ask: int
    role: Role
    node: str | None
    want: int
    reserved: float | None
    started: float
    best: str | None = None
    outcome: str | None = None
    usd: float | None = None
    seconds: float = 0.0
    text: str = ""


@dataclass
class Round:
    """Proposals of one planning call. `nodes`: those that became one, `refused`: title and reason of the others."""

    round: int
    ask: int
    proposals: tuple[Proposal, ...]
    stop: bool
    why: str
    nodes: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    @property
    def handled(self) -> int:
        return len(self.nodes) + len(self.refused)


@dataclass
class Known:
    """A finding, with an ID such as F001."""

    id: str
    text: str
    nodes: tuple[str, ...]
    about: str


@dataclass
class Spent:
    """US dollars. `unknown`: how many calls or jobs cost something that is not known; `counted`: the amount that
    the limits count for them; `reserved`: for what is in flight."""

    known: float = 0.0
    unknown: int = 0
    counted: float = 0.0
    reserved: float = 0.0

    @property
    def committed(self) -> float:
        return self.known + self.counted + self.reserved


@dataclass
class Trouble:
    """Failures of the agent. `row`: how many since its last answer; `pause_due`: the last one has not led to a pause
    yet."""

    row: int = 0
    at: float = 0.0
    kind: str = ""
    text: str = ""
    until: float | None = None
    pause_due: bool = False


@dataclass
class Campaign:
    """All of a campaign. `config.limits` are the current ones, with extensions; `images`: what the
    build of a commit printed last; `gpus`: how many jobs can run at a time on each GPU model, None: not looked at;
    `gpu`: the model that jobs run on, empty: any. `periods`: when one began after the first, and why; `checked`: seeds
    of the baseline's runs that were looked at for drift."""

    config: Config
    started: float
    nodes: dict[str, Node] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    asks: dict[int, Ask] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    findings: list[Known] = field(default_factory=list)
    notes: list[tuple[float, str]] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    alerts: list[tuple[float, str]] = field(default_factory=list)
    trouble: Trouble = field(default_factory=Trouble)
    malformed: dict[tuple[Role, str | None], list[str]] = field(default_factory=dict)
    paused_until: float = 0.0
    paused_reason: str = ""
    agent_digest: str = ""
    gpus: Mapping[str, int] | None = None
    gpu: str = ""
    periods: list[tuple[float, str]] = field(default_factory=list)
    checked: set[int] = field(default_factory=set)
    requests: set[str] = field(default_factory=set)
    stop_requested: bool = False
    resumed_at_round: int = 0
    stopped: str | None = None
    stopped_text: str = ""
    stopped_at: float | None = None
    seq: int = 0
    updated: float = 0.0

    def snapshot(self) -> Campaign:
        """Return a copy that later events do not change, for a thread that reads it."""
        nodes = {
            name: replace(
                node,
                refusals=list(node.refusals),
                jobs={seed: replace(job) for seed, job in node.jobs.items()},
                earlier=list(node.earlier),
            )
            for name, node in self.nodes.items()
        }
        rounds = [replace(one, nodes=list(one.nodes), refused=list(one.refused)) for one in self.rounds]
        return replace(
            self, nodes=nodes, rounds=rounds, asks={number: replace(ask) for number, ask in self.asks.items()},
            findings=list(self.findings), notes=list(self.notes), judged=list(self.judged), images=dict(self.images),
            alerts=list(self.alerts), periods=list(self.periods), checked=set(self.checked),
            trouble=replace(self.trouble), requests=set(self.requests),
            malformed={key: list(texts) for key, texts in self.malformed.items()},
        )  # fmt: skip

    # -- derived

    @property
    def baseline(self) -> Node | None:
        return next((node for node in self.nodes.values() if node.kind == "baseline"), None)

    @property
    def best(self) -> Node | None:
        """The node that was last judged better, or else the baseline once it is measured; never a control."""
        for name in reversed(self.judged):
            node = self.nodes[name]
            if node.verdict in ("better", "baseline") and node.holds:
                return node
        return None

    @property
    def period(self) -> int:
        """The number of the present period; from 0."""
        return len(self.periods)

    @property
    def proposed(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.kind == "proposed"]

    @property
    def undecided(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.verdict is None]

    @property
    def open_asks(self) -> list[Ask]:
        return [ask for ask in self.asks.values() if ask.outcome is None]

    @property
    def open_jobs(self) -> list[Job]:
        return [job for node in self.nodes.values() for job in node.open_jobs]

    @property
    def jobs(self) -> Iterator[Job]:
        """All jobs, with those of earlier revisions."""
        for node in self.nodes.values():
            yield from node.earlier
            yield from node.jobs.values()

    @property
    def next_ask(self) -> int:
        return len(self.asks) + 1

    @property
    def next_node(self) -> str:
        return f"n{len(self.nodes):03d}"

    @property
    def gpu_spent(self) -> Spent:
        spent = Spent()
        for job in self.jobs:
            _count(spent, job.usd, job.reserved, is_open=job.is_open)
        return spent

    @property
    def agent_spent(self) -> Spent:
        spent = Spent()
        for ask in self.asks.values():
            _count(spent, ask.usd, ask.reserved, is_open=ask.outcome is None)
        return spent


def _count(spent: Spent, usd: float | None, reserved: float | None, *, is_open: bool) -> None:
    if is_open:
        spent.reserved += reserved or 0.0
    elif usd is None:
        spent.unknown += 1
        spent.counted += reserved or 0.0
    else:
        spent.known += usd


# -- fold -------------------------------------------------------------------------------------------------------------


def fold(records: Iterable[Record], configured: Callable[[Mapping[str, Any]], Config]) -> Campaign | None:
    """Return the campaign of a journal; None for an empty one. `configured`: reads the configuration in the first
    event. Raises CampaignError."""
    campaign: Campaign | None = None
    for record in records:
        if campaign is None:
            if not isinstance(record.event, ev.CampaignStarted):
                raise CampaignError("the journal does not begin with CampaignStarted")
            campaign = Campaign(configured(record.event.config), record.at, seq=record.seq, updated=record.at)
        else:
            apply(campaign, record)
    return campaign


def apply(campaign: Campaign, record: Record) -> None:
    """Change the campaign by one event. Raises CampaignError for an event that cannot follow those before it."""
    change = _CHANGES.get(type(record.event))
    if change is None:
        raise CampaignError(f"line {record.seq}: {ev.NAME[type(record.event)]} cannot come here")
    try:
        change(campaign, record.event, record.at)
    except (KeyError, IndexError) as error:
        raise CampaignError(f"line {record.seq}: {ev.NAME[type(record.event)]} is about {error}, unknown") from None
    campaign.seq, campaign.updated = record.seq, record.at


def _loop_started(campaign: Campaign, event: ev.LoopStarted, _at: float) -> None:
    campaign.agent_digest = event.agent or campaign.agent_digest
    for ask in campaign.open_asks:
        ask.outcome, ask.text = "interrupted", "the loop ended before the agent answered"


def _ask_starting(campaign: Campaign, event: ev.AskStarting, at: float) -> None:
    best = campaign.best
    campaign.asks[event.ask] = Ask(
        event.ask, event.role, event.node, event.want, event.usd, at, None if best is None else best.id
    )
    if event.role in ("edit", "repair") and event.node is not None:
        campaign.nodes[event.node].is_edited = False


def _ask_ended(campaign: Campaign, event: ev.AskEnded, at: float) -> None:
    ask = campaign.asks[event.ask]
    ask.outcome, ask.usd, ask.seconds, ask.text = event.outcome, event.usd, event.seconds, event.text
    key = (ask.role, ask.node)
    if event.outcome == "answered":
        campaign.trouble = Trouble()
        campaign.malformed.pop(key, None)
        if ask.role in ("edit", "repair") and ask.node is not None:
            campaign.nodes[ask.node].is_edited = True
        return
    if event.outcome == "interrupted":
        return
    if event.outcome == "malformed":
        texts = campaign.malformed.setdefault(key, [])
        texts.append(event.text)
        if len(texts) <= REASKS:
            return
        del campaign.malformed[key]
    campaign.trouble = Trouble(campaign.trouble.row + 1, at, event.outcome, event.text, event.until, pause_due=True)


REASKS = 2
"""How often the agent is asked again at once after a malformed reply."""


def _round_planned(campaign: Campaign, event: ev.RoundPlanned, _at: float) -> None:
    campaign.rounds.append(Round(event.round, event.ask, event.proposals, event.stop, event.why))


def _proposal_refused(campaign: Campaign, event: ev.ProposalRefused, _at: float) -> None:
    campaign.rounds[event.round - 1].refused.append((event.title, event.reason))


def _node_created(campaign: Campaign, event: ev.NodeCreated, at: float) -> None:
    if event.node in campaign.nodes:
        raise CampaignError(f"node {event.node} is created twice")
    campaign.nodes[event.node] = Node(
        event.node, event.kind, event.round, event.title, event.settings, event.base, event.parent, event.hypothesis,
        event.family, event.edit, at, commit=event.base if event.edit is None else None,
    )  # fmt: skip
    if event.kind == "proposed":
        campaign.rounds[event.round - 1].nodes.append(event.node)


def _edit_accepted(campaign: Campaign, event: ev.EditAccepted, _at: float) -> None:
    node = campaign.nodes[event.node]
    node.commit, node.tree, node.files, node.is_edited = event.commit, event.tree, event.files, False
    node.added, node.removed, node.is_refused, node.build_fault = event.added, event.removed, False, ""
    if event.revision != node.revision:
        node.earlier += node.jobs.values()
        node.jobs, node.revision = {}, event.revision


def _edit_refused(campaign: Campaign, event: ev.EditRefused, _at: float) -> None:
    node = campaign.nodes[event.node]
    node.refusals.append(event.reason)
    node.is_edited, node.is_refused = False, True


def _code_built(campaign: Campaign, event: ev.CodeBuilt, _at: float) -> None:
    campaign.images[event.commit] = event.image


def _build_failed(campaign: Campaign, event: ev.BuildFailed, _at: float) -> None:
    campaign.nodes[event.node].build_fault = event.reason


def _jobs_submitting(campaign: Campaign, event: ev.JobsSubmitting, _at: float) -> None:
    node, period = campaign.nodes[event.node], campaign.period
    screens = (
        node.verdict is None
        and node.kind in ("proposed", "declared")
        and not any(job.period == period for job in node.jobs.values())
    )
    for seed in event.seeds:
        job = Job(node.id, seed, event.revision, SUBMITTING, event.usd, period=period, screens=screens)
        job.beside = event.beside
        node.jobs.setdefault(seed, job)


def _jobs_submitted(campaign: Campaign, event: ev.JobsSubmitted, _at: float) -> None:
    for seed in event.seeds:
        job = campaign.nodes[event.node].jobs[seed]
        if job.status == SUBMITTING:
            job.status = SUBMITTED


def _job_ended(campaign: Campaign, event: ev.JobEnded, _at: float) -> None:
    job = campaign.nodes[event.node].jobs[event.seed]
    job.status, job.metrics, job.error, job.gpu, job.host = (
        event.status, event.metrics, event.error, event.gpu, event.host,
    )  # fmt: skip
    job.seconds, job.ended, job.usd = event.seconds, event.ended, event.usd


def _gpus_seen(campaign: Campaign, event: ev.GpusSeen, _at: float) -> None:
    campaign.gpus = event.models


def _model_chosen(campaign: Campaign, event: ev.ModelChosen, at: float) -> None:
    campaign.gpu = event.gpu
    if event.begins:
        for job in campaign.open_jobs:
            job.status, job.error = LOST, event.reason
        campaign.periods.append((at, event.reason))
        campaign.alerts.append((at, event.reason))


def _drift_checked(campaign: Campaign, event: ev.DriftChecked, at: float) -> None:
    campaign.checked.add(event.seed)
    if not event.drifted:
        return
    campaign.periods.append((at, event.text))
    campaign.alerts.append((at, event.text))
    baseline = campaign.baseline
    for job in campaign.jobs:
        beside = job.seed if baseline is not None and job.node == baseline.id else job.beside
        if beside is not None and beside >= event.seed:
            job.period = campaign.period


def _node_measured_again(campaign: Campaign, event: ev.NodeMeasuredAgain, _at: float) -> None:
    node = campaign.nodes[event.node]
    node.judged_in, node.holds = campaign.period, event.holds
    node.reason = event.reason or node.reason
    if event.value is not None:
        node.value, node.sd = event.value, event.sd


def _node_judged(campaign: Campaign, event: ev.NodeJudged, at: float) -> None:
    node = campaign.nodes[event.node]
    if node.verdict is not None:
        raise CampaignError(f"node {node.id} is judged twice")
    node.verdict, node.reason, node.value, node.sd = event.verdict, event.reason, event.value, event.sd
    node.effect, node.bar, node.against, node.judged = event.effect, event.bar, event.against, at
    node.judged_in = campaign.period
    campaign.judged.append(node.id)


def _node_analysed(campaign: Campaign, event: ev.NodeAnalysed, _at: float) -> None:
    campaign.nodes[event.node].analysis = event.text or "(nothing)"
    for finding in event.findings:
        campaign.findings.append(_known(campaign, finding, event.node))


def _known(campaign: Campaign, finding: Finding, about: str) -> Known:
    nodes = tuple(name for name in finding.nodes if name in campaign.nodes) or (about,)
    return Known(f"F{len(campaign.findings) + 1:03d}", finding.text, nodes, about)


def _jobs_cancelling(campaign: Campaign, event: ev.JobsCancelling, _at: float) -> None:
    campaign.nodes[event.node].cancelling = True


def _asks_paused(campaign: Campaign, event: ev.AsksPaused, at: float) -> None:
    campaign.paused_until, campaign.paused_reason = event.until, event.reason
    campaign.trouble.pause_due = False
    if event.alert:
        campaign.alerts.append((at, event.reason))


def _steered(campaign: Campaign, event: ev.Steered, at: float) -> None:
    campaign.requests.add(event.id)
    if event.verb == "note":
        campaign.notes.append((at, event.text))
        return
    assert event.node is not None
    node = campaign.nodes[event.node]
    if event.verb == "pin":
        for other in campaign.nodes.values():
            other.pinned = False
        node.pinned = True
    elif event.verb == "boost":
        node.boosted = True
    elif node.verdict is None:
        node.killed = True


def _limits_changed(campaign: Campaign, event: ev.LimitsChanged, _at: float) -> None:
    campaign.requests.add(event.id)
    # JSON may turn 3 into 3.0, and a number of nodes has to be a whole number
    changes: dict[str, Any] = {
        name: int(value) if name in COUNTS and value is not None else value for name, value in event.changes.items()
    }
    campaign.config = replace(campaign.config, limits=replace(campaign.config.limits, **changes))
    campaign.stopped, campaign.resumed_at_round = None, len(campaign.rounds)


def _stop_requested(campaign: Campaign, event: ev.StopRequested, _at: float) -> None:
    campaign.requests.add(event.id)
    campaign.stop_requested = True


def _campaign_resumed(campaign: Campaign, _event: ev.CampaignResumed, _at: float) -> None:
    campaign.stop_requested, campaign.stopped = False, None
    campaign.resumed_at_round = len(campaign.rounds)


def _campaign_stopped(campaign: Campaign, event: ev.CampaignStopped, at: float) -> None:
    campaign.stopped, campaign.stopped_text, campaign.stopped_at = event.reason, event.text, at


_CHANGES: Mapping[type[Event], Callable[[Campaign, Any, float], None]] = {
    ev.LoopStarted: _loop_started,
    ev.AskStarting: _ask_starting,
    ev.AskEnded: _ask_ended,
    ev.RoundPlanned: _round_planned,
    ev.ProposalRefused: _proposal_refused,
    ev.NodeCreated: _node_created,
    ev.EditAccepted: _edit_accepted,
    ev.EditRefused: _edit_refused,
    ev.CodeBuilt: _code_built,
    ev.BuildFailed: _build_failed,
    ev.JobsSubmitting: _jobs_submitting,
    ev.JobsSubmitted: _jobs_submitted,
    ev.JobEnded: _job_ended,
    ev.NodeJudged: _node_judged,
    ev.NodeAnalysed: _node_analysed,
    ev.JobsCancelling: _jobs_cancelling,
    ev.GpusSeen: _gpus_seen,
    ev.ModelChosen: _model_chosen,
    ev.DriftChecked: _drift_checked,
    ev.NodeMeasuredAgain: _node_measured_again,
    ev.AsksPaused: _asks_paused,
    ev.Steered: _steered,
    ev.LimitsChanged: _limits_changed,
    ev.StopRequested: _stop_requested,
    ev.CampaignResumed: _campaign_resumed,
    ev.CampaignStopped: _campaign_stopped,
}
