"""A campaign without a world: the policy's actions are carried out at once, against a clock that jumps."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skill.auto import events as ev
from skill.auto import policy
from skill.auto.campaign import LOST, Campaign, Node, Record, apply
from skill.auto.config import AgentSpec, Config, Launch, Limits, Noise, Objective
from skill.auto.policy import Ask, Build, Cancel, Gate, Note, Pause, Stop, Submit
from skill.auto.replies import Proposal

Propose = Callable[[Campaign, int], list[Proposal]]
Measure = Callable[[Node, int], float]


def config(**changes: Any) -> Config:
    given: dict[str, Any] = {
        "name": "demo",
        "repo": "/repo",
        "anchor": "a" * 40,
        "objective": Objective("score", "max"),
        "metrics": {"score": {"log": "score=(.*)"}},
        "launch": Launch("train --x ${x} --seed ${seed}", {"x": 0}),
        "agent": AgentSpec(("agent",), parallel=1, analyze=False),
        "limits": Limits(max_nodes=10),
    }
    return Config(**{**given, **changes})


def numbered(campaign: Campaign, want: int) -> list[Proposal]:
    """Proposals that were never there before."""
    first = sum(len(one.proposals) for one in campaign.rounds) + 1
    return [Proposal(f"x = {number}", settings={"x": number}) for number in range(first, first + want)]


@dataclass
class Simulation:
    """`propose` answers a plan; `measure` gives the objective of one job, or raises ValueError where the job fails.
    `troubles`: outcomes of the first calls of the agent that fail. A job takes `job_s`, a call `ask_s` seconds."""

    config: Config
    measure: Measure
    propose: Propose = numbered
    job_s: float = 60.0
    ask_s: float = 10.0
    ask_usd: float | None = None
    gpu: Callable[[Node, int], str] = lambda _node, _seed: ""
    troubles: list[str] = field(default_factory=list)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.campaign = Campaign(self.config, self.now)
        self.log: list[ev.Event] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def run(self, most: int = 5000) -> Campaign:
        """Until the campaign stops."""
        for _ in range(most):
            if self.campaign.stopped is not None:
                return self.campaign
            self.step()
        raise AssertionError(f"it does not stop: {self.log[-5:]}")

    def step(self) -> None:
        """Carry out what is due; where nothing is, go on to the next thing that happens."""
        actions = policy.next_actions(self.campaign, self.now)
        for action in actions:
            self._perform(action)
        if actions or self.campaign.stopped is not None:
            return
        at = policy.wakes_at(self.campaign, self.now)
        if self._due and (at is None or self._due[0][0] <= at):
            self.now, _, happens = self._due.pop(0)
            happens()
        else:
            assert at is not None, f"it waits for nothing: {self.log[-5:]}"
            self.now = at

    def record(self, *events: ev.Event) -> None:
        for event in events:
            self.log.append(event)
            apply(self.campaign, Record(self.campaign.seq + 1, self.now, event))

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.log if isinstance(event, kind)]

    def _later(self, after: float, happens: Callable[[], None]) -> None:
        self._due.append((self.now + after, len(self.log), happens))
        self._due.sort(key=lambda one: one[:2])

    def _perform(self, action: policy.Action) -> None:
        if isinstance(action, Note):
            self.record(action.event)
        elif isinstance(action, Pause):
            self.record(ev.AsksPaused(action.until, action.reason, action.alert))
        elif isinstance(action, Stop):
            self.record(ev.CampaignStopped(action.reason, action.text))
        elif isinstance(action, Cancel):
            self.record(ev.JobsCancelling(action.node))
        elif isinstance(action, Gate):
            node = self.campaign.nodes[action.node]
            revision = node.revision + (node.commit is not None)
            name = f"{node.id}-{revision}"
            self.record(ev.EditAccepted(node.id, f"commit-{name}", f"tree-{name}", revision=revision))
        elif isinstance(action, Build):
            self._build(action)
        elif isinstance(action, Submit):
            self._submit(action)
        else:
            self._ask(action)

    def _build(self, action: Build) -> None:
        if action.commit.startswith("broken"):
            self.record(ev.BuildFailed(action.node, "the build failed"))
        else:
            self.record(ev.CodeBuilt(action.commit, f"image of {action.commit}"))

    def _submit(self, action: Submit) -> None:
        node = self.campaign.nodes[action.node]
        assert all(seed not in node.jobs for seed in action.seeds), f"a run is submitted twice: {action}"
        self.record(
            ev.JobsSubmitting(node.id, action.seeds, node.revision, action.usd, action.beside),
            ev.JobsSubmitted(node.id, action.seeds, node.revision),
        )
        for seed in action.seeds:
            self._later(self.job_s, partial(self._end, node, seed))

    def _end(self, node: Node, seed: int) -> None:
        if node.jobs[seed].status == LOST:
            return
        price = self.config.gpu_usd_per_hour
        usd = None if price is None else price * self.job_s / 3600
        rest: dict[str, Any] = {"gpu": self.gpu(node, seed), "seconds": self.job_s, "ended": self.now, "usd": usd}
        if node.cancelling:
            self.record(ev.JobEnded(node.id, seed, "cancelled", **rest))
            return
        try:
            found = self.measure(node, seed)
        except ValueError as error:
            self.record(ev.JobEnded(node.id, seed, "stuck", error=str(error), **rest))
        else:
            self.record(ev.JobEnded(node.id, seed, "completed", {"score": found}, **rest))

    def _ask(self, action: Ask) -> None:
        number = self.campaign.next_ask
        self.record(ev.AskStarting(number, action.role, action.node, action.want, action.usd))
        self._later(self.ask_s, lambda: self._answer(number, action))

    def _answer(self, number: int, action: Ask) -> None:
        if self.troubles:
            kind: Any = self.troubles.pop(0)
            self.record(ev.AskEnded(number, kind, self.ask_usd, self.ask_s, f"{kind} it was"))
            return
        end = ev.AskEnded(number, "answered", self.ask_usd, self.ask_s)
        if action.role == "plan":
            proposals = tuple(self.propose(self.campaign, action.want))
            self.record(ev.RoundPlanned(len(self.campaign.rounds) + 1, number, proposals), end)
        elif action.role == "analyze":
            assert action.node is not None
            self.record(ev.NodeAnalysed(action.node, "seen"), end)
        else:
            self.record(end)


def gauss(seed: int, sd: float = 1.0, effects: dict[str, float] | None = None) -> Measure:
    """Normal noise of a generator of its own; nodes in `effects` are so much better."""
    numbers = random.Random(seed)
    return lambda node, _seed: numbers.gauss((effects or {}).get(node.id, 0.0), sd)


__all__ = ["Limits", "Noise", "Simulation", "config", "gauss", "numbered"]
