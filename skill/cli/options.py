"""Arguments and options that several verbs share, and the run that --run selects."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from skill.common.errors import UseError
from skill.operations.find_run import find_run, is_near

if TYPE_CHECKING:
    from skill.operations.build_spec import Given
    from skill.runs.directory import Run


def _file_of_commands(_context: click.Context, _parameter: click.Parameter, value: str) -> Given:
    """Read the argument SPEC, which may be a file of commands in its place."""
    from skill.operations import make_spec  # what has a spec to read can pay for it

    return make_spec.of_file(value) if make_spec.is_made(value) else value


SPEC = click.argument("spec", metavar="SPEC", callback=_file_of_commands)
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
AGAIN = click.option("--again", is_flag=True, help="Run all jobs even if their outputs exist or the same run is live.")
SKIP_DONE = click.option("--skip-done", is_flag=True, help="Skip jobs whose outputs exist and are newer than the code.")
POLL = click.option(
    "--poll", type=click.FloatRange(0.01, 3600), metavar="SEC", help="Seconds between checks of the GPUs (default: 5)."
)
BRIEF = click.option("--brief", is_flag=True, help="Print a few KB at most, however many jobs there are.")
UTC = click.option("--utc", is_flag=True, help="Show times in UTC only, not the local time beside it.")
YES = click.option("--yes", is_flag=True, help="Do not ask.")
RUN = click.option(
    "--run", "run_name", metavar="RUN", help="The run: its name, the beginning of its name, or its directory."
)
HOSTS = click.option(
    "--host", "names", metavar="NAME", multiple=True, help="Use this host; may be given several times."
)
ENGINE = click.option(
    "--engine",
    type=click.Choice(["hosts", "slurm"]),
    default="hosts",
    help="hosts (default): wavequeue assigns the GPUs. slurm: jobs go to Slurm, from here or the login node --host.",
)
MANAGER = click.option(
    "--manager",
    type=click.Choice(["login", "job"]),
    help="With Slurm, where the manager runs. login (default): here or on --host. job: as a job of one core.",
)
POOL = click.option("--pool", metavar="POOL", help="Use all enabled hosts of this pool.")


def time_option(_context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Parse an option such as 90s, 30m, 2h or 1d into seconds. Raises UseError."""
    from build_manifest.values import seconds  # hardly ever is one given

    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise UseError(f"{parameter.opts[0]} {value}: {error}") from None


def the_run(name: str | None) -> Run:
    """Return the run given by --run, or the newest one; say which it is where it lies in another directory."""
    run = find_run(name)
    if name is None and not is_near(run):
        print(f"wavequeue: no run here; this is your newest: {run.id} in {run.root.parent.parent}", file=sys.stderr)
    return run
