"""The events of a campaign's journal, and their names on the wire. Pure.

An event says what happened; `...Starting` and `...Submitting` are intents, written before the action. A new field has a
default, and a field that must not be ignored needs a new event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from skill.auto.config import Settings
from skill.auto.replies import Finding, Proposal, Role

FORMAT = "wavequeue-campaign"
VERSION = 1
Kind = Literal["baseline", "control", "declared", "proposed"]
Verdict = Literal[
    "baseline", "control", "better", "within_noise", "worse", "guard", "failed", "refused", "duplicate", "killed",
    "incomparable",
]  # fmt: skip


@dataclass(frozen=True)
class CampaignStarted:
    """The first event. `config`: all of config.json as it was then."""

    config: Mapping[str, Any]
    format: str = FORMAT
    version: int = VERSION


@dataclass(frozen=True)
class LoopStarted:
    """A loop started to work on the campaign. Calls of the agent that an earlier loop left in flight are lost, and
    are made again. `agent`: the digest of its command and of the files that this names."""

    pid: int = 0
    agent: str = ""


@dataclass(frozen=True)
class AskStarting:
    """The intent to call the agent. `usd`: reserved for it; None: unknown."""

    ask: int
    role: Role
    node: str | None = None
    want: int = 0
    usd: float | None = None


@dataclass(frozen=True)
class AskEnded:
    """How a call ended. `outcome`: answered, or as in ports.Trouble; `usd`: None where the cost is unknown."""

    ask: int
    outcome: Literal["answered", "malformed", "usage_limit", "timeout", "failed", "interrupted"]
    usd: float | None = None
    seconds: float = 0.0
    text: str = ""
    until: float | None = None


@dataclass(frozen=True)
class RoundPlanned:
    """The answer to a plan, in full."""

    round: int
    ask: int
    proposals: tuple[Proposal, ...]
    stop: bool = False
    why: str = ""


@dataclass(frozen=True)
class ProposalRefused:
    """A proposal did not become a node, for this reason."""

    round: int
    title: str
    reason: str


@dataclass(frozen=True)
class NodeCreated:
    """`settings`: all of them; `edit`: what has to be edited first, None where only settings change; `base`: the
    commit that it starts from."""

    node: str
    kind: Kind
    round: int
    title: str
    settings: Settings
    base: str
    parent: str | None = None
    hypothesis: str = ""
    family: str = ""
    edit: str | None = None


@dataclass(frozen=True)
class EditAccepted:
    """The node's code passed the gate; `revision` counts repairs."""

    node: str
    commit: str
    tree: str
    files: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0
    revision: int = 0


@dataclass(frozen=True)
class EditRefused:
    """The node's edit did not pass the gate."""

    node: str
    reason: str


@dataclass(frozen=True)
class CodeBuilt:
    """The build of a commit has ended well; `image`: the last line that it printed."""

    commit: str
    image: str


@dataclass(frozen=True)
class BuildFailed:
    """The code of a node cannot be built."""

    node: str
    reason: str


@dataclass(frozen=True)
class JobsSubmitting:
    """The intent to submit jobs of a node, by seed. `usd`: reserved for each; None: unknown. `beside`: the seed of the
    baseline's run that is measured at the same time, see Config.time_budget."""

    node: str
    seeds: tuple[int, ...]
    revision: int = 0
    usd: float | None = None
    beside: int | None = None


@dataclass(frozen=True)
class JobsSubmitted:
    """The queue has them."""

    node: str
    seeds: tuple[int, ...]
    revision: int = 0


@dataclass(frozen=True)
class JobEnded:
    """A job ended, as the queue reports it. `metrics`: finite numbers of a completed job; `ended`: epoch seconds."""

    node: str
    seed: int
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str = ""
    gpu: str = ""
    host: str = ""
    seconds: float = 0.0
    ended: float = 0.0
    usd: float | None = None
    revision: int = 0


@dataclass(frozen=True)
class GpusSeen:
    """How many jobs can run at a time on GPUs of each model. `why`: why the machines were asked again."""

    models: Mapping[str, int]
    why: str = ""


@dataclass(frozen=True)
class ModelChosen:
    """Jobs run on this GPU model from here on. `begins`: a new period begins; earlier runs are not compared any
    more."""

    gpu: str
    reason: str
    begins: bool = False


