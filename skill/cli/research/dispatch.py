"""Verbs that bring runs to workers and look at them: research dispatch-runs, check-runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from skill.cli.console import print_json, print_table, say
from skill.cli.options import JSON
from skill.common.errors import DONE, FAILED
from skill.common.project import locate_workers

if TYPE_CHECKING:
    from skill.operations.check_runs import Checked, Outcome


@click.command("dispatch-runs", short_help="Start pending runs on workers that have room.")
@click.option("--worker-pool", "pool", metavar="POOL", help="Only workers of this pool, and runs that may run there.")
@click.option("--no-reconcile", is_flag=True, help="Do not first compare rented workers with Vast.ai.")
@JSON
def dispatch_runs(pool: str | None, no_reconcile: bool, as_json: bool) -> int:
    """Start pending runs on enabled workers: the highest priority first, then the oldest; one run for each free GPU.

    Each worker gets an ordinary run of wavequeue, to which later runs are added. Runs for which there is no room stay
    pending. Safe to repeat, to run twice at once, and to kill: no run is started twice.
    """
    from skill.operations import dispatch_runs as operation

    found = operation.dispatch_runs(locate_workers(), pool, reconcile=not no_reconcile, say=say)
    if as_json:
        rows = [one._asdict() for one in found.dispatched]
        print_json({"dispatched": rows, "waiting": found.waiting, "left": found.left, "notes": found.notes})
    else:
        for one in found.dispatched:
            print(f"dispatched {one.id} → {one.worker}")
        for line in found.left:
            print(line)
        for note in found.notes:
            say(note)
        print(f"{len(found.dispatched)}/{found.waiting} dispatched")
    return FAILED if found.faults else DONE


@click.command("check-runs", short_help="Look at dispatched runs, and collect their metrics.")
@JSON
def check_runs(as_json: bool) -> int:
    """Ask the workers what became of their runs, and write it into the queue; new metrics go to the evidence.

    A worker that cannot be reached is unknown: its runs stay as they were.
    """
    from skill.operations import check_runs as operation

    found = operation.check_runs(locate_workers())
    if as_json:
        runs = [_document(one) for one in found.checked]
        print_json({"runs": runs, "records": found.records, "new_evidence": sum(map(len, found.fresh.values()))})
        return DONE
    if found.checked:
        head = ["run", "worker", "state", "exit", "finished", "metrics", "last line"]
        print_table([head, *map(_cells, found.checked)])
    _summary(found)
    return DONE


def _document(one: Checked) -> dict[str, Any]:
    record = one.record
    metrics = dict(one.found.metrics) if one.found else {}
    errors = dict(one.found.errors) if one.found else {}
    more = {"unknown": one.unknown or None, "last_line": one.line or None, "metrics": metrics, "metric_errors": errors}
    return {key: record.get(key) for key in ("id", "project", "worker", "run", "state", "exit_code", "finished")} | more


def _cells(one: Checked) -> list[str]:
    record = one.record
    code = record.get("exit_code")
    finished = record.get("finished", "-")[:19].replace("T", " ")
    metrics = ", ".join(f"{name}={value:.4g}" for name, value in one.found.metrics.items()) if one.found else ""
    state = "unknown" if one.unknown else record["state"]
    line = one.unknown or record.get("error", "") or one.line
    return [record["id"], record["worker"], state, "-" if code is None else str(code), finished, metrics or "-", line]


def _summary(found: Outcome) -> None:
    counts: dict[str, int] = {}
    for one in found.checked:
        state = "unknown" if one.unknown else one.record["state"]
        counts[state] = counts.get(state, 0) + 1
        if one.found is not None:
            for name, why in one.found.errors.items():
                print(f"{one.record['id']}: no metric {name}: {why}")
    summary = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no run is on a worker"
    fresh = ", ".join(f"{len(lines)} new in research/{name}/evidence" for name, lines in found.fresh.items() if lines)
    print(summary + (f"; {fresh}" if fresh else ""))
