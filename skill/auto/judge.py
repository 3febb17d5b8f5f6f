"""What a node came to, once its jobs have ended. Pure."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from skill.auto import noise
from skill.auto.campaign import Campaign, Job, Node
from skill.auto.events import NodeJudged, Verdict
from skill.auto.noise import SCREEN, Gain
from skill.auto.proposals import same_code

MOST_REFUSALS = 2
"""An edit that was refused so often is not asked for again."""
LEAST_BASELINE = 3
"""Numbers without which nothing is known of the noise."""


class Next(NamedTuple):
    """What a node needs before it can be judged: runs with these seeds, a build of its code before, or a repair."""

    seeds: tuple[int, ...] = ()
    repair: str | None = None
    build: bool = False


def judge(campaign: Campaign, node: Node) -> NodeJudged | Next | None:
    """The verdict on a node, or what it needs; None while something of it is in flight."""
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
    if any(job.is_open for job in node.jobs.values()):
        return None
    jobs = list(node.jobs.values())
    if node.kind == "baseline":
        return _baseline(campaign, node, jobs)
    why = noise.fault(jobs, campaign.config.objective.metric)
    if why is not None:
        return _failed(campaign, node, why)
    broken = noise.broken_guard(node, campaign.config)
    if broken is not None and node.kind != "control":
        return NodeJudged(node.id, "guard", broken, *_own(campaign, node))
    if node.kind == "control":
        return NodeJudged(node.id, "control", "", *_own(campaign, node))
    return _compared(campaign, node)


def _first_seeds(campaign: Campaign, node: Node) -> tuple[int, ...]:
    if node.kind in ("baseline", "control"):
        return noise.seeds_of(node, campaign.config)
    return (SCREEN,)


def _own(campaign: Campaign, node: Node) -> tuple[float | None, float | None]:
    """Mean and spread of a node's own runs, the screening run only where there is nothing else."""
    config = campaign.config
    found = noise.values(node, config, noise.model(node, config))
    if not found and SCREEN in node.jobs:
        value = noise.number(node.jobs[SCREEN], config.objective.metric)
        return value, None
    return (statistics.fmean(found) if found else None), (statistics.stdev(found) if len(found) > 1 else None)


def _baseline(campaign: Campaign, node: Node, jobs: list[Job]) -> NodeJudged:
    config = campaign.config
    found = noise.values(node, config, noise.model(node, config))
    if len(found) < min(LEAST_BASELINE, config.noise.baseline):
        why = noise.fault(jobs, config.objective.metric) or "its runs were on different GPU models"
        return NodeJudged(node.id, "failed", f"the baseline needs {LEAST_BASELINE} numbers and has {len(found)}: {why}")
    return NodeJudged(node.id, "baseline", noise.broken_guard(node, config) or "", *_own(campaign, node))


def _failed(campaign: Campaign, node: Node, why: str) -> NodeJudged | Next:
    """A node whose own edit broke it may be repaired."""
    may_be = node.edit is not None and node.revision < campaign.config.agent.repairs
    if may_be and len(node.refusals) < MOST_REFUSALS:
        return Next(repair=why)
    return NodeJudged(node.id, "failed", why)


def _compared(campaign: Campaign, node: Node) -> NodeJudged | Next | None:
    """Compare a screened or confirmed node with the best."""
    best, config = campaign.best, campaign.config
    if best is None:
        return None
    confirming = [seed for seed in noise.seeds_of(node, config) if seed in node.jobs]
    if confirming:
        gpu = noise.model(node, config)
        mine = noise.values(node, config, gpu)
    else:
        gpu = node.jobs[SCREEN].gpu
        value = noise.number(node.jobs[SCREEN], config.objective.metric)
        mine = [] if value is None else [value]
    found = noise.gain(campaign, mine, noise.values(best, config, gpu), gpu)
    if found is None:
        return _judged(node, "incomparable", f"{best.id} has no runs on {gpu or 'a machine without a GPU'}", best.id)
    if confirming:
        verdict: Verdict = "better" if found.counts else "worse" if found.is_loss else "within_noise"
        return _judged(node, verdict, "", best.id, found)
    if found.effect > 0:
        return Next(noise.seeds_of(node, config))
    verdict = "worse" if found.is_loss else "within_noise"
    return _judged(node, verdict, "by its screening run", best.id, found)


def _judged(node: Node, verdict: Verdict, reason: str, against: str, found: Gain | None = None) -> NodeJudged:
    if found is None:
        return NodeJudged(node.id, verdict, reason, against=against)
    return NodeJudged(node.id, verdict, reason, found.value, found.sd, found.effect, found.bar, against)
