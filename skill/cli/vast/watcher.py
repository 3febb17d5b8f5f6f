"""Verbs about the watcher: vast watcher start, stop, status, log."""

from __future__ import annotations

import click

from skill.cli.console import print_json, print_table
from skill.cli.options import JSON
from skill.common.errors import DONE
from skill.common.project import locate_workers
from skill.common.units import usd


@click.group("watcher", short_help="Rent cheap offers in the background, within limits.")
def watcher() -> None:
    """Look for cheap offers in the background, and rent them as workers, within the limits of vast.yaml.

    Each project has one watcher. It reads its rules again before each check, so changes need no restart.
    """


@watcher.command("start", short_help="Start the watcher.")
@click.option("--dry-run", is_flag=True, help="Log what it would rent, and rent nothing.")
def start(dry_run: bool) -> int:
    """Start the watcher, and return. It keeps running when you log out, until vast watcher stop or a restart of this
    machine."""
    from skill.operations import control_watcher

    pid, rules = control_watcher.start_watcher(locate_workers(), dry_run=dry_run)
    what = "watches, and rents nothing" if dry_run else f"rents what costs at most ${rules.max_dph:g} an hour"
    print(f"process {pid} {what}; it checks every {rules.every:g} s\nwhat it does: wavequeue vast watcher log")
    return DONE


@watcher.command("stop", short_help="Stop the watcher.")
def stop() -> int:
    """Stop the watcher, and wait until it has stopped. Machines that it rented are kept and are still billed."""
    from skill.operations import control_watcher

    ended = control_watcher.stop_watcher(locate_workers())
    if ended is None:
        print("no watcher is running")
    else:
        print(f"the watcher has stopped ({ended}); what it rented is still billed: wavequeue vast instances")
    return DONE


@watcher.command("status", short_help="Show whether it runs, and its rules.")
@JSON
def status(as_json: bool) -> None:
    """Show whether it is running, its last check, and its rules with the source of each. Sends no request."""
    from skill.fleet import watch_rules
    from skill.operations import control_watcher

    runs, state, rules, sources, rented, cost = control_watcher.watcher_status(locate_workers())
    if as_json:
        print_json(
            {
                "runs": runs,
                "pid": state.get("pid") if runs else None,
                "since": state.get("since") if runs else None,
                "dry_run": state.get("dry_run") if runs else None,
                "looked": state.get("looked"),
                "outcome": state.get("outcome"),
                "rules": watch_rules.document(rules, sources),
                "rented": rented,
                "cost_usd": round(cost, 6),
            }
        )
        return
    watches = f"a watcher is running: {control_watcher.describe(state)}"
    dry = ", and rents nothing (--dry-run)" if state.get("dry_run") else ""
    print(f"{watches}{dry}" if runs else "no watcher is running; start one: wavequeue vast watcher start")
    if state.get("looked"):
        print(f"last check: {state['looked']}: {state.get('outcome')}")
    print(f"rented: {rented}, for {usd(cost)} until now")
    print_table([
        ["rule", "value", "from"],
        *([name, _shown(value), sources[name]] for name, value in rules._asdict().items()),
    ])  # fmt: skip


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


@watcher.command("log", short_help="Show what it did.")
@click.option("-n", "count", type=click.IntRange(min=1), default=40, metavar="N", help="Number of lines (default: 40).")
def log_verb(count: int) -> None:
    """Show the last lines of its log: what it rented, near misses, and why. Times are in UTC."""
    from skill.operations import control_watcher

    lines = control_watcher.watcher_log(locate_workers(), count)
    for line in lines:
        print(line)
    if not lines:
        print("no watcher has run yet")
