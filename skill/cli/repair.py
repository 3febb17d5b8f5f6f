"""The verb repair: recover a run whose journal is damaged or lost."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from skill.cli.console import ask_first, print_json
from skill.cli.options import JSON, the_run
from skill.common.errors import DONE, FAILED
from skill.operations import repair_run
from skill.runs import repair

if TYPE_CHECKING:
    from skill.operations.repair_run import Answers
    from skill.runs.directory import Run


@click.command("repair", short_help="Show what can be recovered of a damaged run, then repair it.")
@click.argument("run_name", required=False, metavar="[RUN]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def repair_verb(run_name: str | None, yes: bool, as_json: bool) -> int:
    """Show what can be recovered of a run whose journal or state is damaged or lost, and write a new journal after a
    confirmation.

    The journal is rebuilt from intact lines, the snapshot, and what attempts left: exit records, logs, outputs. The
    damaged files are kept beside the new ones. A job that may have completed does not run again: it waits for you where
    that is unknown. RUN is a run's name, the beginning of it, or its directory.
    """
    run = the_run(run_name)
    found = repair_run.repair_run(run)
    _show(run, found, as_json and not yes)
    failed = FAILED if repair_run.hosts_without_answer(found) else DONE
    if not repair_run.hosts_to_repair(found) or (as_json and not yes):
        return failed
    ask_first(f"write a new journal for {run.id}?", yes=yes)
    done = repair_run.repair_run(run, do=True)
    _show(run, done, as_json)
    if not as_json:
        print(f"{run.id}: continue it with: wavequeue resume --run {run.id}")
    return FAILED if repair_run.hosts_without_answer(done) else DONE


def _show(run: Run, found: Answers, as_json: bool) -> None:
    if as_json:
        print_json({"run_id": run.id, "hosts": {name: {"fault": one} if isinstance(one, str) else one
                                                for name, one in found.items()}})  # fmt: skip
        return
    for name, one in found.items():
        whose = run.id if name == repair.HERE else f"{run.id}: {name}"
        if isinstance(one, str):
            print(f"wavequeue: {whose}: {one}", file=sys.stderr)
        else:
            print("\n".join(repair.lines(whose, one)))
