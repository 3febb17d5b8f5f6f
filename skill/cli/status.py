"""The verb status. It asks the hosts before it imports what shows their answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from skill.cli.options import BRIEF, JSON, RUN, UTC, the_run
from skill.common.errors import UseError
from skill.operations import run_status
from skill.runs import digest


@click.command("status", short_help="Show the status of a run.")
@RUN
@click.option("--jobs", "list_jobs", is_flag=True, help="List every job.")
@click.option(
    "--status", "statuses", metavar="STATUS", multiple=True, type=click.Choice(digest.SHOWN),
    help="List jobs with this status, such as stuck.",
)  # fmt: skip
@click.option("--phase", metavar="PHASE", help="List jobs of this phase.")
@click.option("--since", metavar="SEQ", help="List jobs that changed since --json printed this `seq`.")
@BRIEF
@UTC
@JSON
def status_verb(
    run_name: str | None,
    list_jobs: bool,
    statuses: tuple[str, ...],
    phase: str | None,
    since: str | None,
    brief: bool,
    utc: bool,
    as_json: bool,
) -> None:
    """Show the status of a run: hosts, phases, GPUs, running jobs, and jobs that need a person."""
    filtered = bool(statuses or phase or since is not None)
    if brief and (list_jobs or statuses or phase):
        raise UseError("--brief lists no jobs: leave out --jobs, --status and --phase")
    run = the_run(run_name)
    full = since is not None or (not brief and (list_jobs or filtered or as_json))
    document, alive, tail = run_status.run_status(run, full=full, meanwhile=None if as_json or brief else _prepare)
    if brief:
        _print_brief(
            run_status.as_brief(document, alive, since), digest.headline(document, alive, time.time()), as_json
        )
        return
    rows = run_status.rows(document, phase, frozenset(statuses), since)
    if as_json:
        from skill.cli.console import print_json

        print_json(run_status.as_json(run, {**document, "jobs": rows}, alive))
        return
    from skill.terminal import frame, live

    output = live.console()
    clock = live.clock(utc=utc or not output.is_terminal)
    if list_jobs or filtered:
        lines = frame.jobs_table(rows, output.width, time.time(), clock)
        print(digest.headline(document, alive, time.time()))
    else:
        scene = frame.Scene(document, digest.digest(document), alive, time.time(), tail, clock)
        lines = frame.frame(scene, output.width, None, live.marks(output))
    for line in lines:
        output.print(line, no_wrap=True, crop=False)


def _print_brief(found: Mapping[str, Any], headline: str, as_json: bool) -> None:
    if as_json:
        from skill.cli.console import print_json

        print_json(found)
    else:
        for line in run_status.brief_lines(found, headline):
            print(line)


def _prepare() -> None:
    """Import what draws the status, which is half of the start-up."""
    from skill.terminal import frame, live

    del frame
    live.console()
