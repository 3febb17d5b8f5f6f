"""Tools that change nothing: list runs, plan, status, why, logs, results, diagnose."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from skill.common.errors import UseError
from skill.mcp import answers
from skill.mcp.arguments import Arguments, Page, RunName
from skill.mcp.given import GivenSpec
from skill.operations import diagnose_logs, explain_job, job_log, list_runs, run_status
from skill.operations.find_run import find_run
from skill.operations.plan_spec import plan_spec
from skill.operations.results import only_missing, results
from skill.planning import plan
from skill.reports import explain, results_text
from skill.runs import digest

_WIDTH = 120


class ListRuns(Arguments):
    everything: Annotated[bool, Field(description="Also older runs that have ended")] = False
    page: Page = 1


def list_all(asked: ListRuns) -> str:
    found = list_runs.list_runs(everything=asked.everything)
    lines = [
        f"{row.run.id}  {row.status}  {digest.counts_text(row.counts) or '-'}"
        + (f"  on {', '.join(row.hosts)}" if row.hosts else "")
        + (f"  {row.fault}" if row.fault else "")
        for row in found.runs
    ]
    if found.left_out:
        lines.append(f"and {found.left_out} older ones (everything=true)")
    then = "status(run=RUN)" if found.runs else "there is no run here; plan(spec=FILE), then preview a run"
    return answers.text(lines, then, asked.page)


class Plan(GivenSpec):
    hosts: Annotated[tuple[str, ...], Field(description="Plan for these hosts; absent: for this machine")] = ()
    page: Page = 1


def plan_it(asked: Plan) -> str:
    notes: list[str] = []
    planned = plan_spec(asked.given(), asked.hosts, say=notes.append)
    lines = [line.plain.rstrip() for line in plan.lines(planned.document, _WIDTH)]
    lines += [*notes, *planned.warnings, *(f"it cannot run: {fault}" for fault in planned.faults)]
    then = "correct what keeps it from running" if planned.faults else "preview a run, or a submit to hosts"
    return answers.text(lines, then, asked.page)


class Status(Arguments):
    run: RunName = None
    jobs: Annotated[bool, Field(description="List jobs, a line for each")] = False
    status: Annotated[tuple[str, ...], Field(description="List jobs with one of these statuses, such as stuck")] = ()
    phase: Annotated[str | None, Field(description="List jobs of this phase")] = None
    since: Annotated[str | None, Field(description="Only what changed since this `seq` of an earlier answer")] = None
    page: Page = 1


def status(asked: Status) -> str:
    run = find_run(asked.run)
    unknown = [name for name in asked.status if name not in digest.SHOWN]
    if unknown:
        raise UseError(f"no status is called {unknown[0]}; there are: {', '.join(digest.SHOWN)}")
    listed = bool(asked.jobs or asked.status or asked.phase)
    document, alive, _ = run_status.run_status(run, full=listed or asked.since is not None)
    then = _after(run_status.as_brief(document, alive))
    if not listed:
        return answers.document(run_status.as_brief(document, alive, asked.since), then)
    now = time.time()
    rows = run_status.rows(document, asked.phase, frozenset(asked.status), asked.since)
    lines = [digest.headline(document, alive, now), *(_job(row, now) for row in rows)]
    return answers.text(lines, then, asked.page)


def _job(row: Mapping[str, Any], now: float) -> str:
    where = f" on {digest.place(row)}" if row["status"] == "running" else ""
    name, words = digest.word(row), digest.reason(row) or row.get("waiting") or ""
    return f"{row['id']}  {name}{where}  {digest.took(row, now)}  {words}".rstrip()


def _after(brief: Mapping[str, Any]) -> str:
    if brief["person"]:
        return f"why(job={brief['person'][0]['id']})"
    if not brief["manager_alive"] and brief["manager"] == "running":
        return "its manager has died; a person has to run: wavequeue resume"
    if brief["manager"] == "running":
        return "wait(), which returns at the end or at a new problem"
    return "results(), or the resource of its summary"


class Why(Arguments):
    job: Annotated[str, Field(description="Id of a job")]
    run: RunName = None
    page: Page = 1


def why(asked: Why) -> str:
    story = explain_job.explain_job(find_run(asked.run), asked.job)
    return answers.text(explain.lines(story), f"logs(job={asked.job}), or preview a retry", asked.page)


class Logs(Arguments):
    job: Annotated[str, Field(description="Id of a job")]
    run: RunName = None
    attempt: Annotated[int | None, Field(ge=1, description="Which attempt; absent: the newest")] = None
    page: Page = 1


def logs(asked: Logs) -> str:
    """The end of a log first: page 2 is what stands before it."""
    found = job_log.job_log(find_run(asked.run), asked.job, asked.attempt, answers.MOST // 2 * asked.page)
    lines = found.text.splitlines()
    if found.about:
        lines.append(f"({'; '.join(found.about)})")
    return answers.text(lines, f"why(job={asked.job})", asked.page, from_end=True)


class Results(Arguments):
    run: RunName = None
    by: Annotated[tuple[str, ...], Field(description="Keys of a row; absent: all but seeds")] = ()
    metric: Annotated[tuple[str, ...], Field(description="Only these metrics")] = ()
    missing: Annotated[bool, Field(description="Only what lacks a number")] = False
    page: Page = 1


def results_of(asked: Results) -> str:
    made = results([find_run(asked.run)], asked.by, asked.metric)
    if asked.missing:
        made = only_missing(made)
        return answers.text(results_text.missing(made) or ["nothing is missing"], "results()", asked.page)
    if not made.cells:
        return answers.text(["no job of this run has metrics yet"], "status()")
    lines = [*results_text.markdown(made).splitlines(), results_text.summary(made)]
    return answers.text(lines, "results(missing=true) for what is not there", asked.page)


class Diagnose(Arguments):
    files: Annotated[tuple[str, ...], Field(min_length=1, description="Log files; a job's own log is explained by why")]
    page: Page = 1


def diagnose(asked: Diagnose) -> str:
    if diagnose_logs.STDIN in asked.files:
        raise UseError("give the names of log files; there is no standard input here")
    return answers.text(_diagnosed(asked.files), "preview a retry once the cause is removed", asked.page)


def _diagnosed(files: Sequence[str]) -> Iterator[str]:
    for found in diagnose_logs.diagnose_logs(files):
        if isinstance(found, diagnose_logs.Unread):
            yield f"{found.file}: {found.why}"
            continue
        line = f", line {found.line_no}" if found.line_no is not None else ""
        yield f"{found.file}{line}: {found.name}: {found.line or ''}".rstrip(": ")
        if found.says:
            yield f"  {found.says}"
