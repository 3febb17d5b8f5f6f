"""`python -m queue_manager.remote.probe`: one JSON document about this host. What is unknown is null, or says
why."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from queue_manager.adapters import facts, gpus, host, host_place
from queue_manager.adapters.arguments import make_parser
from queue_manager.core.excerpt import excerpt
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.readings import Card, Cards, SickCard, Unreadable
from queue_manager.core.times import iso

_PATIENCE = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the document; `--path`: where the free disk space is asked for. Always 0, but for wrong use (2)."""
    parser = make_parser("queue_manager.remote.probe", "Describe this host in JSON.")
    parser.add_argument("--path", type=Path, default=Path.home(), help="where disk space is wanted (default: home)")
    options = parser.parse_args(arguments)
    print(json.dumps(describe(options.path), ensure_ascii=False))
    return 0


def describe(path: Path) -> dict[str, Any]:
    """The document: memory and disk in MiB, times in ISO 8601 UTC.

    `cpus` are the cores that may be used; `heartbeat` is when a manager of this user last wrote a run's state, and
    `runs` are those that a manager holds now: id and pid (0: not known). Beside `gpus` stands `gpu_note` (why there are
    none, or fewer than expected), or instead of it `gpu_unreadable`. `unreadable` says why other facts are unknown, by
    fact: memory, disk, runs.
    """
    memory, disk = host.memory(), host.disk_free_mib(path)
    why = {name: one.reason for name, one in (("memory", memory), ("disk", disk)) if isinstance(one, Unreadable)}
    heartbeat: float | None = None
    runs: list[dict[str, Any]] = []
    try:
        heartbeat, runs = _runs(host_place.here())
    except OSError as error:
        why["runs"] = f"{error.filename}: {error.strerror}"
    return {
        "host": os.uname().nodename,
        "time": iso(time.time()),
        "python": {"version": sys.version.split()[0], "executable": sys.executable},
        "cpus": host.usable_cores(),
        "load": _load(),
        "memory_mib": None if isinstance(memory, Unreadable) else memory._asdict(),
        "path": os.path.abspath(path),
        "disk_free_mib": None if isinstance(disk, Unreadable) else disk,
        "bash": _find("bash"),
        "screen": _screen(),
        "rsync": _find("rsync"),
        **gpu_fields(gpus.Nvml().read()),
        "heartbeat": iso(heartbeat),
        "runs": runs,
        "unreadable": why,
    }


def gpu_fields(cards: Cards | Unreadable) -> dict[str, Any]:
    """The document's part about the cards. A sick one has a `note` and no memory."""
    if isinstance(cards, Unreadable):
        return {"gpus": [], "gpu_unreadable": cards.reason}
    every: list[Card | SickCard] = [*cards.cards, *cards.sick]
    rows = []
    for card in sorted(every, key=lambda card: card.index):
        row: dict[str, Any] = {"index": card.index, "uuid": card.uuid, "name": card.name}
        if isinstance(card, SickCard):
            row.update(total_mib=None, used_mib=None, free_mib=None, util=None, note=card.reason)
        else:
            row.update(
                total_mib=card.total_mib, used_mib=card.used_mib, free_mib=card.free_mib, util=card.util, note=""
            )
        rows.append(row)
    return {"gpus": rows, "gpu_note": cards.note}


def _find(program: str) -> str | None:
    """The path of a program that can be run; None where there is none. (shutil.which loads much besides.)"""
    paths = (os.path.join(folder, program) for folder in os.get_exec_path())
    return next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def screen_version(text: str) -> str | None:
    """The version that `screen --version` prints; None if that is something else."""
    found = re.search(r"Screen version v?(\d+(?:\.\d+)*)", text)
    return found[1] if found else None


def _screen() -> dict[str, str | None] | None:
    """Where screen is and its version, or instead of that its `fault`; None where there is none."""
    path = _find("screen")
    if path is None:
        return None
    try:
        # screen 4 exits with 1 here.
        done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"path": path, "version": None, "fault": str(error)}
    version = screen_version(done.stdout.decode(errors="replace"))
    if version is not None:
        return {"path": path, "version": version}
    output = excerpt((done.stdout + b"\n" + done.stderr).decode(errors="replace")) or f"exit code {done.returncode}"
    return {"path": path, "version": None, "fault": output}


def _load() -> list[float] | None:
    try:
        return [round(value, 2) for value in os.getloadavg()]
    except OSError:
        return None


def _runs(paths: HostPaths) -> tuple[float | None, list[dict[str, Any]]]:
    """When a manager last wrote a run's state, in epoch seconds, and the runs that a manager holds. Raises OSError."""
    times, held = [], []
    try:
        there = sorted(paths.runs.iterdir())
    except FileNotFoundError:
        return None, []
    for run in there:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            times.append(RunPaths.of(run).state.stat().st_mtime)
        pid = facts.held_by(RunPaths.of(run).lock)
        if pid is not None:
            held.append({"id": run.name, "pid": pid})
    return max(times, default=None), held


if __name__ == "__main__":
    sys.exit(main())
