"""summary.md: the outcome of a run, for a person to read first."""

from __future__ import annotations

from pathlib import PurePosixPath

from queue_manager.core import failure_advice
from queue_manager.core.markdown import code, inline
from queue_manager.core.model import Job, QueueState
from queue_manager.core.status import FINAL, Status
from queue_manager.core.times import duration, iso

_ROWS = 50


def summary(state: QueueState, log_dir: str, now: float) -> str:
    """Return the summary as Markdown. `now` (epoch seconds) is used as the end of a run that continues."""
    end = state.finished or now
    done = state.tallies.counts.get(Status.COMPLETED, 0)
    lines = [
        f"# {inline(state.manifest.project)}: {done} of {len(state.jobs)} jobs completed",
        "",
        f"- run: {code(state.run_id)} on {inline(state.machine.host or '')}",
        f"- start: {iso(state.started)}",
        f"- end: {iso(state.finished) or 'not yet'}",
        f"- wall clock: {duration(end - (state.started or end))}",
        "- jobs: "
        + (", ".join(f"{count} {status.value}" for status, count in sorted(state.tallies.shown.items())) or "none"),
        "",
        "| phase | jobs | completed | OOM retries | duration |",
        "|---|---:|---:|---:|---:|",
    ]
    for phase in state.phases:
        tally = state.tallies.phases[phase.name]
        took = "-"
        if tally.started is not None:
            last = tally.ended if tally.ended is not None and FINAL.issuperset(tally.counts) else end
            took = duration(last - tally.started)
        completed = tally.counts.get(Status.COMPLETED, 0)
        total = sum(tally.counts.values())
        lines.append(f"| {inline(phase.name)} | {total} | {completed} | {tally.oom_retries} | {took} |")
    lines += _person(state, log_dir)
    lines += _warnings(state)
    lines += _results(state)
    lines += ["", "## Next steps", "", *_next_steps(state)]
    return "\n".join(lines) + "\n"


def _person(state: QueueState, log_dir: str) -> list[str]:
    jobs = [job for job in state.jobs if job.status in (Status.STUCK, Status.BLOCKED)]
    if not jobs:
        return []
    jobs.sort(key=lambda job: (job.status is not Status.STUCK, job.order))
    lines = ["", "## Jobs that need a person", "", "| job | status | attempts | why |", "|---|---|---:|---|"]
    lines += [
        f"| {inline(job.spec.id)} | {job.status.value} | {job.attempts} | {inline(_why(job))} |" for job in jobs[:_ROWS]
    ]
    return [*lines, *_more(len(jobs)), "", f"Logs: {code(log_dir)}"]


def _why(job: Job) -> str:
    """Why a job needs a person; where its ladder could not help it, with what else may."""
    best = failure_advice.of_failure(job.failure or "", job.error or "") if job.recovery.steps else None
    return (job.error or "") + ("" if best is None else f"; next: {best}")


def _warnings(state: QueueState) -> list[str]:
    jobs = [job for job in state.jobs if job.warning]
    if not jobs:
        return []
    lines = ["", "## Warnings", ""]
    return [
        *lines,
        *(f"- {inline(job.spec.id)}: {inline(job.warning or '')}" for job in jobs[:_ROWS]),
        *_more(len(jobs)),
    ]


def _results(state: QueueState) -> list[str]:
    jobs = [job for job in state.jobs if job.status is Status.COMPLETED and job.spec.expected_output]
    if not jobs:
        return []
    lines = ["", "## Result files", ""]
    return [
        *lines,
        *(f"- {code(_output(job, state))} ({inline(job.spec.id)})" for job in jobs[:_ROWS]),
        *_more(len(jobs)),
    ]


def _output(job: Job, state: QueueState) -> str:
    return str(PurePosixPath(state.manifest.cwd, job.spec.cwd or "", job.spec.expected_output or ""))


def _more(count: int) -> list[str]:
    return [f"- and {count - _ROWS} more, in queue_state.json"] if count > _ROWS else []


def _next_steps(state: QueueState) -> list[str]:
    counts, run = state.tallies.counts, f" --run {state.run_id}"
    steps = []
    if counts.get(Status.STUCK):
        first = next(job.spec.id for job in state.jobs if job.status is Status.STUCK)
        steps.append(f"- see why a job is stuck: `wavequeue why {first}{run}`, then `wavequeue retry {first}{run}`")
    if counts.get(Status.BLOCKED) and not counts.get(Status.STUCK):
        first = next(job.spec.id for job in state.jobs if job.status is Status.BLOCKED)
        steps.append(f"- see what blocks a job: `wavequeue why {first}{run}`")
    if counts.get(Status.CANCELLED):
        ids = [job.spec.id for job in state.jobs if job.status is Status.CANCELLED]
        more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
        steps.append(
            f"- {len(ids)} cancelled by a person ({', '.join(ids[:3])}{more}); to run one after all: "
            f"`wavequeue retry JOB{run}`"
        )
    steps.append(f"- read the report: `wavequeue report{run}`")
    return steps
