"""The manager of a run on this machine: whether one is there, and starting one that outlives this command."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from build_manifest import regular_file
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import STALE_AFTER, beat_of
from queue_manager.core.manifest import Manifest, encode
from skill.common.errors import FailedError
from skill.common.files import SHOWN, append_to, try_lock
from skill.runs.digest import ELSEWHERE, GONE
from skill.runs.directory import MOST_STATE, Document, Run, parse_state, read_state
from skill.runs.local_call import call

PATIENCE = 60.0
"""Seconds for a manager to begin; it reads the whole manifest and journal first."""
_PREFLIGHT = 180.0
"""Seconds for a check; the commands of preconditions may take long."""
_START_JOB = 400.0
"""Seconds for a manager to be submitted to Slurm, which waits at a limit on jobs, and to begin."""
_MOST_LOCK = 1 << 16
_BEING_TAKEN = 2.0
"""Seconds in which a lock file without content is taken for that of a manager that is just starting."""


def is_alive(run: Run) -> bool:
    """Whether a manager holds the run."""
    try:
        with regular_file.open_regular(run.paths.lock, follow=False) as file:
            pid = _holder(file.read(_MOST_LOCK).decode("utf-8", "replace"))
            age = time.time() - os.fstat(file.fileno()).st_mtime
            if pid is None and age < _BEING_TAKEN:
                return True
            # The lock is tried only where the process may be there: a manager that begins at the same moment would
            # be refused because of us.
            if pid is not None and not _exists(pid):
                return False
            try:
                return not try_lock(file, shared=True) or (pid == 0 and _beats(run))
            except OSError:
                return True
    except FileNotFoundError:
        return False


def _beats(run: Run) -> bool:
    """Whether a manager on another machine has shown lately that it lives; a lock may not reach so far. Where our clock
    calls it gone, `goes_on` asks by that of the file server."""
    with contextlib.suppress(OSError), beat_of(run.paths.lock).open("rb") as file:
        return time.time() - os.fstat(file.fileno()).st_mtime < STALE_AFTER
    return False


def look(run: Run) -> tuple[Document, bool]:
    """The state of a run, and whether a manager holds it, or the next one is queued in Slurm. Raises UseError and
    FailedError, see runs.read_state."""
    document = read_state(run)
    alive = is_alive(run)
    if not alive and document["meta"]["manager"] == "running":
        document = read_state(run)  # it may have ended in between, and have written its last state just before
    alive = goes_on(run, document, alive)
    if not alive:
        note_gone(document)
    return document, alive


def goes_on(run: Run, document: Document, alive: bool) -> bool:
    """Whether a run goes on by itself: a manager holds it (`alive`), or the next one is queued in Slurm. Notes in the
    state on which machine it is, if not on this one, or where it waits."""
    meta = document["meta"]
    if alive or meta.get("launcher") != SLURM or meta["manager"] == "halted":
        if alive and meta.get("launcher") == SLURM and meta["host"] not in (None, socket.gethostname()):
            meta[ELSEWHERE] = meta["host"]
        return alive
    if not run.paths.manager_job.exists() and not beat_of(run.paths.lock).exists():
        return False
    found = _ask(run)
    meta["conditions"] = [*(row for row in meta["conditions"] if row["kind"] != "manager"), *found["conditions"]]
    return found["alive"] is True


_ASKED_EVERY = 10.0
"""Seconds for which an answer about the next manager counts."""
_asked: dict[Path, tuple[float, dict[str, Any]]] = {}


def _ask(run: Run) -> dict[str, Any]:
    """What the run's directory and Slurm say of a manager that does not hold the run here."""
    at, found = _asked.get(run.root, (-_ASKED_EVERY, {}))
    if time.monotonic() - at >= _ASKED_EVERY:
        found = call("control", str(run.root), stdin='{"op": "manager"}', patience=_PREFLIGHT)
        if "fault" in found:
            raise FailedError(f"run {run.id}: {found['fault']}")
        _asked[run.root] = time.monotonic(), found
    return found


