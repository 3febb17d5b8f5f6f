"""The verb rescue: give up a host and run its jobs elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import ask_first, print_json, say
from skill.cli.options import JSON, RUN, the_run
from skill.common.errors import DONE, FAILED, UseError
from skill.operations import rescue_text

if TYPE_CHECKING:
    from skill.operations.rescue import Done, Plan
    from skill.runs.directory import Run


@click.command("rescue", short_help="Give up a lost host and run its jobs on others.")
@click.argument("run", required=False, metavar="[RUN]")
@RUN
@click.option("--from", "lost", metavar="HOST", help="The lost host. Without it: the jobs that ask for another host.")
@click.option(
    "--host", "names", metavar="NAME", multiple=True, help="A host that gets its jobs; may be given several times."
)
@click.option("--pool", metavar="POOL", help="Give its jobs to all enabled hosts of this pool.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def rescue_verb(
    run: str | None,
    run_name: str | None,
    lost: str | None,
    names: tuple[str, ...],
    pool: str | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Give up a lost host, and run elsewhere what had not completed there.

    Jobs that completed there and were pulled are not run again. The others go to the other hosts of the run unless you
    name some. If the host comes back, its manager stops what was moved. If the command is interrupted, run it again to
    continue.

    Without --from, jobs whose `recover` has come to `other_host` run on another host; `babysit` does that by itself.
    """
    from skill.operations import rescue

    if run is not None and run_name is not None:
        raise UseError("give RUN or --run, not both")
    meant = the_run(run or run_name)
    if lost is None:
        return _elsewhere(meant, names, pool, yes=yes, as_json=as_json)

    def agree(made: Plan) -> None:
        print("\n".join(rescue_text.before(meant.id, made)), file=sys.stderr)
        ask_first(f"give up {lost} and move its jobs?", yes=yes)

    made, done = rescue.move(meant, lost, names, pool, agree, say)
    if as_json:
        print_json(_document(meant, lost, made, done))
    elif made is None and not done.outcomes and not done.failed:
        print(f"{meant.id}: {lost} was already given up; nothing to do")
    else:
        print("\n".join(rescue_text.after(meant.id, lost, made, done)))
        print(f"follow it: wavequeue watch --run {meant.id}")
    for text in rescue_text.faults(meant.id, lost, done):
        say(text)
    return FAILED if done.failed else DONE


def _elsewhere(meant: Run, names: tuple[str, ...], pool: str | None, *, yes: bool, as_json: bool) -> int:
    """Move the jobs that ask for another host."""
    from skill.operations import recover_elsewhere

    def agree(made: Plan) -> None:
        print("\n".join(recover_elsewhere.before(made)), file=sys.stderr)
        ask_first("move these jobs?", yes=yes)

    moves = recover_elsewhere.move(meant, names, pool, agree, say)
    lines = recover_elsewhere.after(moves) or [f"{meant.id}: no job asks for another host; a lost one: --from HOST"]
    if as_json:
        shares = [{host: list(jobs) for host, jobs in made.shares.items()} for made in moves.plans]
        print_json({"run_id": meant.id, "moved": shares, "text": lines})
    else:
        print("\n".join(lines))
    return FAILED if moves.done.failed or moves.why_not else DONE


def _document(run: Run, lost: str, made: Plan | None, done: Done) -> dict[str, Any]:
    """Return what `rescue --json` prints. The plan is null where the rescue had been begun before."""
    hosts = [{"name": one.host, "jobs": one.jobs, "fault": one.fault} for one in done.outcomes]
    relayed = [{"to": one.dst, "jobs": list(one.jobs), "files": one.files, "fault": one.fault} for one in done.relayed]
    planned = None if made is None else {name: list(jobs) for name, jobs in made.moving._asdict().items()}
    return {"run_id": run.id, "from": lost, "jobs": planned, "hosts": hosts, "carried": relayed}
