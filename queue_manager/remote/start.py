"""`python -m queue_manager.remote.start RUN [--poll SEC]`: start the manager of a run, detached; one JSON document.

{"pid": N} once the manager has taken the run, or {"fault": TEXT}. Where one holds the run already, that one is meant.
N is 0 where its process is unknown, as of a manager that waits in Slurm's queue.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Union

import queue_manager
from queue_manager.adapters import facts, host_place
from queue_manager.adapters.arguments import make_parser
from queue_manager.adapters.files import append_to
from queue_manager.core.layout import RunPaths, id_fault

PATIENCE = 60.0
"""Seconds for a manager to begin; it reads the whole manifest and journal first."""
_LINES = 12
JOB = "job"
WHERE = ("login", JOB)
"""Where a manager runs: where it is started, or as a job of Slurm."""
_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--")
"""Puts itself, and then what it becomes, out of the session that it was begun in."""
Answer = Union[int, str]
"""The manager's process (0 if it is unknown which), or why there is none."""


def main(arguments: list[str] | None = None) -> int:
    """Print the document. 0; 1 where there is no manager now, or it is unknown."""
    parser = make_parser("python -m queue_manager.remote.start", "Start a run's manager.")
    parser.add_argument("run_id")
    parser.add_argument("--poll", type=float, metavar="SEC", help="seconds between checks of the GPUs")
    parser.add_argument(
        "--manager", choices=WHERE, help="here (login), or as a job of Slurm; absent: as it was started before"
    )
    options = parser.parse_args(arguments)
    started = started_or_why(options.run_id, options.poll, options.manager)
    print(json.dumps({"fault": started} if isinstance(started, str) else {"pid": started}))
    return 1 if isinstance(started, str) else 0


def started_or_why(run_id: str, poll: float | None = None, where: str | None = None) -> Answer:
    """As `start`; what cannot be read or written is returned in words."""
    try:
        return start(run_id, poll, where=where)
    except OSError as error:
        return f"{error.filename or 'this machine'}: {error.strerror or error}"


def start(run_id: str, poll: float | None = None, patience: float = PATIENCE, where: str | None = None) -> Answer:
    """See to it that a manager holds a run, and wait until it does. `poll` in seconds. `run_id`: of a run in
    ~/.wavequeue/runs, or a run's directory. `where`: one of WHERE; None: as it was started before.

    The manager has a session of its own and no terminal, so that it goes on when we are gone. One that is a job of
    Slurm is waited for only if that starts it soon. Raises OSError where it is unknown whether one is running.
    """
    fault = None if "/" in run_id else id_fault(run_id)
    if fault is not None:
        return f"the run id {run_id!r} {fault}"
    paths = RunPaths.of(Path(run_id) if "/" in run_id else host_place.of_run(host_place.here(), run_id).runs / run_id)
    run_id = paths.root.name
    if not paths.manifest.exists():
        return f"there is no run {run_id} here"
    until = time.monotonic() + patience
    if where == JOB or (where is None and paths.manager_job.exists()):
        from queue_manager.remote import start_job  # what starts one here need not pay for it

        command = build_command(paths, run_id, poll)
        return start_job.start(paths, run_id, command, build_environment(os.environ))
    holder = facts.held_by(paths.lock)
    if holder is not None:
        return _settled(paths, holder, until)
    paths.manager_job.unlink(missing_ok=True)  # from now on it runs here
    try:
        log = append_to(paths.manager_log)
    except OSError as error:
        return f"{paths.manager_log}: {error.strerror}"
    with contextlib.suppress(ValueError):  # in a thread it cannot be set, and the session of its own has to do
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is started inherits that
    with log:
        begin = log.seek(0, os.SEEK_END)
        environment = build_environment(os.environ)
        command = build_command(paths, run_id, poll)
        if facts.survival(host_place.here().root, any_life=True) == "scope":
            command = [*_SCOPE, *command]
            environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
        process = subprocess.Popen(
            command,
            cwd=paths.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return _wait(paths, process, begin, until)


def build_command(paths: RunPaths, run_id: str, poll: float | None) -> list[str]:
    """The command that runs the manager, from where this module itself was loaded."""
    folder = _folder()
    # A runtime that was pushed can be run as a folder. Its path is then in no variable that jobs would inherit.
    ours = ["-E", "-s", "-S", "-B", str(folder), "queue_manager"] if (folder / "__main__.py").exists() else []
    return [
        sys.executable, *(ours or ["-m", "queue_manager"]), "--manifest", str(paths.manifest), "--state",
        str(paths.state), "--log-dir", str(paths.log_dir), "--run-id", run_id,
        *([] if poll is None else ["--poll", f"{poll:g}"]),
    ]  # fmt: skip


def build_environment(base: Mapping[str, str]) -> dict[str, str]:
    """What the manager and its jobs inherit: ours, without a PYTHONPATH that leads to the runtime."""
    folder = _folder()
    found = dict(base)
    if "PYTHONPATH" in found and (folder / "__main__.py").exists():
        kept = [part for part in found["PYTHONPATH"].split(os.pathsep) if not part or Path(part) != folder]
        if kept:
            found["PYTHONPATH"] = os.pathsep.join(kept)
        else:
            del found["PYTHONPATH"]
    return found


def _folder() -> Path:
    """The folder on sys.path in which this package lies."""
    return Path(queue_manager.__file__ or "").resolve().parent.parent


def _wait(paths: RunPaths, process: subprocess.Popen[bytes], begin: int, until: float) -> Answer:
    pause = 0.01
    while time.monotonic() < until:
        code = process.poll()
        if facts.state_meta(paths.state).get("pid") == process.pid:
            return process.pid
        if code is not None:
            # Somebody else may have started one at the same moment.
            holder = facts.held_by(paths.lock)
            return _output_since(paths.manager_log, begin) if holder is None else _settled(paths, holder, until)
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)
    return f"the manager (process {process.pid}) has not started yet; see {paths.manager_log}"


def _settled(paths: RunPaths, holder: int, until: float) -> Answer:
    """The process of a manager that holds the run, which may be just starting and not have written its ID yet."""
    found: int | None = holder
    while found == 0 and time.monotonic() < until and paths.lock.stat().st_size == 0:
        time.sleep(0.02)
        found = facts.held_by(paths.lock)
    return "a manager that had the run has just ended; start it again" if found is None else found


def _output_since(log: Path, begin: int) -> str:
    """The last lines that a manager wrote, from `begin` on."""
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return "the manager did not start: " + ("\n".join(lines[-_LINES:]) or f"no output; see {log}")


if __name__ == "__main__":
    sys.exit(main())