def note_gone(document: Document) -> None:
    """Note in the state of a run without a manager how many of the jobs that it left running have no session."""
    if document["meta"].get("launcher") == SLURM:  # whether they run is known to Slurm alone
        return
    running = [(row["screen_pid"], row["screen_name"]) for row in document["jobs"] if row["status"] == "running"]
    document["meta"][GONE] = sum(pid is not None and not is_session(pid, name or "") for pid, name in running)


def is_session(pid: int, name: str) -> bool:
    """Whether a process leads the session of this name: its command line has that for a word, whatever the launcher."""
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _holder(text: str) -> int | None:
    """The process that a lock file names; 0 where it is on another machine, None where it names none."""
    try:
        data = json.loads(text)
        return int(data["pid"]) if data["host"] == socket.gethostname() else 0
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _exists(pid: int) -> bool:
    if pid == 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def build_command(run: Run, poll: float | None) -> list[str]:
    """The command that runs the manager of a run. `poll` in seconds; None leaves it at the manager's default."""
    paths = run.paths
    command = [
        sys.executable, "-m", "queue_manager", "--manifest", str(paths.manifest), "--state", str(paths.state),
        "--log-dir", str(paths.log_dir), "--run-id", run.id,
    ]  # fmt: skip
    return command if poll is None else [*command, "--poll", f"{poll:g}"]


JOB = "job"
"""Where a manager runs: as a job of Slurm."""


def start(run: Run, poll: float | None = None, where: str | None = None) -> int:
    """Start the manager of a run, detached from this terminal, and wait until it has taken the run. `where`: `login` is
    this machine, `job` a job of Slurm; None: as it was started before.

    Returns its process id; 0 for a job of Slurm that waits. Raises FailedError with what it said if it gave up.
    """
    if where == JOB or (where is None and run.paths.manager_job.exists()):
        _asked.pop(run.root, None)
        options = [] if poll is None else ["--poll", f"{poll:g}"]
        found = call("start", str(run.root), "--manager", JOB, *options, patience=_START_JOB)
        if "fault" in found:
            raise FailedError(f"the manager of {run.id} did not start: {found['fault']}")
        return int(found["pid"])
    run.paths.manager_job.unlink(missing_ok=True)
    with append_to(run.paths.manager_log, SHOWN) as log:
        begin = log.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            build_command(run, poll),
            cwd=run.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    until = time.monotonic() + PATIENCE
    pause = 0.01
    while time.monotonic() < until:
        code = process.poll()
        if _has_taken(run, process.pid):
            return process.pid
        if code is not None:
            raise FailedError(f"the manager of {run.id} did not start:\n{_output_since(run.paths.manager_log, begin)}")
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)
    raise FailedError(
        f"the manager of {run.id} (process {process.pid}) has not started yet; see {run.paths.manager_log}"
    )


def _has_taken(run: Run, pid: int) -> bool:
    try:
        document = parse_state(regular_file.read(run.paths.state, MOST_STATE, follow=False))
    except (OSError, ValueError):
        return False
    return bool(document["meta"]["pid"] == pid)


def _output_since(log: Path, begin: int) -> str:
    """The last lines that a manager wrote, from `begin` on."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-12:]) or f"no output; see {log}"


def preflight(manifest: Manifest, place: Path | None = None) -> dict[str, Any]:
    """All that a manifest would meet on this machine, as `queue_manager.remote.preflight` tells it; its preconditions
    are tried. `manifest`: with an absolute cwd; `place`: where one task of Slurm is tried. Raises FailedError."""
    options = [] if place is None else ["--try-task", str(place)]
    return call("preflight", *options, stdin=encode(manifest), patience=_PREFLIGHT)


def examine(manifest: Manifest, *, newest_code: bool = False) -> dict[str, Any]:
    """What this machine has, and what a manifest would meet on it, as `queue_manager.remote.preflight --here` tells it.

    `newest_code`: also when the code was changed last. Raises FailedError.
    """
    options = ["--newest-code"] if newest_code else []
    return call("preflight", "--here", *options, stdin=encode(manifest), patience=60)
