"""Compare nodes: the statistics that tell a gain from noise. Pure.

Screening runs choose candidates and are not among the runs that confirm them, so that a lucky one does not count twice.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from skill.auto.campaign import COMPLETED, Campaign, Job, Node
from skill.auto.config import Config
from skill.reports.effect import t_quantile


class Spread(NamedTuple):
    """The pooled standard deviation of one run, and its degrees of freedom."""

    sd: float
    freedom: int


class Gain(NamedTuple):
    """How much better, in units of the objective (positive is better), and what it has to exceed to count."""

    effect: float
    bar: float
    value: float
    sd: float | None

    @property
    def counts(self) -> bool:
        return self.effect > self.bar

    @property
    def is_loss(self) -> bool:
        return self.effect < -self.bar


def number(job: Job, metric: str) -> float | None:
    """The metric of a job: only of one that completed, and finite."""
    found = job.metrics.get(metric) if job.status == COMPLETED else None
    return found if found is not None and math.isfinite(found) else None


def values(
    node: Node, config: Config, period: int, gpu: str | None = None, without: Collection[int] = ()
) -> list[float]:
    """The objective of a node's confirming runs of a period, on one GPU model; None: on that of most of them.
    `without`: seeds that are left out."""
    model_ = model(node, period) if gpu is None else gpu
    jobs = (job for job in confirming(node, period) if job.gpu == model_ and job.seed not in without)
    found = (number(job, config.objective.metric) for job in jobs)
    return [value for value in found if value is not None]


def confirming(node: Node, period: int) -> list[Job]:
    """A node's runs of a period but for those by which it was screened; the baseline and controls have no screening."""
    return [job for job in node.jobs.values() if job.period == period and not job.screens]


def model(node: Node, period: int | None = None) -> str:
    """The GPU model on which most of a node's confirming runs of a period were; empty without a GPU. None: of the
    period that its numbers are of."""
    jobs = [job.gpu for job in confirming(node, node.period if period is None else period)]
    return max(sorted(set(jobs)), key=jobs.count, default="")


def pooled(campaign: Campaign, gpu: str, without: Collection[int] = ()) -> Spread | None:
    """The noise of one run on a GPU model, pooled over all nodes with two or more confirming runs there in a period;
    None where no node has. `without`: seeds of the baseline that are left out."""
    squares, freedom = 0.0, 0
    for node in campaign.nodes.values():
        for period in {job.period for job in node.jobs.values()}:
            found = values(node, campaign.config, period, gpu, without if node.kind == "baseline" else ())
            if len(found) >= 2:
                mean = statistics.fmean(found)  # statistics.variance is exact, and many times as slow
                squares += math.fsum((value - mean) * (value - mean) for value in found)
                freedom += len(found) - 1
    return Spread(math.sqrt(squares / freedom), freedom) if freedom else None


def gain(campaign: Campaign, mine: Sequence[float], best: Sequence[float], gpu: str) -> Gain | None:
    """Compare a node's values with those of another, all on one GPU model; None where nothing is known of the noise."""
    spread = pooled(campaign, gpu)
    if not mine or not best or spread is None:
        return None
    objective = campaign.config.objective
    sign = 1.0 if objective.goal == "max" else -1.0
    value = statistics.fmean(mine)
    effect = sign * (value - statistics.fmean(best))
    error = spread.sd * math.sqrt(1 / len(mine) + 1 / len(best))
    bar = max(objective.min_delta, quantile(campaign.config.noise.z, spread.freedom) * error)
    return Gain(effect, bar, value, statistics.stdev(mine) if len(mine) > 1 else None)


@functools.lru_cache(maxsize=4096)
def quantile(z: float, freedom: int) -> float:
    """The number of standard errors that Student's t exceeds as seldom as a normal variable exceeds `z`."""
    p = false_keeps(z)
    return t_quantile(1.0 - p, freedom) if 0.0 < p < 0.5 else max(z, 0.0)


def false_keeps(z: float) -> float:
    """The declared level: how often, at most, a change that does nothing is kept once it is confirmed."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def broken_guard(jobs: Sequence[Job], config: Config) -> str | None:
    """Which guard the mean of a node's runs breaks, in words; None if none is, as far as it was measured."""
    for guard in config.guards:
        found = [value for job in jobs if (value := number(job, guard.metric)) is not None]
        if not found:
            if any(job.status == COMPLETED for job in jobs):
                return f"{guard.metric} was not measured"
            continue
        mean = statistics.fmean(found)
        if guard.max is not None and mean > guard.max:
            return f"{guard.metric} is {mean:.6g}, above {guard.max:.6g}"
        if guard.min is not None and mean < guard.min:
            return f"{guard.metric} is {mean:.6g}, below {guard.min:.6g}"
    return None


def fault(jobs: Iterable[Job], metric: str) -> str | None:
    """Why one of these ended jobs gives no number, in words."""
    for job in jobs:
        if job.status != COMPLETED:
            return f"{job.id}: {job.status}{f': {job.error}' if job.error else ''}"
        if number(job, metric) is None:
            return f"{job.id} completed without a finite {metric}{f': {job.error}' if job.error else ''}"
    return None
