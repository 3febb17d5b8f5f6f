"""Verbs about a whole run: run, watch, report."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from build_manifest import regular_file
from skill.cli.console import print_json, print_markdown, say, warn
from skill.cli.given_spec import DRY_RUN, NAME, TakesCommand, confirm_size, given
from skill.cli.options import AGAIN, JSON, POLL, RUN, SKIP_DONE, UTC, YES, the_run, time_option
from skill.cli.plan_output import print_plan
from skill.common.errors import FAILED, INTERRUPTED, PERSON, FailedError, UseError
from skill.common.units import jobs_text
from skill.operations import run_status
from skill.operations.view_commands import ViewCommands
from skill.runs import digest
from skill.runs.directory import MOST_STATE, Run
from skill.runs.open import open_run
from skill.terminal import live

if TYPE_CHECKING:
    from skill.operations.build_spec import Given
    from skill.operations.start_run import Started
    from skill.runs.access import RunAccess
    from skill.runs.watched import Followed


@click.command("run", cls=TakesCommand)
@given
@NAME
@DRY_RUN
@click.option("--detach", is_flag=True, help="Return at once, without the live view.")
@POLL
@AGAIN
@SKIP_DONE
@YES
@JSON
def run_verb(
    spec: Given,
    name: str | None,
    dry_run: bool,
    detach: bool,
    poll: float | None,
    again: bool,
    skip_done: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Run SPEC on this machine, or a command without a spec.

    After --, a list (--lr 1e-3,1e-2) or a range (--seed 0..4) in a command makes a job for each combination of values,
    and {lr} elsewhere in it stands for the value. Write a backslash before a comma that belongs to a value. A .txt file
    (or - for stdin) is a command on each line; a .csv file with --cmd is a job for each row.

    Its manager is detached and keeps running when you leave the view or log out. Without --detach the command ends with
    the run: exit code 0 if all jobs completed, 3 if some need a person. It refuses to start while a run of the same
    jobs is active here, unless --again is given.
    """
    from skill.operations import start_run  # what only looks need not pay for it

    if dry_run:
        from skill.operations.plan_spec import plan_spec

        return print_plan(plan_spec(spec, say=say), as_json, "here")
    confirm_size(spec, yes=yes)
    started = start_run.start_run(spec, poll=poll, again=again, skip_done=skip_done, name=name, warn=warn, say=say)
    run, hints = started.run, _hint(started.run)
    try:
        if detach:
            report_started(started, as_json=as_json)
            return 0
        with open_run(run) as there:
            followed = there.watch()
            code = live.follow(followed, live.console(error=as_json), ViewCommands(run), fresh=True)
    except KeyboardInterrupt:
        print(f"\nleft the view; {run.id} continues. {hints}", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print_json(run_status.as_json(run, followed.document, followed.alive))
    elif code != FAILED:
        _show_summary(run)
    _say_what_stopped(followed, code)
    return code


def report_started(started: Started, *, as_json: bool) -> None:
    """Print which run was started on this machine."""
    run, jobs, pid = started
    if as_json:
        print_json({"run_id": run.id, "directory": str(run.root), "pid": pid, "jobs": jobs})
    else:
        manager = f"manager is process {pid}" if pid else "its manager is a job of Slurm"
        print(f"{run.id}: {jobs_text(jobs)}, {manager}\n{run.root}\n{_hint(run)}")


def _hint(run: Run) -> str:
    return f"follow it: wavequeue watch --run {run.id}"


def _show_summary(run: Run) -> None:
    try:
        text = regular_file.read_text(run.paths.summary, MOST_STATE, follow=False, errors="replace")
    except OSError as error:
        raise FailedError(f"{run.paths.summary}: {error.strerror}") from None
    print()
    print_markdown(text)
    print(f"\n{run.paths.summary}")


def _say_what_stopped(watched: Followed, code: int) -> None:
    if code == FAILED:
        for line in digest.problems(watched.document, watched.alive):
            print(f"wavequeue: {line}", file=sys.stderr)


@click.command("watch")
@RUN
@click.option(
    "--after", callback=time_option, metavar="TIME", help="Give up a host that cannot be reached for TIME, such as 30m."
)
@click.option("--matrix", "as_matrix", is_flag=True, help="Show the jobs of a grid as a matrix, one cell a job.")
@UTC
def watch(run_name: str | None, after: float | None, as_matrix: bool, utc: bool) -> int:
    """Follow a run until it ends; q or Ctrl-C leaves it running.

    On a terminal, ? shows the keys: select jobs, filter them, read a log, cancel or retry a job.

    With --after, a host that is unreachable for TIME while another host of the run answers is given up, as with rescue:
    the other hosts run its jobs.

    Exit code 0 if all jobs completed, 3 if some need a person, 1 if a manager died.
    """
    run = the_run(run_name)
    try:
        with open_run(run) as there, _watched(there, after) as followed:
            code = live.follow(followed, live.console(), ViewCommands(run), fresh=False, utc=utc, as_matrix=as_matrix)
    except KeyboardInterrupt:
        print(f"\nleft the view; {run.id} continues. Come back: wavequeue watch --run {run.id}", file=sys.stderr)
        return INTERRUPTED
    _say_what_stopped(followed, code)
    if code == PERSON:
        print("to see the reason for a status: wavequeue why JOB", file=sys.stderr)
    if there.names and code != FAILED:
        print(f"pull its results: wavequeue pull --run {run.id}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _watched(there: RunAccess, after: float | None) -> Iterator[Followed]:
    """Return what the view follows. `after`: see operations.auto_rescue."""
    if after is not None and not there.names:
        raise UseError(f"run {there.run.id} runs on this machine: --after is for runs on hosts")
    with contextlib.closing(there.watch()) as followed:
        if after is None:
            yield followed
            return
        from skill.operations import auto_rescue

        with contextlib.closing(auto_rescue.Rule(followed, after, say)):
            yield followed
