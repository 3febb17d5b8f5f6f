"""The verb repair: a run whose journal is damaged or lost goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from skill.cli.console import ask_first, print_json
from skill.cli.options import JSON, the_run
from skill.common.errors import DONE, FAILED
from skill.hosts.connection import Unreachable
from skill.runs import repair
from skill.runs.directory import Run
from skill.runs.open import on_hosts

Ask = Callable[[bool], "dict[str, dict[str, Any] | str]"]


@click.command("repair", short_help="Repair a run whose journal is damaged; shows first what can be recovered.")
@click.argument("run_name", required=False, metavar="[RUN]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def repair_verb(run_name: str | None, yes: bool, as_json: bool) -> int:
    """Show what can be had of a run whose journal or state is damaged or lost, and after a yes write a new journal.

    It is put together from whole lines, the snapshot, and what attempts left: exit records, logs, outputs. The damaged
    files are kept beside the new ones. A job that may have completed is not run again: where that cannot be told, it
    waits for you. RUN is a run's name, the beginning of it, or its directory.
    """
    run = the_run(run_name)
    with _asking(run) as ask:
        found = ask(False)
        _show(run, found, as_json and not yes)
        needed = [name for name, one in found.items() if isinstance(one, dict) and repair.is_needed(one)]
        failed = FAILED if any(isinstance(one, str) for one in found.values()) else DONE
        if not needed or (as_json and not yes):
            return failed
        ask_first(f"write a new journal for {run.id}?", yes=yes)
        done = ask(True)
        _show(run, done, as_json)
    if not as_json:
        print(f"{run.id}: it goes on with: wavequeue resume --run {run.id}")
    return FAILED if any(isinstance(one, str) for one in done.values()) else DONE


@contextlib.contextmanager
def _asking(run: Run) -> Iterator[Ask]:
    """How the run is asked: by whether to do it, the answer of this machine or of each host, or why there is none."""
    if not on_hosts(run):
        yield lambda do: {repair.HERE: repair.ask_here(run, do=do)}
        return
    from skill.runs.remote import RemoteRun

    with RemoteRun.at(run) as there:

        def ask(do: bool) -> dict[str, dict[str, Any] | str]:
            def one(name: str) -> dict[str, Any] | str | Unreachable:
                return there.call(name, repair.request(do=do), repair.PATIENCE)

            answers = there.each(one, repair.PATIENCE)
            return {name: said.reason if isinstance(said, Unreachable) else said for name, said in answers.items()}

        yield ask


def _show(run: Run, found: dict[str, dict[str, Any] | str], as_json: bool) -> None:
    if as_json:
        print_json({"run_id": run.id, "hosts": {name: one if isinstance(one, dict) else {"fault": one}
                                                for name, one in found.items()}})  # fmt: skip
        return
    for name, one in found.items():
        whose = run.id if name == repair.HERE else f"{run.id}: {name}"
        if isinstance(one, str):
            print(f"wavequeue: {whose}: {one}", file=sys.stderr)
        else:
            print("\n".join(repair.lines(whose, one)))
