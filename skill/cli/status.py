"""The verb status. It asks the hosts before it imports what shows their answers."""

from __future__ import annotations

import time

import click

from skill.cli.options import JSON, RUN, the_run
from skill.operations import run_status
from skill.runs import digest


@click.command("status", short_help="Show the status of a run.")
@RUN
@click.option("--jobs", "list_jobs", is_flag=True, help="List every job.")
@click.option(
    "--status", "statuses", metavar="STATUS", multiple=True, type=click.Choice(digest.ORDER),
    help="List jobs with this status, such as stuck.",
)  # fmt: skip
@click.option("--phase", metavar="PHASE", help="List jobs of this phase.")
@JSON
def status_verb(
    run_name: str | None, list_jobs: bool, statuses: tuple[str, ...], phase: str | None, as_json: bool
) -> None:
    """Show the status of a run: hosts, phases, GPUs, running jobs, and jobs that need a person."""
    run = the_run(run_name)
    filtered = bool(statuses or phase)
    full = list_jobs or filtered or as_json
    document, alive, tail = run_status.run_status(run, full=full, meanwhile=None if as_json else _prepare)
    rows = run_status.rows(document, phase, frozenset(statuses)) if filtered else document["jobs"]
    if as_json:
        from skill.cli.console import print_json

        print_json(run_status.as_json(run, {**document, "jobs": rows}, alive))
        return
    from skill.terminal import frame, live

    output = live.console()
    if list_jobs or filtered:
        lines = frame.jobs_table(rows, output.width, time.time())
        print(digest.headline(document, alive, time.time()))
    else:
        scene = frame.Scene(document, digest.digest(document), alive, time.time(), tail)
        lines = frame.frame(scene, output.width, None, live.marks(output))
    for line in lines:
        output.print(line, no_wrap=True, crop=False)


def _prepare() -> None:
    """Import what draws the status, which is half of the start-up."""
    from skill.terminal import frame, live

    del frame
    live.console()
