"""Run a spec on a rented machine in a process that goes on when the caller ends."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from skill.common.files import SHOWN, append_to, make_directory
from skill.common.project import ProjectPaths, locate_workers
from skill.runs import logs

_PAUSE = 0.1


class Detached(NamedTuple):
    """A process that was started. `log`: what it prints; `code`: its exit code, where it has ended already; `last`: the
    last line that it printed."""

    pid: int
    log: Path
    code: int | None
    last: str


def detach_up(spec: str, max_cost: float, profile: str | None, patience: float) -> Detached:
    """Start `wavequeue up` for a spec file, and look after it for `patience` seconds: what fails at once is reported.
    Raises OSError."""
    log = ProjectPaths.of(locate_workers()).up_log
    make_directory(log.parent)
    chosen = [] if profile is None else ["--profile", profile]
    command = ["up", spec, "--yes", "--max-cost", f"{max_cost:g}", *chosen]
    with append_to(log, SHOWN) as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "skill", *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    until = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < until:
        time.sleep(_PAUSE)
    return Detached(process.pid, log, process.returncode, logs.last_line(log) or "")
