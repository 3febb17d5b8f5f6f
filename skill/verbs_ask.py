"""Verbs that ask something of a run's manager: cancel, retry, pause, resume, add."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from build_manifest.faults import listed
from queue_manager.core.layout import id_fault
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.requests import Answer, Request
from skill import inbox, manager, runs
from skill.errors import DONE, FAILED, UseError
from skill.runs import Document, Run
from skill.verbs_run import RUN, the_run
from skill.verbs_spec import build, settle

_SHARED = ("cwd", "conda", "venv", "conda_hook", "env")
"""What all jobs of a run have in common: jobs that are added get the run's."""


def _ask(run: Run, document: Document, request: Request, *, start: bool) -> int:
    """Send a request and print its answer. `start`: where no manager lives, start one that takes it."""
    inbox.send(run.paths, request)
    alive = manager.is_alive(run)
    answer = inbox.wait(run.paths, request, lambda: manager.is_alive(run)) if alive else None
    if answer is None and start and not manager.is_alive(run):
        manager.start(run, document["meta"]["poll"])
        print(f"{run.id}: no manager was there; started it again", file=sys.stderr)
        answer = inbox.wait(run.paths, request, lambda: manager.is_alive(run))
    if answer is not None:
        return _tell(run, answer)
    if manager.is_alive(run):
        print(f"{run.id}: asked, but the manager has not answered yet; it will take it", file=sys.stderr)
        return FAILED
    print(
        f"{run.id}: no manager is there; {request.verb} is taken when the run goes on: wavequeue resume --run {run.id}"
    )
    return DONE


def _tell(run: Run, answer: Answer) -> int:
    if answer.ok:
        print(f"{run.id}: {answer.text}")
        return DONE
    print(f"wavequeue: {run.id}: {answer.text}", file=sys.stderr)
    return FAILED


