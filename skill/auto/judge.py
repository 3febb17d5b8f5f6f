"""Judge a node once its jobs have ended. Pure."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from skill.auto import comparable, noise
from skill.auto.campaign import Campaign, Job, Node
from skill.auto.events import NodeJudged, Verdict
from skill.auto.noise import Gain
from skill.auto.proposals import same_code

MOST_REFUSALS = 2
"""Refusals of an edit after which the node is given up."""
LEAST_BASELINE = 3
"""Values that are needed to estimate the noise."""


class Next(NamedTuple):
    """What a node needs before it can be judged: runs with these seeds, a build of its code before, or a repair."""

    seeds: tuple[int, ...] = ()
    repair: str | None = None
    build: bool = False


def judge(campaign: Campaign, node: Node) -> NodeJudged | Next | None:
    """Return the verdict on a node, or what it needs; None while something of it is in flight."""
    if node.killed:
        return None if node.open_jobs else NodeJudged(node.id, "killed", "a person ended it")
    if node.commit is None:
        if len(node.refusals) >= MOST_REFUSALS:
            return NodeJudged(node.id, "refused", node.refusals[-1])
        return None
    if not node.jobs:
        twin = same_code(campaign, node)
        if twin is not None:
            return NodeJudged(node.id, "duplicate", f"its edit came to the same code and settings as {twin.id}")
        if node.build_fault:
            return _failed(campaign, node, node.build_fault)
        is_built = campaign.config.launch.build is None or node.commit in campaign.images
        return Next(_first_seeds(campaign, node)) if is_built else Next(build=True)
    jobs = [job for job in node.jobs.values() if job.period == campaign.period]
    if not jobs:
        return Next(_first_seeds(campaign, node))
    if any(job.is_open for job in jobs) or not comparable.is_checked(campaign, node):
        return None
    if node.kind == "baseline":
        return _baseline(campaign, node, jobs)
    why = noise.fault(jobs, campaign.config.objective.metric)
    if why is not None:
        return _failed(campaign, node, why)
    broken = noise.broken_guard(jobs, campaign.config)
    if broken is not None and node.kind != "control":
        return NodeJudged(node.id, "guard", broken, *_own(campaign, node))
    if node.kind == "control":
        return NodeJudged(node.id, "control", "", *_own(campaign, node))
    return _compared(campaign, node, jobs)


def _first_seeds(campaign: Campaign, node: Node) -> tuple[int, ...]:
    noise_ = campaign.config.noise
    return node.fresh_seeds({"baseline": noise_.baseline, "control": noise_.confirm}.get(node.kind, 1))


def _own(campaign: Campaign, node: Node) -> tuple[float | None, float | None]:
    """Return mean and spread of a node's confirming runs, or the value of its screening run where it has no others."""
    config, period = campaign.config, campaign.period
    found = noise.values(node, config, period)
    if not found:
        screened = [job for job in node.jobs.values() if job.period == period and job.screens]
        return (noise.number(screened[0], config.objective.metric) if screened else None), None
    return statistics.fmean(found), (statistics.stdev(found) if len(found) > 1 else None)


def _baseline(campaign: Campaign, node: Node, jobs: list[Job]) -> NodeJudged:
    config = campaign.config
    found = noise.values(node, config, campaign.period)
    if len(found) < min(LEAST_BASELINE, config.noise.baseline):
        why = noise.fault(jobs, config.objective.metric) or "its runs were on different GPU models"
        return NodeJudged(node.id, "failed", f"the baseline needs {LEAST_BASELINE} numbers and has {len(found)}: {why}")
    return NodeJudged(node.id, "baseline", noise.broken_guard(jobs, config) or "", *_own(campaign, node))


def _failed(campaign: Campaign, node: Node, why: str) -> NodeJudged | Next:
    """Fail a node, or have its code repaired where its own edit broke it."""
    may_be = node.edit is not None and node.revision < campaign.config.agent.repairs
    if may_be and len(node.refusals) < MOST_REFUSALS:
        return Next(repair=why)
    return NodeJudged(node.id, "failed", why)


def _compared(campaign: Campaign, node: Node, jobs: list[Job]) -> NodeJudged | Next | None:
    """Compare a screened or confirmed node with the best, by the runs of this period."""
    best, config, period = campaign.best, campaign.config, campaign.period
    if best is None or not comparable.is_ready(campaign):
        return None
    confirming = [job for job in jobs if not job.screens]
    if confirming:
        gpu = noise.model(node, period)
        mine = noise.values(node, config, period, gpu)
    else:
        gpu = jobs[0].gpu
        value = noise.number(jobs[0], config.objective.metric)
        mine = [] if value is None else [value]
    found = noise.gain(campaign, mine, noise.values(best, config, period, gpu), gpu)
    if found is None:
        return _judged(node, "incomparable", f"{best.id} has no runs on {gpu or 'a machine without a GPU'}", best.id)
    if confirming:
        verdict: Verdict = "better" if found.counts else "worse" if found.is_loss else "within_noise"
        return _judged(node, verdict, "", best.id, found)
    if found.effect > 0:
        return Next(node.fresh_seeds(config.noise.confirm))
    verdict = "worse" if found.is_loss else "within_noise"
    return _judged(node, verdict, "by its screening run", best.id, found)


def _judged(node: Node, verdict: Verdict, reason: str, against: str, found: Gain | None = None) -> NodeJudged:
    if found is None:
        return NodeJudged(node.id, verdict, reason, against=against)
    return NodeJudged(node.id, verdict, reason, found.value, found.sd, found.effect, found.bar, against)
