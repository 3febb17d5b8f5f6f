"""Verbs that ask something of a run's manager: cancel, retry, pause, resume, add."""

from __future__ import annotations

import getpass
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from build_manifest.command_line import check_job
from build_manifest.faults import SpecErrors, listed
from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.requests import Request
from skill.cli.console import ask_first
from skill.cli.options import RUN, the_run
from skill.common.errors import DONE, FAILED, UseError
from skill.operations.build_spec import build, settle
from skill.planning import assign_added, job_changes
from skill.runs import directory
from skill.runs import requests as inbox
from skill.runs.access import Outcome, RunAccess
from skill.runs.directory import Document, Run
from skill.runs.open import open_run
from skill.runs.requests import Asked

_SHARED = ("cwd", "conda", "venv", "conda_hook", "env")
"""What all jobs of a run have in common: jobs that are added get the run's."""


def _tell(name: str, run: Run, request: Request, asked: Asked) -> int:
    """Print what became of a request. `name`: whose it was."""
    if asked.answer is not None and asked.answer.ok:
        print(f"{name}: {asked.answer.text}")
        return DONE
    if asked.answer is not None:
        print(f"wavequeue: {name}: {asked.answer.text}", file=sys.stderr)
        return FAILED
    if asked.alive:
        print(f"{name}: asked, but the manager has not answered yet; it will take it", file=sys.stderr)
        return FAILED
    print(f"{name}: no manager is there; {request.verb} is taken when the run goes on: wavequeue resume --run {run.id}")
    return DONE


def _tell_all(run: Run, request: Request, outcomes: Sequence[Outcome]) -> int:
    """Print what became of a request on each host."""
    code = DONE
    for host, asked, started, notices in outcomes:
        name = f"{run.id}: {host}" if host else run.id
        if started:
            for text in ("no manager was there; started it again", *notices):
                print(f"{name}: {text}", file=sys.stderr)
        if isinstance(asked, Asked):
            code = max(code, _tell(name, run, request, asked))
            continue
        why = asked if isinstance(asked, str) else f"unreachable, so nothing is known of it: {asked.reason}"
        print(f"wavequeue: {name}: {why}", file=sys.stderr)
        code = FAILED
    return code


