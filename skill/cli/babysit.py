"""The verb babysit."""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import click

from skill.cli.console import print_json
from skill.cli.options import BRIEF, JSON, RUN, the_run
from skill.common.errors import DONE, FAILED, INTERRUPTED, PERSON, UseError
from skill.operations import babysit
from skill.operations.babysit import CheckReport, Outcome
from skill.reports import checks

if TYPE_CHECKING:
    from skill.runs.directory import Run


@click.command("babysit", short_help="Watch over a run: a line for each job and check.")
@RUN
@click.option("--once", is_flag=True, help="Check once, and exit.")
@BRIEF
@JSON
def babysit_verb(run_name: str | None, once: bool, brief: bool, as_json: bool) -> int:
    """Watch over a run until it ends: a line of nine fields for each job and check, and log lines where something is
    wrong.

    \b
    ts        when it was checked
    state     JOB:STATE; the status, or what is wrong (stalled, nan, ...)
    step      step, of how many
    rate      steps per second
    gpu, mem  utilization of its GPUs, and MiB used on them
    eval      its metric, or its loss
    action    what was done about it, or will be
    next_eta  when it is checked next

    `-` is unknown. A job is checked 1, 3, 7 and 15 minutes after its launch, every 10 minutes until it was healthy
    twice, then every 30 to 60, and every 2 to 5 while something is wrong. What happens in between is reported at once.

    STATUS.md in the run's directory is kept up to date: machines, commands, logs, what ends a job, and what was done.
    What you write below the mark at its end is kept.

    Exit code 0 if all jobs completed, 3 if some need a person, 1 if the manager died; with --once also 0 while the run
    continues.
    """
    if as_json and not once:
        raise UseError("--json is for one look: add --once")
    if brief and not as_json:
        raise UseError("--brief shortens --json: add it, or leave out --brief")
    run = the_run(run_name)
    if once:
        return _once(run, as_json, brief)
    print(" ".join(checks.FIELDS), flush=True)
    try:
        return _all(babysit.follow_run(run))
    except KeyboardInterrupt:
        print(f"\nleft; {run.id} continues. Come back: wavequeue babysit --run {run.id}", file=sys.stderr)
        return INTERRUPTED


def _once(run: Run, as_json: bool, brief: bool) -> int:
    found = babysit.check_run(run, brief=brief)
    if as_json:
        print_json(babysit.as_brief(found) if brief else babysit.as_json(found))
    else:
        print(" ".join(checks.FIELDS))
        for one in found.reports:
            _tell(one)
        for text in found.problems:
            print(f"! {text}")
        print(found.counts_text)
    return _code(found.outcome) if found.outcome.over else DONE


def _all(following: Generator[CheckReport, None, Outcome]) -> int:
    """Print each check until the run ends."""
    while True:
        try:
            _tell(next(following))
        except StopIteration as end:
            return _code(end.value)


def _code(outcome: Outcome) -> int:
    """Return the exit code for a run that is over."""
    return FAILED if not outcome.finished else DONE if outcome.completed else PERSON


def _tell(one: CheckReport) -> None:
    print(checks.line(one.check), flush=True)
    for text in one.wrong:
        print(f"  ! {text}", flush=True)
    for text in one.log:
        print(f"  | {text}", flush=True)