@dataclass(frozen=True)
class DriftChecked:
    """A run of the baseline beside others was compared with those before. `drifted`: it differs beyond noise, and a
    period begins with it and with what was measured since."""

    seed: int
    drifted: bool
    text: str = ""


@dataclass(frozen=True)
class NodeMeasuredAgain:
    """The baseline or the best node has been measured in a new period. `holds`: it is still what it was taken for."""

    node: str
    value: float | None = None
    sd: float | None = None
    holds: bool = True
    reason: str = ""


@dataclass(frozen=True)
class NodeJudged:
    """The verdict on a node. `value`: the mean of the objective over the confirming runs (or the screening run);
    `sd`: their spread; `effect`: the gain over the best before (`against`), positive is better; `bar`: what the gain
    had to exceed."""

    node: str
    verdict: Verdict
    reason: str = ""
    value: float | None = None
    sd: float | None = None
    effect: float | None = None
    bar: float | None = None
    against: str | None = None


@dataclass(frozen=True)
class NodeAnalysed:
    """The agent's analysis of a judged node."""

    node: str
    text: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class JobsCancelling:
    """The intent to cancel the open jobs of a node."""

    node: str


@dataclass(frozen=True)
class AsksPaused:
    """The agent is not called until then. `alert`: a person should look at it."""

    until: float
    reason: str
    alert: bool = False


@dataclass(frozen=True)
class Steered:
    """A request of a person, which counts once. `verb`: note, pin, kill, boost."""

    id: str
    verb: Literal["note", "pin", "kill", "boost"]
    node: str | None = None
    text: str = ""


@dataclass(frozen=True)
class LimitsChanged:
    """A person extended the limits; `changes`: new values by name, see config.Limits."""

    id: str
    changes: Mapping[str, float | None]


@dataclass(frozen=True)
class StopRequested:
    """A person asked to stop the campaign."""

    id: str


@dataclass(frozen=True)
class CampaignResumed:
    """A person continued a campaign that was stopped by request."""


@dataclass(frozen=True)
class CampaignStopped:
    """Nothing is in flight, and nothing more is asked or submitted. `reason`: see stops.REASONS."""

    reason: str
    text: str


Event = Union[
    CampaignStarted, LoopStarted, AskStarting, AskEnded, RoundPlanned, ProposalRefused, NodeCreated, EditAccepted,
    EditRefused, CodeBuilt, BuildFailed, JobsSubmitting, JobsSubmitted, JobEnded, NodeJudged, NodeAnalysed,
    JobsCancelling, GpusSeen, ModelChosen, DriftChecked, NodeMeasuredAgain, AsksPaused, Steered, LimitsChanged,
    StopRequested, CampaignResumed, CampaignStopped,
]  # fmt: skip
WIRE: Mapping[str, type[Event]] = {
    "CampaignStarted": CampaignStarted,
    "LoopStarted": LoopStarted,
    "AskStarting": AskStarting,
    "AskEnded": AskEnded,
    "RoundPlanned": RoundPlanned,
    "ProposalRefused": ProposalRefused,
    "NodeCreated": NodeCreated,
    "EditAccepted": EditAccepted,
    "EditRefused": EditRefused,
    "CodeBuilt": CodeBuilt,
    "BuildFailed": BuildFailed,
    "JobsSubmitting": JobsSubmitting,
    "JobsSubmitted": JobsSubmitted,
    "JobEnded": JobEnded,
    "NodeJudged": NodeJudged,
    "NodeAnalysed": NodeAnalysed,
    "JobsCancelling": JobsCancelling,
    "GpusSeen": GpusSeen,
    "ModelChosen": ModelChosen,
    "DriftChecked": DriftChecked,
    "NodeMeasuredAgain": NodeMeasuredAgain,
    "AsksPaused": AsksPaused,
    "Steered": Steered,
    "LimitsChanged": LimitsChanged,
    "StopRequested": StopRequested,
    "CampaignResumed": CampaignResumed,
    "CampaignStopped": CampaignStopped,
}
"""The name of each event in a journal, whatever its class is called."""
NAME: Mapping[type[Event], str] = {kind: name for name, kind in WIRE.items()}