@click.command("cancel")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--phase", metavar="PHASE", help="All jobs of this phase.")
@click.option("--all", "everything", is_flag=True, help="All jobs that have not ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@RUN
def cancel(jobs: tuple[str, ...], phase: str | None, everything: bool, yes: bool, run_name: str | None) -> int:
    """Cancel jobs of a run; running ones are ended.

    JOB is an id, or a pattern such as 's42_*' in quotes.
    """
    if bool(jobs) + (phase is not None) + everything != 1:
        raise UseError("say which: JOB..., or --phase PHASE, or --all")
    run = the_run(run_name)
    with open_run(run) as there:
        document = there.look(full=True)
        if everything or phase is not None:
            ids = inbox.select(document, (), phase, frozenset({"pending", "running", "failed_oom", "failed_other"}))
        else:
            ids = inbox.select(document, jobs)
        request = Request(inbox.new_id("cancel"), "cancel", ids)
        outcomes: list[Outcome] = []
        if ids and document["meta"]["manager"] != "finished":
            if everything:
                running = document["counts"].get("running", 0)
                ask_first(f"cancel all {len(ids)} jobs of {run.id} ({running} running)?", yes=yes)
            outcomes = there.request(document, request, start=False)
        if not outcomes:
            print(f"{run.id}: nothing to cancel: no job of those runs or waits")
        return _tell_all(run, request, outcomes)


@click.command("retry", short_help="Run failed or cancelled jobs again, with fresh attempts.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--phase", metavar="PHASE", help="All jobs of this phase that need a person.")
@click.option("--stuck", is_flag=True, help="All jobs that are stuck.")
@RUN
def retry(jobs: tuple[str, ...], phase: str | None, stuck: bool, run_name: str | None) -> int:
    """Give jobs that are stuck or cancelled a fresh set of attempts. What they block goes on after them.

    JOB is an id, or a pattern such as 's42_*' in quotes.
    """
    if bool(jobs) + (phase is not None) + stuck != 1:
        raise UseError("say which: JOB..., or --phase PHASE, or --stuck")
    run = the_run(run_name)
    with open_run(run) as there:
        document = there.look(full=True)
        if jobs:
            ids = inbox.select(document, jobs)
        else:
            again = {"stuck"} if stuck else {"stuck", "cancelled", "failed_oom", "failed_other"}
            ids = inbox.select(document, (), phase, frozenset(again))
        if not ids:
            print(f"{run.id}: nothing to retry: no job of those is stuck" + ("" if stuck else " or cancelled"))
            return DONE
        stands = {row["id"]: row["status"] for row in document["jobs"] if row["id"] in set(ids)}
        if set(stands.values()) <= {"completed", "running", "pending"}:
            raise UseError(f"nothing to retry: {listed(f'{name} is {status}' for name, status in stands.items())}")
        request = Request(inbox.new_id("retry"), "retry", ids)
        return _tell_all(run, request, there.request(document, request, start=True))


@click.command("accept", short_help="Accept the result of JOB as it is, and let its dependents go on.")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--output", metavar="PATH", help="The file that is its result, in place of its expected_output.")
@click.option("--reason", default="", metavar="TEXT", help="The reason; it is kept in the run's journal.")
@RUN
def accept(jobs: tuple[str, ...], output: str | None, reason: str, run_name: str | None) -> int:
    """Take the results of jobs that failed or were cancelled as they are: they count as completed from now on, and what
    they block goes on. Who accepted them is kept in the run's journal.

    JOB is an id, or a pattern such as 's42_*' in quotes.
    """
    run = the_run(run_name)
    with open_run(run) as there:
        document = there.look(full=True)
        ids = inbox.select(document, jobs)
        if output is not None and len(ids) != 1:
            raise UseError(f"--output is the result of one job, and {len(ids)} are meant: accept them one by one")
        changes = {} if output is None else {ids[0]: {"expected_output": output}}
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        request = Request(inbox.new_id("accept"), "accept", ids, changes=changes, by=by, reason=reason)
        return _tell_all(run, request, there.request(document, request, start=True))


@click.command("pause")
@RUN
def pause(run_name: str | None) -> int:
    """Start no new job; running jobs go on."""
    run = the_run(run_name)
    with open_run(run) as there:
        document = there.look()
        if document["meta"]["manager"] == "finished":
            print(f"{run.id}: has finished; nothing to pause")
            return DONE
        request = Request(inbox.new_id("pause"), "pause")
        return _tell_all(run, request, there.request(document, request, start=False))


@click.command("resume", short_help="Continue a paused or interrupted run.")
@RUN
def resume(run_name: str | None) -> int:
    """Continue a paused run, and start its manager again if it has died."""
    run = the_run(run_name)
    with open_run(run) as there:
        is_begun = there.begin()
        document = there.look()
        if is_begun:
            for text in directory.start_notices(document["meta"]["conditions"]):
                print(f"{run.id}: {text}", file=sys.stderr)
            if not document["meta"]["paused"]:
                print(f"{run.id}: resumed")
                return DONE
        if document["meta"]["manager"] == "finished":
            print(f"{run.id}: has finished; nothing to resume. Run jobs again with: wavequeue retry JOB --run {run.id}")
            return DONE
        request = Request(inbox.new_id("resume"), "resume")
        return _tell_all(run, request, there.request(document, request, start=True))


@click.command("add", short_help="Add jobs to a run.")
@click.argument("spec", required=False, metavar="[SPEC]")
@click.option("--id", "job_id", metavar="ID", help="Instead of SPEC: the id of one job.")
@click.option("--cmd", metavar="COMMAND", help="What that job runs.")
@click.option(
    "--gpus", type=click.IntRange(min=0), default=1, metavar="N", help="Number of GPUs it needs (default: 1)."
)
@click.option("--phase", metavar="PHASE", default="added", help="Its phase (default: added).")
@click.option("--depends-on", multiple=True, metavar="JOB", help="A job it waits for; may be given several times.")
@click.option("--expected-output", metavar="PATH", help="The file that it has to write.")
@click.option("--update", is_flag=True, help="Also change existing jobs that have not completed.")
@RUN
def add(
    spec: str | None,
    job_id: str | None,
    cmd: str | None,
    gpus: int,
    phase: str,
    depends_on: tuple[str, ...],
    expected_output: str | None,
    update: bool,
    run_name: str | None,
) -> int:
    """Add jobs to a run: those of SPEC that it does not have yet, or one job by --id and --cmd.

    Jobs that are there and the same are left alone. With --update, what SPEC says now of expected_output, timeout,
    grace, priority and retries counts for jobs that are there and have not completed.
    """
    if update and spec is None:
        raise UseError("--update takes SPEC, which says what is to change")
    if (spec is None) == (job_id is None) or (job_id is None) != (cmd is None):
        raise UseError("say what to add: SPEC, or --id ID and --cmd COMMAND")
    run = the_run(run_name)
    with open_run(run) as there:
        document = there.look()
        if spec is not None:
            request, changes = _from_spec(spec, run, there.manifest, settled=not there.names, update=update)
        else:
            assert job_id is not None
            assert cmd is not None
            for warning in _checked(cmd, expected_output, gpus):
                print(f"wavequeue: {warning}", file=sys.stderr)
            one = JobSpec(job_id, cmd, phase, depends_on=depends_on, gpus=gpus, expected_output=expected_output)
            request, changes = _one_job(one, run, there.manifest), {}
        if not request.specs and not changes:
            print(f"{run.id}: nothing to add: it has every job of {spec}")
            return DONE
        code = DONE
        if request.specs:
            code = _tell_all(run, request, there.add(document, request, assign_added.share))
        return max(code, _update(run, there, document, changes)) if changes else code


def _update(run: Run, there: RunAccess, document: Document, changes: Mapping[str, Mapping[str, Any]]) -> int:
    """Change jobs of a run, and say what of them waits for a person all the same."""
    request = Request(inbox.new_id("update"), "update", changes=changes)
    code = _tell_all(run, request, there.request(document, request, start=True))
    stuck = [row["id"] for row in document["jobs"] if row["id"] in changes and row["status"] == "stuck"]
    if stuck:
        print(f"stuck until they are retried: {listed(stuck, 5)}; wavequeue retry JOB --run {run.id}", file=sys.stderr)
    return code


def _checked(cmd: str, expected_output: str | None, gpus: int) -> list[str]:
    """What is odd about a job that is given by hand. Raises UseError where it is wrong."""
    try:
        return check_job(cmd, expected_output, gpus)
    except SpecErrors as error:
        raise UseError(str(error)) from None


def _one_job(job: JobSpec, run: Run, there: Manifest) -> Request:
    fault = id_fault(job.id)
    if fault:
        raise UseError(f"the id {job.id!r} {fault}")
    ids = {one.id for one in there.jobs}
    if job.id in ids:
        raise UseError(f"job {job.id} is there already; give the new one another id")
    for name in job.depends_on:
        if name not in ids:
            raise UseError(inbox.unknown(name, ids, run.id))
    phases = () if any(one.name == job.phase for one in there.phases) else (Phase(job.phase),)
    return Request(inbox.new_id("add"), "add", phases=phases, specs=(job,))


def _from_spec(
    spec: str, run: Run, there: Manifest, *, settled: bool, update: bool
) -> tuple[Request, Mapping[str, Mapping[str, Any]]]:
    """What of a spec is new to a run, and what it changes of jobs that are there, by job and field.

    `settled`: the run's paths are absolute, as on this machine. Raises UseError where a job that is there is different
    now and stays so.
    """
    made = build(spec).manifest
    if settled:
        made = settle(made, Path(spec).absolute().parent)
    differ = [name for name in _SHARED if getattr(made, name) != getattr(there, name)]
    if differ:
        raise UseError(
            f"{spec} has another {listed(differ)} than run {run.id}, and a run has one for all its jobs; "
            f"put it back, write it into the jobs, or begin a new run: wavequeue run {spec}"
        )
    known = {job.id: job for job in there.jobs}
    differ_in = job_changes.differences(known, made.jobs)
    refused = job_changes.refusal(differ_in, spec, run.id, update=update)
    if refused is not None:
        raise UseError(refused)
    new = tuple(job for job in made.jobs if job.id not in known)
    request = Request(inbox.new_id("add"), "add", phases=made.phases, groups=made.groups, specs=new)
    return request, differ_in.changes
