"""What an agent answers, by role; the JSON Schema that it gets is made of these types. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Union

from skill.auto.config import Settings

Role = Literal["plan", "edit", "repair", "analyze", "report", "instrument"]


@dataclass(frozen=True)
class Proposal:
    """An experiment. `parent`: the node that it changes (absent: the best); `settings`: those that differ from the
    parent's; `edit`: the change of the code in words, where it needs one; `family`: of ideas, in a word or two."""

    title: str
    hypothesis: str = ""
    parent: str | None = None
    settings: Settings = field(default_factory=dict)
    edit: str | None = None
    family: str = ""


@dataclass(frozen=True)
class PlanReply:
    """Proposals; `stop`: the agent sees nothing more that is worth trying, and says `why`."""

    proposals: tuple[Proposal, ...]
    stop: bool = False
    why: str = ""


@dataclass(frozen=True)
class EditReply:
    """The edit itself is in the worktree; this says what was done."""

    summary: str


@dataclass(frozen=True)
class AnalyzeReply:
    """`text`: what the node shows; `findings`: what is known now, each with the ids of the nodes that it rests on."""

    text: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A sentence, and the nodes that it rests on."""

    text: str
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportReply:
    """Prose for the report, in Markdown."""

    text: str


@dataclass(frozen=True)
class InstrumentReply:
    """`metrics`: rules, as in a spec, by which the number can be read after the edit."""

    summary: str
    metrics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


Reply = Union[PlanReply, EditReply, AnalyzeReply, ReportReply, InstrumentReply]
OF_ROLE: Mapping[Role, type[Reply]] = {
    "plan": PlanReply,
    "edit": EditReply,
    "repair": EditReply,
    "analyze": AnalyzeReply,
    "report": ReportReply,
    "instrument": InstrumentReply,
}
