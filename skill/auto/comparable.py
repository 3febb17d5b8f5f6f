"""Which runs may be compared: those of one period, on one GPU model. Pure.

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
"""Standard errors by which a run of the baseline has to differ from those before, to be drift; more for few runs."""


def needs_gpus(config: Config) -> int:
    """How many GPUs a job needs."""
    count = config.job.get("gpus", 1)
    return count if isinstance(count, int) else 1


def model_due(campaign: Campaign) -> ModelChosen | None:
    """The GPU model that jobs run on from now on, where that is to be decided."""
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
        return ModelChosen(chosen, f"there is no {before} any longer, but {chosen}", begins=True)
    return ModelChosen(chosen, _choice(chosen, seen))


def _model_of_baseline(campaign: Campaign) -> str:
    """The model of a baseline that was measured before a model was chosen; empty where there is none."""
    baseline = campaign.baseline
    return "" if baseline is None else noise.model(baseline)


def _choice(chosen: str, seen: Mapping[str, int]) -> str:
    others = ", ".join(f"{count} on {name}" for name, count in seen.items() if name != chosen)
    return f"{seen[chosen]} jobs at a time run on it" + (f", and {others}" if others else "")


# -- measured again ---------------------------------------------------------------------------------------------------


def due_again(campaign: Campaign) -> Iterator[tuple[Node, tuple[int, ...]]]:
    """The nodes that have to be measured in a new period before others are compared with them, with further seeds."""
    for node, want in _references(campaign):
        missing = want - len(noise.confirming(node, campaign.period))
        if missing > 0:
            yield node, node.fresh_seeds(missing)


def is_ready(campaign: Campaign) -> bool:
    """Whether the baseline and the best node were measured in the present period, so that nodes can be compared."""
    return not any(True for _ in _references(campaign))


def measured_again(campaign: Campaign) -> NodeMeasuredAgain | None:
    """What the next of these nodes came to, once its runs have ended; the baseline comes first."""
    for node, want in _references(campaign):
        jobs = noise.confirming(node, campaign.period)
        if len(jobs) < want or any(job.is_open for job in jobs):
            return None
        return _outcome(campaign, node)
    return None


def _references(campaign: Campaign) -> Iterator[tuple[Node, int]]:
    """The baseline and the best node, where their numbers are of an earlier period; and how many runs each needs."""
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
    """Whether the next run of the baseline that was measured beside others differs from those before, once it ended."""
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
    """Whether the runs of the baseline beside a node's have been looked at for drift."""
    beside = {job.beside for job in node.jobs.values() if job.period == campaign.period} - {None}
    return beside <= campaign.checked


def beside_next(campaign: Campaign) -> int | None:
    """The seed of the baseline's run for experiments that are submitted now; None where none is run beside them."""
    baseline = campaign.baseline
    if not campaign.config.time_budget or baseline is None or baseline.verdict != "baseline":
        return None
    begun = [seed for seed, job in baseline.jobs.items() if job.status == SUBMITTING]
    return begun[0] if begun else baseline.fresh_seeds(1)[0]


def _beside(campaign: Campaign) -> set[int]:
    return {job.beside for node in campaign.nodes.values() for job in node.jobs.values() if job.beside is not None}
