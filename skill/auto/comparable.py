"""Decide which runs are compared: those of one period, on one GPU model. Pure.

All jobs run on one model. Where the machines no longer have it, another one is chosen; where the baseline, which is run
beside experiments with a time budget, has drifted, something about the machines has changed. Both begin a period: the
baseline and the best node are measured again in it, and nodes are compared with those runs only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from queue_manager.core import gpu_models
from skill.auto import noise
from skill.auto.campaign import SUBMITTING, Campaign, Node
from skill.auto.config import Config
from skill.auto.events import DriftChecked, ModelChosen, NodeMeasuredAgain

DRIFT_Z = 3.0
"""Standard errors by which a run of the baseline must differ from earlier ones to count as drift; more for few runs."""


def needs_gpus(config: Config) -> int:
    """Return the number of GPUs that a job needs."""
    count = config.job.get("gpus", 1)
    return count if isinstance(count, int) else 1


def model_due(campaign: Campaign) -> ModelChosen | None:
    """Choose the GPU model of the jobs, at the start and where the present one is gone; None where it stays."""
    seen = campaign.gpus or {}
    asked: Any = campaign.config.job.get("gpu_model", ())
    wanted = [asked] if isinstance(asked, str) else [str(one) for one in asked]
    seen = {name: count for name, count in seen.items() if gpu_models.fits(wanted, name)}
    if not seen or campaign.gpu in seen:
        return None
    before = campaign.gpu or _model_of_baseline(campaign)
    if before in seen:
        return ModelChosen(before, "the baseline was measured on it")
    chosen = max(seen, key=lambda name: (seen[name], name))
    if before:
        return ModelChosen(chosen, f"{before} is no longer available, and {chosen} is", begins=True)
    return ModelChosen(chosen, _choice(chosen, seen))


def _model_of_baseline(campaign: Campaign) -> str:
    """Return the model of a baseline that ran before a model was chosen; empty where there is none."""
    baseline = campaign.baseline
    return "" if baseline is None else noise.model(baseline)


def _choice(chosen: str, seen: Mapping[str, int]) -> str:
    others = ", ".join(f"{count} on {name}" for name, count in seen.items() if name != chosen)
    return f"{seen[chosen]} at a time" + (f" (and {others}, which are not used)" if others else "")


# -- measured again ---------------------------------------------------------------------------------------------------


def due_again(campaign: Campaign) -> Iterator[tuple[Node, tuple[int, ...]]]:
    """Yield the nodes that must be measured again before others are compared with them, with their new seeds."""
    for node, want in _references(campaign):
        missing = want - len(noise.confirming(node, campaign.period))
        if missing > 0:
            yield node, node.fresh_seeds(missing)


def is_ready(campaign: Campaign) -> bool:
    """Return whether the baseline and the best node were measured in the present period."""
    return not any(True for _ in _references(campaign))


def measured_again(campaign: Campaign) -> NodeMeasuredAgain | None:
    """Return the result for the next node that was measured again; the baseline first. None while its runs go on."""
    for node, want in _references(campaign):
        jobs = noise.confirming(node, campaign.period)
        if len(jobs) < want or any(job.is_open for job in jobs):
            return None
        return _outcome(campaign, node)
    return None


def _references(campaign: Campaign) -> Iterator[tuple[Node, int]]:
    """Yield the baseline and the best node where their numbers are of an earlier period, with the runs each needs."""
    baseline, best, config = campaign.baseline, campaign.best, campaign.config
    if not campaign.period or baseline is None or baseline.verdict != "baseline":
        return
    if baseline.judged_in < campaign.period:
        yield baseline, config.noise.baseline
    if best is not None and best is not baseline and best.judged_in < campaign.period:
        yield best, config.noise.confirm


def _outcome(campaign: Campaign, node: Node) -> NodeMeasuredAgain:
    config, baseline, period = campaign.config, campaign.baseline, campaign.period
    assert baseline is not None
    jobs = noise.confirming(node, period)
    found = noise.values(node, config, period)
    value = statistics.fmean(found) if found else None
    sd = statistics.stdev(found) if len(found) > 1 else None
    if len(found) < 2:
        why = noise.fault(jobs, config.objective.metric) or "its runs were on different GPU models"
        return NodeMeasuredAgain(node.id, value, sd, False, why)
    broken = None if node is baseline else noise.broken_guard(jobs, config)
    if broken is not None:
        return NodeMeasuredAgain(node.id, value, sd, False, broken)
    gpu = noise.model(node, period)
    gain = noise.gain(campaign, found, noise.values(baseline, config, period, gpu), gpu)
    if node is not baseline and gain is not None and gain.is_loss:
        worse = f"here it is worse than {baseline.id} by {-gain.effect:.3g}, which counts above {gain.bar:.2g}"
        return NodeMeasuredAgain(node.id, value, sd, False, worse)
    return NodeMeasuredAgain(node.id, value, sd)


# -- drift ------------------------------------------------------------------------------------------------------------


def drift_due(campaign: Campaign) -> DriftChecked | None:
    """Compare the next ended run of the baseline beside others with the earlier ones; None where none has ended."""
    baseline = campaign.baseline
    if baseline is None:
        return None
    waiting = _beside(campaign) - campaign.checked
    if not waiting:
        return None
    seed = min(waiting)
    job = baseline.jobs.get(seed)
    if job is None or job.is_open:
        return None
    metric = campaign.config.objective.metric
    value = noise.number(job, metric)
    if value is None or job.period != campaign.period:
        return DriftChecked(seed, False, noise.fault([job], metric) or "of an earlier period")
    before = noise.values(baseline, campaign.config, job.period, job.gpu, waiting)
    spread = noise.pooled(campaign, job.gpu, waiting)
    if len(before) < 2 or spread is None:
        return DriftChecked(seed, False, "too few runs to compare it with")
    bar = noise.quantile(DRIFT_Z, spread.freedom) * spread.sd * math.sqrt(1 + 1 / len(before))
    change = value - statistics.fmean(before)
    text = f"{job.id} has {metric} {value:.6g}, {change:+.3g} from the runs before it (drift above {bar:.2g})"
    return DriftChecked(seed, abs(change) > bar, text)


def is_checked(campaign: Campaign, node: Node) -> bool:
    """Return whether the runs of the baseline beside this node's have been checked for drift."""
    beside = {job.beside for job in node.jobs.values() if job.period == campaign.period} - {None}
    return beside <= campaign.checked


def beside_next(campaign: Campaign) -> int | None:
    """Return the seed of the baseline's run beside what is submitted now; None without a time budget, and while the
    baseline is measured for itself."""
    baseline = campaign.baseline
    if not campaign.config.time_budget or baseline is None or baseline.verdict != "baseline":
        return None
    if baseline.judged_in < campaign.period:
        return None
    begun = [seed for seed, job in baseline.jobs.items() if job.status == SUBMITTING]
    return begun[0] if begun else baseline.fresh_seeds(1)[0]


def _beside(campaign: Campaign) -> set[int]:
    return {job.beside for node in campaign.nodes.values() for job in node.jobs.values() if job.beside is not None}
