"""The configuration of a campaign, as config.json has it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

Value = Union[bool, int, float, str]
"""A setting: replaces ${NAME} in the launch command."""
Settings = Mapping[str, Value]


@dataclass(frozen=True)
class Objective:
    """The metric to improve. `min_delta`: smaller gains do not count, whatever the noise."""

    metric: str
    goal: Literal["min", "max"]
    min_delta: float = 0.0


@dataclass(frozen=True)
class Guard:
    """A bound on a metric. A node that breaks it cannot become the best."""

    metric: str
    max: float | None = None
    min: float | None = None


@dataclass(frozen=True)
class Noise:
    """How runs are compared. `baseline`: seeds of the baseline; `confirm`: seeds by which a candidate is confirmed;
    `z`: standard errors that a gain must exceed, widened by Student's t where few runs tell the noise."""

    baseline: int = 5
    confirm: int = 4
    z: float = 2.0


@dataclass(frozen=True)
class Limits:
    """When the campaign ends; None: no limit.

    `max_nodes`: proposed nodes; `patience`: proposed nodes in a row without an improvement; `target`: of the objective;
    `deadline`: epoch seconds; `max_usd`: GPUs and agent together; `no_novel`: rounds in a row whose proposals were all
    known or refused.
    """

    max_nodes: int | None = None
    max_rounds: int | None = None
    patience: int | None = None
    target: float | None = None
    deadline: float | None = None
    max_usd: float | None = None
    max_gpu_usd: float | None = None
    max_agent_usd: float | None = None
    no_novel: int | None = 3


COUNTS = frozenset({"max_nodes", "max_rounds", "patience", "no_novel"})
"""Limits that are whole numbers."""


@dataclass(frozen=True)
class AgentSpec:
    """How the agent is called. `timeout`: seconds of one call; `env`: names of variables that it gets beside the usual
    ones; `usd_per_call`: reserved for a call, and counted for one whose cost is unknown; None: unknown. `parallel`:
    calls at a time; `analyze`: finished nodes are analysed; `repairs`: how often the code of a node whose job failed is
    repaired; `backoff`: seconds of the first pause after the agent failed, doubled for each further one."""

    cmd: tuple[str, ...]
    envelope: Literal["claude", "codex", "raw"] = "raw"
    timeout: float = 1800.0
    env: tuple[str, ...] = ()
    usd_per_call: float | None = None
    parallel: int = 2
    analyze: bool = True
    repairs: int = 1
    backoff: float = 30.0


@dataclass(frozen=True)
class Launch:
    """How a node is run. `command` has ${NAME} for each setting, and may have ${seed} (also WQ_SEED in its
    environment); `settings`: those of the baseline; `build`: a command that is run once for each content of the code,
    $IMAGE is the last line it printed; `check`: a command that has to succeed before anything is submitted."""

    command: str
    settings: Settings = field(default_factory=dict)
    build: str | None = None
    check: str | None = None


@dataclass(frozen=True)
class Scope:
    """What the agent may edit: globs relative to the repository. `protected` wins; `max_lines`: changed lines."""

    editable: tuple[str, ...] = ()
    protected: tuple[str, ...] = ()
    max_lines: int = 400


@dataclass(frozen=True)
class Declared:
    """A node that a person declared: a known good idea, or a control.

    A control shows what is reachable and is never the best.
    """

    title: str
    settings: Settings = field(default_factory=dict)
    edit: str | None = None
    control: bool = False


@dataclass(frozen=True)
class Config:
    """All of config.json.

    `name`: of the campaign, in branches and runs; `repo`: the user's repository (absolute); `anchor`: the commit that
    the baseline runs; `subdir`: where in the repository jobs run. `metrics`: rules as in a spec. `run`: keys of the top
    of a spec (hosts, conda, env, gpus, max_parallel, ...); `job`: keys of a job (gpus, timeout, retries, ...).
    `gpu_usd_per_hour`: of one job; None: unknown. `job_minutes`: how long a job takes, for what is reserved.
    `per_round`: nodes that are measured at a time; `strict`: a round ends before the next is planned. `time_budget`: a
    run trains for a fixed time, so that its result depends on what else its machine does; the baseline is run beside
    others. `lost_after`: seconds for which no host with the GPU model of the jobs was reached, until others take over.
    """

    name: str
    repo: str
    anchor: str
    objective: Objective
    metrics: Mapping[str, Mapping[str, Any]]
    launch: Launch
    agent: AgentSpec
    subdir: str = "."
    guards: tuple[Guard, ...] = ()
    noise: Noise = Noise()
    limits: Limits = Limits()
    scope: Scope = Scope()
    declared: tuple[Declared, ...] = ()
    run: Mapping[str, Any] = field(default_factory=dict)
    job: Mapping[str, Any] = field(default_factory=dict)
    gpu_usd_per_hour: float | None = None
    job_minutes: float | None = None
    per_round: int = 3
    strict: bool = False
    time_budget: bool = False
    lost_after: float = 1800.0
    layout: Literal["karpathy"] | None = None
    brief: str = ""