@click.command("cancel")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--phase", metavar="PHASE", help="All jobs of this phase.")
@click.option("--all", "everything", is_flag=True, help="All jobs that have not ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@RUN
def cancel(jobs: tuple[str, ...], phase: str | None, everything: bool, yes: bool, run_name: str | None) -> int:
    """Take jobs out of a run; running ones are ended.

    JOB is an id, or a pattern such as 's42_*' in quotes.
    """
    if bool(jobs) + (phase is not None) + everything != 1:
        raise UseError("say which: JOB..., or --phase PHASE, or --all")
    run = the_run(run_name)
    document = runs.read_state(run)
    if everything or phase is not None:
        ids = inbox.select(document, (), phase, frozenset({"pending", "running", "failed_oom", "failed_other"}))
    else:
        ids = inbox.select(document, jobs)
    if not ids or document["meta"]["manager"] == "finished":
        print(f"{run.id}: nothing to cancel: no job of those runs or waits")
        return DONE
    if everything and not yes:
        _confirm(f"cancel all {len(ids)} jobs of {run.id} ({document['counts'].get('running', 0)} running)?")
    return _ask(run, document, Request(inbox.new_id("cancel"), "cancel", ids), start=False)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise UseError("cancel --all asks first, and there is no terminal to ask at: add --yes")
    click.confirm(question, abort=True, err=True)


@click.command("retry", short_help="Give jobs a fresh set of attempts.")
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
    document = runs.read_state(run)
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
    return _ask(run, document, Request(inbox.new_id("retry"), "retry", ids), start=True)


@click.command("pause")
@RUN
def pause(run_name: str | None) -> int:
    """Let running jobs go on, and start no new one."""
    run = the_run(run_name)
    document = runs.read_state(run)
    if document["meta"]["manager"] == "finished":
        print(f"{run.id}: has finished; nothing to pause")
        return DONE
    return _ask(run, document, Request(inbox.new_id("pause"), "pause"), start=False)


@click.command("resume", short_help="Let a paused or interrupted run go on.")
@RUN
def resume(run_name: str | None) -> int:
    """Let a paused run go on, and start its manager again if it has died."""
    run = the_run(run_name)
    if not run.paths.state.exists() and not manager.is_alive(run):
        manager.start(run)
        print(f"{run.id}: resumed")
        return DONE
    document = runs.read_state(run)
    if document["meta"]["manager"] == "finished":
        print(f"{run.id}: has finished; nothing to resume. Run jobs again with: wavequeue retry JOB --run {run.id}")
        return DONE
    return _ask(run, document, Request(inbox.new_id("resume"), "resume"), start=True)


@click.command("add", short_help="Bring more jobs into a run.")
@click.argument("spec", required=False, metavar="[SPEC]")
@click.option("--id", "job_id", metavar="ID", help="Instead of SPEC: the id of one job.")
@click.option("--cmd", metavar="COMMAND", help="What that job runs.")
@click.option("--gpus", type=click.IntRange(min=0), default=1, metavar="N", help="Cards it needs; 1 unless you say.")
@click.option("--phase", metavar="PHASE", default="added", help="Its phase; 'added' unless you say.")
@click.option("--depends-on", multiple=True, metavar="JOB", help="A job it waits for; may be repeated.")
@click.option("--expected-output", metavar="PATH", help="What it has to write.")
@RUN
def add(
    spec: str | None,
    job_id: str | None,
    cmd: str | None,
    gpus: int,
    phase: str,
    depends_on: tuple[str, ...],
    expected_output: str | None,
    run_name: str | None,
) -> int:
    """Bring more jobs into a run: those of SPEC that it does not have yet, or one job by --id and --cmd.

    Jobs that are there and the same are left alone.
    """
    if (spec is None) == (job_id is None) or (job_id is None) != (cmd is None):
        raise UseError("say what to add: SPEC, or --id ID and --cmd COMMAND")
    run = the_run(run_name)
    document = runs.read_state(run)
    there = runs.read_manifest(run)
    if spec is not None:
        request = _from_spec(spec, run, there)
    else:
        assert job_id is not None
        assert cmd is not None
        one = JobSpec(job_id, cmd, phase, depends_on=depends_on, gpus=gpus, expected_output=expected_output)
        request = _one_job(one, document, there)
    if not request.specs:
        print(f"{run.id}: nothing to add: it has every job of {spec}")
        return DONE
    return _ask(run, document, request, start=True)


def _one_job(job: JobSpec, document: Document, there: Manifest) -> Request:
    fault = id_fault(job.id)
    if fault:
        raise UseError(f"the id {job.id!r} {fault}")
    if any(one.id == job.id for one in there.jobs):
        raise UseError(f"job {job.id} is there already; give the new one another id")
    for name in job.depends_on:
        inbox.one(document, name)
    phases = () if any(one.name == job.phase for one in there.phases) else (Phase(job.phase),)
    return Request(inbox.new_id("add"), "add", phases=phases, specs=(job,))


def _from_spec(spec: str, run: Run, there: Manifest) -> Request:
    """What of a spec is new to a run. Raises UseError where a job that is there is different now."""
    made = settle(build(spec).manifest, Path(spec).absolute().parent)
    differ = [name for name in _SHARED if getattr(made, name) != getattr(there, name)]
    if differ:
        raise UseError(
            f"{spec} has another {listed(differ)} than run {run.id}, and a run has one for all its jobs; "
            f"put it back, write it into the jobs, or begin a new run: wavequeue run {spec}"
        )
    known = {job.id: job for job in there.jobs}
    changed = [job.id for job in made.jobs if job.id in known and known[job.id] != job]
    if changed:
        raise UseError(
            f"{len(changed)} of the jobs of {spec} are in run {run.id} and different there: {listed(changed)}; a job "
            f"does not change once it is in a run. Give them new ids, or begin a new run: wavequeue run {spec}"
        )
    new = tuple(job for job in made.jobs if job.id not in known)
    return Request(inbox.new_id("add"), "add", phases=made.phases, groups=made.groups, specs=new)
