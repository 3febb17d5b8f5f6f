"""What asking and measuring costs, reserved before it is done. Pure."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from build_manifest.values import seconds
from skill.auto.campaign import Campaign

MARGIN = 1.5
"""Of the longest job so far: what a job without a timeout may take."""


class Room(NamedTuple):
    """What may still be spent on GPUs and on the agent; None: no bound."""

    gpu: float | None
    agent: float | None
    both: float | None

    def after(self, gpu: float, agent: float) -> Room:
        """What is left after this was reserved."""
        return Room(
            None if self.gpu is None else self.gpu - gpu,
            None if self.agent is None else self.agent - agent,
            None if self.both is None else self.both - gpu - agent,
        )

    @property
    def is_over(self) -> bool:
        return any(one is not None and one < -1e-9 for one in self)


def room(campaign: Campaign) -> Room:
    """What is left of the limits after what was spent and what is in flight. A cost that is unknown counts as what was
    reserved for it."""
    limits, gpu, agent = campaign.config.limits, campaign.gpu_spent.committed, campaign.agent_spent.committed
    return Room(
        None if limits.max_gpu_usd is None else limits.max_gpu_usd - gpu,
        None if limits.max_agent_usd is None else limits.max_agent_usd - agent,
        None if limits.max_usd is None else limits.max_usd - gpu - agent,
    )


def job_usd(campaign: Campaign) -> float | None:
    """What to reserve for one job: as long as its timeout lets it run, else as long as one is said to take, else by the
    longest so far. None where its price or its length is unknown."""
    config = campaign.config
    if config.gpu_usd_per_hour is None:
        return None
    minutes = config.job_minutes
    timeout = config.job.get("timeout")
    if timeout is not None:
        with contextlib.suppress(ValueError):
            minutes = seconds(str(timeout)) / 60
    if minutes is None:
        longest = max((job.seconds for job in campaign.jobs), default=0.0)
        minutes = longest * MARGIN / 60 if longest else None
    return None if minutes is None else config.gpu_usd_per_hour * minutes / 60
