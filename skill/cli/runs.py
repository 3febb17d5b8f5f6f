"""Verbs about all runs: ls, rm, gc."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from build_manifest.faults import listed
from queue_manager.core.times import duration
from skill.cli.console import ask_first, print_json, print_table, say
from skill.cli.options import JSON, YES, time_option
from skill.common.errors import DONE, FAILED, FailedError, UseError
from skill.common.units import count_text, size_text, usd
from skill.operations import list_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skill.operations.list_runs import ListedRun
    from skill.operations.remove_runs import Candidate

_OLD = "30d"


@click.command("ls", short_help="List runs, here and on hosts.")
@click.option("--all", "everything", is_flag=True, help="List also the older runs that have ended.")
@JSON
def ls(everything: bool, as_json: bool) -> None:
    """List runs: those of this directory, of its project, and all that you started on or from this machine.

    Hosts are not asked: a run on hosts is shown as it was when somebody last looked at it, with the age of that. The
    newest runs come first. A run is meant by its name in any verb, as with --run.
    """
    found = list_runs.list_runs(everything=everything)
    if as_json:
        print_json(list_runs.document(found))
        return
    if not found.runs:
        print("there is no run yet; start one with: wavequeue run SPEC")
        return
    now = time.time()
    head = ("run", "where", "status", "jobs", "started", "took", "ETA", "cost", "as of")
    print_table([head, *(_row(row, now) for row in found.runs)])
    for row in found.runs:
        if row.fault is not None:
            say(f"{row.run.id} cannot be read: {row.fault}")
    if found.left_out:
        print(f"and {count_text(found.left_out, 'older run')}: wavequeue ls --all")


def _row(row: ListedRun, now: float) -> tuple[str, ...]:
    total, done = sum(row.counts.values()), row.counts.get("completed", 0)
    wrong = [f"{row.counts[name]} {name}" for name in ("stuck", "blocked", "cancelled") if row.counts.get(name)]
    waiting = [f"{row.queued} queued"] if row.queued else []
    jobs = ", ".join([f"{done}/{total}", *waiting, *wrong]) if total else "-"
    end = row.finished if row.finished is not None else now if row.goes_on else None
    took = duration(end - row.started) if row.started is not None and end is not None else "-"
    return (
        row.run.id,
        listed(row.hosts, 2) if row.hosts else "here",
        row.status,
        jobs,
        "-" if row.started is None else f"{_age(now - row.started)} ago",
        took,
        "-" if row.eta_s is None else f"in {duration(row.eta_s)}",
        "-" if row.cost_usd is None else usd(row.cost_usd),
        _as_of(row),
    )


def _as_of(row: ListedRun) -> str:
    if row.fault is not None:
        return "-"
    if row.seen_s is None:
        return "never seen"
    return f"{_age(row.seen_s)} ago" if row.hosts else "now"


def _age(seconds: float) -> str:
    return f"{int(seconds // 86400)} d" if seconds >= 2 * 86400 else duration(seconds)


@click.command("rm", short_help="Remove runs that have ended, here and on hosts.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@YES
@JSON
def rm(runs: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Remove runs from this machine: their states, journals and logs. Results are not touched.

    RUN is a run's name, the beginning of it, or its directory. One that is live, whose jobs may still run, or whose
    results were not pulled from its hosts is refused. What its hosts keep of the run is removed, too.
    """
    from skill.operations import remove_runs

    found = remove_runs.named(runs)
    kept = [one for one in found if one.keep is not None]
    if kept:
        raise UseError("; ".join(f"{one.run.id} is not removed: {one.keep}" for one in kept))
    return _remove(found, yes, as_json)


@click.command("gc", short_help="Remove runs that ended long ago; asks.")
@click.option(
    "--older", callback=time_option, default=_OLD, metavar="TIME", help=f"Ended longer ago than TIME (default: {_OLD})."
)
@YES
@JSON
def gc(older: float, yes: bool, as_json: bool) -> int:
    """Remove runs that ended long ago, after showing them with their sizes. Results are not touched.

    Never removes a run that is live, whose results were not pulled from its hosts, or that cannot be read. What its
    hosts keep of a run is removed, too.
    """
    from skill.operations import remove_runs

    found = remove_runs.older(older)
    for one in found:
        if one.keep is not None:
            say(f"{one.run.id} is kept: {one.keep}")
    chosen = [one for one in found if one.keep is None]
    if chosen or as_json:
        return _remove(chosen, yes, as_json)
    print(f"nothing to remove: no run that may go ended more than {_age(older)} ago")
    return DONE


def _remove(found: Sequence[Candidate], yes: bool, as_json: bool) -> int:
    from skill.operations import remove_runs

    total = size_text(sum(one.size for one in found))
    if not as_json:
        print_table(
            [("run", "size", "directory"), *((one.run.id, size_text(one.size), str(one.run.root)) for one in found)]
        )
    if found:
        hosts = dict.fromkeys(name for one in found for name in one.hosts)
        there = f", and what is kept on {listed(hosts, 5)}" if hosts else ""
        ask_first(f"remove {count_text(len(found), 'run')}, {total}{there}?", yes=yes)
    removed, faults = [], []
    for one in found:
        try:
            remove_runs.remove(one)
            removed.append(one)
        except (FailedError, OSError) as error:
            faults.append(str(error))
    if as_json:
        gone = [{"run_id": one.run.id, "directory": str(one.run.root), "bytes": one.size} for one in removed]
        print_json({"removed": gone, "faults": faults})
    else:
        print(f"removed {count_text(len(removed), 'run')}, {size_text(sum(one.size for one in removed))}")
    for text in faults:
        say(text)
    return FAILED if faults else DONE
