"""Start, stop and inspect the watcher of a project, which rents cheap offers in the background."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from skill.common.errors import FailedError
from skill.common.files import SHOWN, append_to, make_directory
from skill.common.project import ProjectPaths
from skill.fleet import ledger, ledger_file, settings, ssh_key, watcher
from skill.fleet.provider import connected
from skill.fleet.watch_rules import Rules
from skill.runs import logs

_PATIENCE = 15.0
"""Seconds to wait for the watcher to start, and to stop."""
_PAUSE = 0.05


class Started(NamedTuple):
    """A watcher that was started: its process and its rules."""

    pid: int
    rules: Rules


def start_watcher(where: Path, *, dry_run: bool = False) -> Started:
    """Start the watcher for the project of workers.yaml (`where`). It keeps running when the caller ends.

    `dry_run`: log what would be rented, and rent nothing. Raises UseError, and FailedError where one is running already
    or does not start.
    """
    rules, _ = settings.read_rules(where)
    chosen = settings.read_renting(where)
    with connected():
        pass
    if not dry_run:
        ssh_key.find_key(chosen.key)
    files = ProjectPaths.of(where)
    make_directory(files.watcher_lock.parent)
    if watcher.is_held(files):
        raise FailedError(
            f"a watcher is already running ({describe(watcher.read_state(files))}); first: wavequeue vast watcher stop"
        )
    with append_to(files.watcher_log, SHOWN) as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "skill.fleet.watcher", str(where.absolute()), *(["--dry-run"] if dry_run else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + _PATIENCE
    while watcher.read_state(files).get("pid") != process.pid:
        if process.poll() is not None or time.monotonic() > until:
            last = logs.last_line(files.watcher_log) or "no output"
            raise FailedError(f"the watcher did not start: {last}; see {files.watcher_log}")
        time.sleep(_PAUSE)
    return Started(process.pid, rules)


def stop_watcher(where: Path) -> str | None:
    """Stop the watcher and wait for its end. Machines that it rented are kept. Returns a description of its process,
    None where none is running. Raises FailedError where it cannot be stopped."""
    files = ProjectPaths.of(where)
    if not watcher.is_held(files):
        return None
    state = watcher.read_state(files)

    def is_there() -> bool:
        return watcher.identity(state.get("pid", 0)) == (state.get("start"), state.get("boot"))

    for number in (signal.SIGTERM, signal.SIGKILL):
        # Only the process that wrote this: another process may have its PID now.
        if not is_there():
            break
        os.kill(state["pid"], number)
        until = time.monotonic() + _PATIENCE
        while is_there() and time.monotonic() < until:
            time.sleep(_PAUSE)
        if not is_there():
            return describe(state)
    raise FailedError(f"a watcher holds {files.watcher_lock}, and could not be stopped ({describe(state)})")


class WatcherStatus(NamedTuple):
    """Whether a watcher `runs`, its last `state`, its rules with the source of each value, and what it rented: the
    number of machines, and their cost in $ so far."""

    runs: bool
    state: Mapping[str, Any]
    rules: Rules
    sources: Mapping[str, str]
    rented: int
    cost: float


def watcher_status(where: Path) -> WatcherStatus:
    """Return the status of a project's watcher. Sends no request. Raises UseError."""
    rules, sources = settings.read_rules(where)
    files = ProjectPaths.of(where)
    mine = [
        one
        for one in ledger_file.rentals(where).values()
        if one.purpose == watcher.PURPOSE and one.instance_id is not None
    ]
    runs, state = watcher.is_held(files), watcher.read_state(files)
    return WatcherStatus(runs, state, rules, sources, len(mine), ledger.spent(mine, time.time()))


def watcher_log(where: Path, count: int) -> list[str]:
    """Return the last lines of the watcher's log; none where it has never run."""
    try:
        return logs.plain(logs.tail(ProjectPaths.of(where).watcher_log, count)).splitlines()
    except FileNotFoundError:
        return []


def describe(state: Mapping[str, Any]) -> str:
    """Describe the process of a watcher."""
    return f"process {state.get('pid')}, since {state.get('since')}"
