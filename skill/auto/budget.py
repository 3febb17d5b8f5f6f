"""Reserve the cost of agent calls and jobs before they start. Pure."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

from build_manifest.values import seconds
from skill.auto.campaign import Campaign

MARGIN = 1.5
"""Longest expected duration of a job without a timeout, as a multiple of the longest job so far."""


class Room(NamedTuple):
    """Money left for GPUs and for the agent, in USD; None: no limit."""

    gpu: float | None
    agent: float | None
    both: float | None

    def after(self, gpu: float, agent: float) -> Room:
        """Return what is left after reserving these amounts."""
        return Room(
            None if self.gpu is None else self.gpu - gpu,
            None if self.agent is None else self.agent - agent,
            None if self.both is None else self.both - gpu - agent,
        )

    @property
    def is_over(self) -> bool:
        return any(one is not None and one < -1e-9 for one in self)


def room(campaign: Campaign) -> Room:
    """Return what is left of the limits after what was spent and what is in flight. An unknown cost counts as the
    amount that was reserved for it."""
    limits = campaign.config.limits
    if limits.max_gpu_usd is limits.max_agent_usd is limits.max_usd is None:
        return Room(None, None, None)
    gpu, agent = campaign.gpu_spent.committed, campaign.agent_spent.committed
    return Room(
        None if limits.max_gpu_usd is None else limits.max_gpu_usd - gpu,
        None if limits.max_agent_usd is None else limits.max_agent_usd - agent,
        None if limits.max_usd is None else limits.max_usd - gpu - agent,
    )


def job_usd(campaign: Campaign) -> float | None:
    """Return the USD to reserve for one job, by its timeout, else by `job_minutes`, else by the longest job so far.
    None where its price or duration is unknown."""
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
