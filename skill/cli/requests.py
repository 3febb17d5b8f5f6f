"""Verbs that send requests to a run's manager: cancel, retry, accept, pause, resume, add."""

from __future__ import annotations

import sys

import click

from queue_manager.core.manifest import JobSpec
from skill.cli.console import ask_first, say
from skill.cli.options import RUN, the_run
from skill.common.errors import DONE, FAILED, UseError
from skill.common.units import jobs_text
from skill.operations import add_jobs, change_run, request_text
from skill.operations.change_run import Changed


def _tell_all(done: Changed) -> int:
    """Print the outcome of a request on each host."""
    code = DONE
    for text, kind in request_text.lines(done):
        if kind == "done":
            print(text)
        else:
            print(text if kind in ("note", "waits") else f"wavequeue: {text}", file=sys.stderr)
        if kind in ("waits", "failed"):
            code = FAILED
    return code


@click.command("cancel")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--phase", metavar="PHASE", help="All jobs of this phase.")
@click.option("--all", "everything", is_flag=True, help="All jobs that have not ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@RUN
def cancel(jobs: tuple[str, ...], phase: str | None, everything: bool, yes: bool, run_name: str | None) -> int:
    """Cancel jobs of a run; running jobs are stopped.

    JOB is an ID, or a pattern such as 's42_*' in quotes. Asks first where a pattern, --phase or --all would end running
    jobs.
    """
    change_run.check_choice(jobs, phase, everything, "--all")
    run = the_run(run_name)

    def agree(count: int, running: int) -> None:
        which = f"all {jobs_text(count)}" if everything else jobs_text(count)
        ask_first(f"cancel {which} of {run.id} ({running} running)?", yes=yes)

    return _tell_all(change_run.cancel_jobs(run, jobs, phase=phase, everything=everything, agree=agree))


@click.command("retry", short_help="Run stuck or cancelled jobs again, with new attempts.")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--phase", metavar="PHASE", help="All jobs of this phase that need a person.")
@click.option("--stuck", is_flag=True, help="All jobs that are stuck.")
@RUN
def retry(jobs: tuple[str, ...], phase: str | None, stuck: bool, run_name: str | None) -> int:
    """Run stuck or cancelled jobs again, with new attempts. Jobs that they block run after them.

    JOB is an ID, or a pattern such as 's42_*' in quotes.
    """
    change_run.check_choice(jobs, phase, stuck, "--stuck")
    return _tell_all(change_run.retry_jobs(the_run(run_name), jobs, phase=phase, stuck=stuck))


@click.command("accept", short_help="Accept the result of JOB as it is, and let its dependents run.")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--output", metavar="PATH", help="The file to take as its result instead of expected_output.")
@click.option("--reason", default="", metavar="TEXT", help="The reason, recorded in the run's journal.")
@RUN
def accept(jobs: tuple[str, ...], output: str | None, reason: str, run_name: str | None) -> int:
    """Accept the results of failed or cancelled jobs: they count as completed from now on, and the jobs that they block
    run. The run's journal records who accepted them.

    JOB is an ID, or a pattern such as 's42_*' in quotes.
    """
    return _tell_all(change_run.accept_jobs(the_run(run_name), jobs, output=output, reason=reason))


@click.command("pause")
@RUN
def pause(run_name: str | None) -> int:
    """Start no new jobs; running jobs continue."""
    return _tell_all(change_run.pause_run(the_run(run_name)))


@click.command("resume", short_help="Continue a paused or interrupted run.")
@RUN
def resume(run_name: str | None) -> int:
    """Continue a paused run, and start its manager again if it died."""
    return _tell_all(change_run.resume_run(the_run(run_name)))


@click.command("add", short_help="Add jobs to a run.")
@click.argument("spec", required=False, metavar="[SPEC]")
@click.option("--id", "job_id", metavar="ID", help="Instead of SPEC: the id of one job.")
@click.option("--cmd", metavar="COMMAND", help="What that job runs.")
@click.option(
    "--gpus", type=click.IntRange(min=0), default=1, metavar="N", help="Number of GPUs it needs (default: 1)."
)
@click.option("--phase", metavar="PHASE", default="added", help="Its phase (default: added).")
@click.option("--depends-on", multiple=True, metavar="JOB", help="A job it waits for; may be given several times.")
@click.option("--output", "--expected-output", "expected_output", metavar="PATH", help="The file that it must write.")
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
    """Add jobs to a run: those of SPEC that it does not have yet, or one job given by --id and --cmd.

    Existing jobs do not change. With --update, new values of expected_output, timeout, grace, priority, retries and
    est_minutes in SPEC apply to existing jobs that have not completed.
    """
    if update and spec is None:
        raise UseError("--update needs SPEC, which says what to change")
    if (spec is None) == (job_id is None) or (job_id is None) != (cmd is None):
        raise UseError("give SPEC, or --id ID and --cmd COMMAND")
    run = the_run(run_name)
    if spec is None:
        assert job_id is not None
        assert cmd is not None
        job = JobSpec(job_id, cmd, phase, depends_on=depends_on, gpus=gpus, expected_output=expected_output)
        return _tell_all(add_jobs.add_job(run, job, say))
    added, updated = add_jobs.add_spec(run, spec, update=update)
    if added is None and updated is None:
        print(f"{run.id}: nothing to add: it has every job of {spec}")
    return max((_tell_all(one) for one in (added, updated) if one is not None), default=DONE)
