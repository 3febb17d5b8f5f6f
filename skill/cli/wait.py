"""The verb wait."""

from __future__ import annotations

import sys
import time

import click

from skill.cli.console import print_json
from skill.cli.options import JSON, RUN, the_run, time_option
from skill.common.errors import DONE, FAILED, PROBLEM, TIMEOUT
from skill.operations import wait_run
from skill.runs import digest

_MOST_LINES = 20
"""Lines about what is wrong."""


@click.command("wait", short_help="Wait for the end of a run, or for a new problem in it.")
@RUN
@click.option("--timeout", callback=time_option, metavar="TIME", help="Wait for TIME at most, such as 9m.")
@JSON
def wait_verb(run_name: str | None, timeout: float | None, as_json: bool) -> int:
    """Wait until a run ends, or until something new goes wrong in it: a job is stuck or unhealthy, a host is lost.

    Exit code 0 if all jobs completed, 3 if some need a person, 1 if its manager has died; and while the run goes on 4
    for a new problem and 124 for --timeout. What was wrong before is shown, but not waited for. What may pass by
    itself, such as a host that does not answer, counts once it has lasted for 30 s.
    """
    run = the_run(run_name)
    found = wait_run.wait_run(run, timeout)
    finished = found.document["meta"]["manager"] == "finished"
    code = {wait_run.PROBLEM: PROBLEM, wait_run.TIMEOUT: TIMEOUT}.get(found.why, FAILED)
    if found.why == wait_run.ENDED and finished:
        code = digest.exit_code(found.document)
    if as_json:
        print_json(wait_run.as_json(found, run.id, code))
        return code
    print(digest.headline(found.document, found.alive, time.time()))
    print(f"  {digest.counts_text(digest.counts(found.document))}")
    ranked = sorted(found.problems, key=lambda text: text not in found.new)
    for text in ranked[:_MOST_LINES]:
        print(f"{'new: ' if text in found.new else ''}{text}")
    if len(ranked) > _MOST_LINES:
        print(f"and {len(ranked) - _MOST_LINES} more")
    if code not in (DONE, TIMEOUT):
        print(f"look at it: wavequeue status --run {run.id}", file=sys.stderr)
    return code
