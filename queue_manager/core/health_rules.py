"""Decide on the health of running attempts: flags, and what follows from them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from queue_manager.core import cadence
from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.health_policy import LOSS, STOPS, Bound, Policy, median, policy
from queue_manager.core.model import Attempt, Job
from queue_manager.core.turn import Turn

STALL, INTERVALS = 300.0, 3.0
"""Default limits for a stall: seconds without a new step that are never one, and how many intervals between steps."""
SILENT = 1800.0
"""The limit in seconds for a job that never showed a step, with neither log output nor CPU use."""
_GOES_ON = 5.0
"""Seconds that a job has to live after a traceback: it was not the end."""
_LASTING = ("nan", "out_of_bounds")
"""Flags that say something of a job's result, and not only of how it ran."""
_SIBLINGS = 2
"""Least number of other jobs of a phase whose rate one is compared with."""

Wanted = Mapping[str, "tuple[str, str]"]
"""Flags by kind: the words and the line of the log."""


def decide(turn: Turn) -> None:
    """Flag what is wrong with the attempts that were checked, clear what no longer is, and stop what has to be
    stopped."""
    seen = turn.seen.health
    for order, reading in seen.items():
        attempt = turn.state.live.get(order)
        if attempt is None or attempt.started is None or attempt.stopping is not None:
            continue
        job = turn.state.jobs[order]
        rules = policy(job.spec.health, job.spec.metrics)
        siblings = [
            one.pace
            for other, one in seen.items()
            if other != order and one.pace and turn.state.jobs[other].spec.phase == job.spec.phase
        ]
        wanted = flags(rules, reading, siblings)
        for kind, (text, line) in wanted.items():
            if kind not in attempt.flags:
                turn.emit(ev.HealthFlagged(job.spec.id, attempt.n, kind, text, line, kind in attempt.flagged))
        for kind in [one for one in attempt.flags if one not in wanted]:
            turn.emit(ev.HealthCleared(job.spec.id, attempt.n, kind))
        _act(turn, job, attempt, rules, reading)


def doubts(job: Job, attempt: Attempt, reading: HealthReading | None) -> str | None:
    """What is wrong with the result of an attempt that succeeded, in words: its loss is NaN, or a bound is broken, as
    its log last says it."""
    if reading is None:
        found = {flag.kind: (flag.text, flag.line) for flag in attempt.flags.values()}
    else:
        found = dict(flags(policy(job.spec.health, job.spec.metrics), reading, []))
    words = [f"{kind}: {found[kind][0]}" for kind in _LASTING if kind in found]
    return "; ".join(words) or None


def _act(turn: Turn, job: Job, attempt: Attempt, rules: Policy, reading: HealthReading) -> None:
    if attempt.left is not None:
        return
    began = attempt.started or turn.now
    if job.recovery.levels and not attempt.flags and turn.now >= cadence.sustained(began, attempt.cleared):
        turn.emit(ev.RecoverySustained(job.spec.id, attempt.n))
    if rules.then in ("stop", "recover") and STOPS.intersection(attempt.flags):
        turn.stop(job, attempt, "unhealthy" if rules.then == "stop" else "recover")
    elif rules.early_stop is not None and (reading.since_best or 0) >= rules.early_stop.patience:
        least = rules.min_steps
        if least is None or (reading.step is not None and reading.step >= least):
            turn.stop(job, attempt, "early_stop")


def flags(rules: Policy, seen: HealthReading, siblings: list[float]) -> Wanted:
    """Return what is wrong with an attempt. `siblings`: rates of other jobs of its phase, in steps/s."""
    wanted: dict[str, tuple[str, str]] = {}
    stall = _stall(rules, seen)
    if stall is not None:
        wanted["stalled"] = (stall, seen.line)
    if seen.loss is not None and not math.isfinite(seen.loss):
        word = "nan" if math.isnan(seen.loss) else "infinite"
        wanted["nan"] = (f"the loss is {word}{_at(seen)}", seen.line)
    if rules.low is not None and seen.low is not None and seen.low >= rules.low[1]:
        wanted["low_util"] = (f"GPU utilization has been below {rules.low[0]:g} % for {_minutes(seen.low)}", "")
    slow = _slow(rules, seen, siblings)
    if slow is not None:
        wanted["slow"] = (slow, seen.line)
    crossed = next((words for one in rules.bounds for words in _crossed(one, seen)), None)
    if crossed is not None:
        wanted["out_of_bounds"] = (crossed, seen.line)
    for kind, (at, line) in seen.found.items():
        if seen.at - at >= _GOES_ON:
            what = "ran out of memory" if kind == "oom_survived" else "printed a traceback"
            wanted[kind] = (f"it {what}, and continues", line)
    return wanted


def _stall(rules: Policy, seen: HealthReading) -> str | None:
    if not rules.watches_steps:
        return None
    if seen.step is None:
        limit = rules.stall or SILENT
        silent = f"no step yet, and its log and its CPU have been idle for {_minutes(seen.quiet)}"
        return silent if seen.quiet >= limit else None
    still = min(seen.still, seen.quiet) if seen.busy else seen.still
    if rules.stall is not None:
        limit = rules.stall
    elif seen.interval is not None:
        limit = max(STALL, INTERVALS * seen.interval)
    else:  # its rate is unknown
        limit, still = SILENT, min(seen.still, seen.quiet)
    return f"no new step for {_minutes(still)}; the last one was {seen.step}" if still >= limit else None


def _slow(rules: Policy, seen: HealthReading, siblings: list[float]) -> str | None:
    if rules.slow is None or seen.pace is None or seen.busy:
        return None
    others = median(siblings) if len(siblings) >= _SIBLINGS else None
    for pace, whose in ((seen.warm_pace, "of its initial rate"), (others, "of other jobs of its phase")):
        if pace and seen.pace < pace * rules.slow / 100:
            return f"{seen.pace:.3g} steps/s, {100 * seen.pace / pace:.0f} % {whose} ({pace:.3g} steps/s)"
    return None


def _crossed(bound: Bound, seen: HealthReading) -> Iterator[str]:
    value = seen.metrics.get(bound.metric, seen.loss if bound.metric == LOSS else None)
    if value is None or (bound.after_step and (seen.step is None or seen.step < bound.after_step)):
        return
    if bound.above is not None and value > bound.above:
        yield f"{bound.metric} is {value:.6g}, above {bound.above:g}{_at(seen)}"
    if bound.below is not None and value < bound.below:
        yield f"{bound.metric} is {value:.6g}, below {bound.below:g}{_at(seen)}"


def _at(seen: HealthReading) -> str:
    return "" if seen.step is None else f" at step {seen.step}"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
