"""Verbs about the watcher: vast watcher start, stop, status, log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from skill.cli.console import print_json
from skill.cli.options import JSON
from skill.common.errors import DONE, FailedError
from skill.common.files import SHOWN, append_to, make_directory
from skill.common.text_table import columns
from skill.runs import logs
from skill.terminal import live

_PATIENCE = 15.0
"""Seconds for it to begin, and to end."""
_PAUSE = 0.05


@click.group("watcher", short_help="Rent cheap offers in the background, within limits.")
def watcher() -> None:
    """Look for cheap offers in the background, and rents them as workers, within limits that stand in vast.yaml.

    One for each project. It reads its rules anew for each look, so that a change needs no restart.
    """


@watcher.command("start", short_help="Start the watcher.")
@click.option("--dry-run", is_flag=True, help="Log what it would rent, and rent nothing.")
def start(dry_run: bool) -> int:
    """Begin to watch, and return. It goes on when you log out, until vast watcher stop, or until this machine stops."""
    from skill.fleet import settings, ssh_key
    from skill.fleet import watcher as watching
    from skill.hosts import registry
    from skill.providers.vast import client as vast

    where = registry.locate(Path.cwd())
    rules, _ = settings.read_rules(where)
    chosen = settings.read_renting(where)
    vast.connect().close()
    if not dry_run:
        ssh_key.find_key(chosen.key)
    files = watching.Files.of(where)
    make_directory(files.lock.parent)
    if watching.is_held(files):
        raise FailedError(
            f"a watcher runs already ({_who(watching.read_state(files))}); first: wavequeue vast watcher stop"
        )
    with append_to(files.log, SHOWN) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skill.fleet.watcher", str(where.absolute()), *(["--dry-run"] if dry_run else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _PATIENCE
    while watching.read_state(files).get("pid") != process.pid:
        if process.poll() is not None or time.monotonic() > until:
            raise FailedError(f"no watcher was started: {_last(files.log)}; see {files.log}")
        time.sleep(_PAUSE)
    what = "watches, and rents nothing" if dry_run else f"rents what costs at most ${rules.max_dph:g} an hour"
    print(f"process {process.pid} {what}; it looks every {rules.every:g} s\nwhat it does: wavequeue vast watcher log")
    return DONE


def _who(state: dict[str, Any]) -> str:
    return f"process {state.get('pid')}, since {state.get('since')}"


def _last(log: Path) -> str:
    return logs.last_line(log) or "it said nothing"


@watcher.command("stop", short_help="Stop the watcher.")
def stop() -> int:
    """End the watcher, and wait until it has ended. What it rented is left as it is, and goes on billing."""
    from skill.fleet import watcher as watching
    from skill.hosts import registry

    files = watching.Files.of(registry.locate(Path.cwd()))
    if not watching.is_held(files):
        print("no watcher runs")
        return DONE
    state = watching.read_state(files)

    def is_there() -> bool:
        return watching.identity(state.get("pid", 0)) == (state.get("start"), state.get("boot"))

    for number in (signal.SIGTERM, signal.SIGKILL):
        # Only the process that wrote this: its number may be somebody else's by now.
        if not is_there():
            break
        os.kill(state["pid"], number)
        until = time.monotonic() + _PATIENCE
        while is_there() and time.monotonic() < until:
            time.sleep(_PAUSE)
        if not is_there():
            print(f"the watcher has ended ({_who(state)}); what it rented goes on billing: wavequeue vast instances")
            return DONE
    raise FailedError(f"a watcher holds {files.lock}, and could not be ended ({_who(state)})")


@watcher.command("status", short_help="Show whether it runs, and its rules.")
@JSON
def status(as_json: bool) -> None:
    """Show whether it runs, its last look, and its rules with where each is from. Asks nobody."""
    from skill.fleet import ledger as book
    from skill.fleet import ledger_file, settings, watch_rules
    from skill.fleet import watcher as watching
    from skill.hosts import registry

    where = registry.locate(Path.cwd())
    rules, sources = settings.read_rules(where)
    files = watching.Files.of(where)
    runs, state = watching.is_held(files), watching.read_state(files)
    mine = [
        one
        for one in ledger_file.rentals(where).values()
        if one.purpose == watching.PURPOSE and one.instance_id is not None
    ]
    cost = book.spent(mine, time.time())
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
                "rented": len(mine),
                "cost_usd": round(cost, 6),
            }
        )
        return
    dry = ", and rents nothing (--dry-run)" if state.get("dry_run") else ""
    print(f"a watcher runs: {_who(state)}{dry}" if runs else "no watcher runs; start one: wavequeue vast watcher start")
    if state.get("looked"):
        print(f"last look: {state['looked']}: {state.get('outcome')}")
    print(f"rented: {len(mine)}, for {book.usd(cost)} until now")
    rows = [
        ["rule", "value", "from"],
        *([name, _shown(value), sources[name]] for name, value in rules._asdict().items()),
    ]
    output = live.console()
    for line in columns(rows, output.width, head=True):
        output.print(line, no_wrap=True, crop=False)


def _shown(value: object) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


@watcher.command("log", short_help="Show what it did.")
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=40, metavar="N", help="So many lines; 40 unless you say."
)
def log_verb(count: int) -> None:
    """Show the last lines of its log: what it rented, what it only just passed over, and why. Times are in UTC."""
    from skill.fleet import watcher as watching
    from skill.hosts import registry

    files = watching.Files.of(registry.locate(Path.cwd()))
    try:
        lines = logs.plain(logs.tail(files.log, count)).splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        print(line)
    if not lines:
        print("no watcher has run yet")
