"""A small campaign's parts for tests: a scripted agent, and a campaign that has only begun."""

from __future__ import annotations

import sys
from pathlib import Path

from skill.auto.campaign import Campaign
from skill.auto.config import AgentSpec, Config, Launch, Objective

SCRIPT = Path(__file__).parent / "scripted_agent.py"


def scripted(*options: str, timeout: float = 60.0, envelope: str = "raw", env: tuple[str, ...] = ()) -> AgentSpec:
    """The scripted agent, with these options."""
    given = ("--envelope", envelope) if envelope != "raw" else ()
    command = (sys.executable, "-S", "-E", str(SCRIPT), *given, *options)
    return AgentSpec(command, envelope, timeout, env)  # type: ignore[arg-type]


def begun(agent: AgentSpec, repo: Path = Path("/nowhere")) -> Campaign:
    """A campaign of which nothing is known yet."""
    metrics = {"loss": {"log": r"loss=(\S+)"}}
    launch = Launch("python train.py --lr ${lr}", {"lr": 0.1})
    return Campaign(Config("moons", str(repo), "HEAD", Objective("loss", "min"), metrics, launch, agent), 0.0)
