"""One manager: take a run, and follow it to its end."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from queue_manager.adapters import environment, facts, files, host, host_place, processes
from queue_manager.adapters.arguments import make_parser
from queue_manager.adapters.files import UnsafeError, append_to, make_directory
from queue_manager.adapters.guard import RunGoneError
from queue_manager.adapters.journal import Journal, fence
from queue_manager.adapters.load import Loaded, UseError, keep_damaged_state, living_manager, load
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import HeldError, Lock
from queue_manager.adapters.shared_directory import SharedDirectory
from queue_manager.core import events as ev
from queue_manager.core import layout
from queue_manager.core.events import Proc, Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.model import InvalidTransition
from queue_manager.core.slurm_manager import AS_JOB
from queue_manager.core.status import Status
from queue_manager.core.times import iso
from queue_manager.daemon import Daemon, Host
from queue_manager.launchers.script import Given
from queue_manager.launchers.table import MAKE

if TYPE_CHECKING:
    from queue_manager.slurm.as_job import AsJob

EXIT_DONE, EXIT_FAILED, EXIT_USE, EXIT_PERSON = 0, 1, 2, 3
_JOB = re.compile(r'"job":"([^"]+)"')
_ENDING = 5.0
"""Seconds that a manager may still live for after it has given up the lock of its run."""
_log = logging.getLogger("queue_manager")


def main(argv: list[str] | None = None) -> int:
    """Run one manager. Returns 0 if all jobs completed, 3 if some need a person, 2 for wrong use, 1 if halted."""
    options = _parse(argv)
    # The thread that writes a snapshot must not keep the loop from a launch for longer than this.
    sys.setswitchinterval(0.0005)
    paths = RunPaths(options.manifest.absolute(), options.state.absolute(), options.log_dir.absolute())
    try:
        run = load(paths)
        for path in (paths.root, paths.log_dir):
            make_directory(path)
        corrected = RunDir(paths).close_to_others()
        job = _as_job(paths, run) if options.as_slurm_job else None
        lock = _take(paths, run, job)
        if lock.succeeds:
            fence(paths.journal)
        is_changed = (paths.journal.stat().st_size if paths.journal.exists() else 0) != run.length
        if lock.succeeds or is_changed:  # somebody was before us
            run = load(paths)
            _check_alone(paths, run)
    except (UseError, UnsafeError) as error:
        print(f"queue_manager: {error}", file=sys.stderr)
        return EXIT_USE
    except HeldError as error:
        print(f"queue_manager: {paths.root} is held by another manager: {error}", file=sys.stderr)
        return EXIT_USE
    except OSError as error:
        print(f"queue_manager: {error}", file=sys.stderr)
        return EXIT_FAILED
    try:
        return _serve(paths, run, lock, options, corrected, job)
    except OSError as error:
        _log.critical("halted: %s", error)
        print(f"queue_manager: {error}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        lock.close()


def _as_job(paths: RunPaths, run: Loaded) -> AsJob:
    from queue_manager.slurm import as_job  # the others need none of what is for Slurm

    return as_job.begin(paths, run)


def _check_alone(paths: RunPaths, run: Loaded) -> None:
    """Raise HeldError where a manager lives, whatever happened to its lock. One that has just given it up is waited
    for: its process is about to end."""
    until = time.monotonic() + _ENDING
    while (living := living_manager(paths.state, run.records)) is not None:
        if time.monotonic() > until or facts.held_by(paths.lock) not in (None, os.getpid()):
            raise HeldError(living)
        time.sleep(0.02)


def _take(paths: RunPaths, run: Loaded, job: AsJob | None) -> Lock:
    """Take the lock of a run; a job of Slurm waits for it. Raises HeldError."""
    me = {"pid": os.getpid(), "host": os.uname().nodename, "since": iso(round(time.time(), 3))}

    def take() -> Lock:
        _check_alone(paths, run)
        if job is not None:
            return Lock(paths.lock, {**me, "job": job.id}, True, job.has_ended)
        return Lock(paths.lock, me, shared=run.manifest.launcher == SLURM)

    return take() if job is None else job.wait(take)


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = make_parser(
        "queue_manager", "Run all jobs of a manifest. Started again with the same arguments, it continues."
    )
    parser.add_argument("--manifest", type=Path, required=True, help="the manifest, as build_manifest writes it")
    parser.add_argument(
        "--state", type=Path, required=True, help="queue_state.json; the run's other files are kept beside it"
    )
    parser.add_argument("--log-dir", type=Path, required=True, help="directory for the jobs' logs")
    parser.add_argument(
        "--poll", type=_seconds, default=5.0, metavar="SEC", help="seconds between checks of the GPUs (default 5)"
    )
    parser.add_argument("--run-id", type=_run_id, help="name of the run (default: from the project and the time)")
    parser.add_argument("--begin", action="store_true", help="write the run's first state, and start nothing")
    parser.add_argument(AS_JOB, action="store_true", help="be followed by another: this is a job of Slurm itself")
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0.01 <= value <= 3600:
        raise argparse.ArgumentTypeError("must be between 0.01 and 3600 seconds")
    return value


def _run_id(text: str) -> str:
    fault = layout.id_fault(text)
    if fault:
        raise argparse.ArgumentTypeError(fault)
    return text


def _serve(
    paths: RunPaths, run: Loaded, lock: Lock, options: argparse.Namespace, corrected: list[str], job: AsJob | None
) -> int:
    _start_log(paths)
    for line in corrected:
        _log.warning(line)
    state, records, manifest = run.state, run.records, run.manifest
    if run.is_state_damaged:
        keep_damaged_state(paths)
    now, begun = round(time.time(), 3), bool(records)
    journal = Journal(paths.journal, run.length)
    if not records:
        run_id = (
            options.run_id or f"{manifest.project}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{os.getpid()}"
        )
        first = Record(1, now, ev.RunStarted(run_id, manifest.project, run.digest))
        journal.append([first], urgent=True)
        state.apply(first)
        records = [first]
    home = host_place.of_slurm() if manifest.launcher == SLURM else host_place.here()
    key = layout.run_key(state.run_id, os.path.realpath(paths.root))
    kept = environment.adopt(home, key, paths.root, os.environ, files.umask(), begun)
    os.umask(kept.umask)
    given = Given(kept.umask, None if kept.script is None else str(kept.script))
    # Slurm's tasks run elsewhere, and of a launcher here only the environment is used.
    launcher = MAKE["process" if manifest.launcher == SLURM else manifest.launcher](paths, home, os.environ)
    here = _host(home)
    if manifest.launcher == SLURM:
        from queue_manager.slurm.engine import WINDOW

        here = here._replace(cores=WINDOW)
    daemon = Daemon(paths, state, journal, lock, records, here, options.poll, launcher, given)
    if kept.differ and job is None:  # on a compute node others are set
        daemon.notices.say(
            "environment",
            f"the run keeps the environment it was started with; these variables differ: {', '.join(kept.differ)} (a "
            "new run uses the new values)",
        )
    if kept.fault is not None:
        daemon.notices.say("environment_lost", kept.fault)
    if options.begin:
        daemon.when_halted = "running"
        daemon.close(finished=False)
        return EXIT_DONE
    _catch_signals(daemon)
    try:
        finished = daemon.serve() if job is None else job.serve(daemon, state, records)
    except InvalidTransition as error:
        _log.critical("%s\n%s", error, _story(paths, str(error)))
        print(f"queue_manager: {error}; see {paths.manager_log}", file=sys.stderr)
        daemon.close(finished=False, fault=True)
        return EXIT_FAILED
    except RunGoneError as error:
        _log.critical("halted: %s", error)
        print(f"queue_manager: {error}", file=sys.stderr)
        return EXIT_FAILED
    if not finished:
        return EXIT_FAILED
    return EXIT_DONE if set(state.tallies.counts) <= {Status.COMPLETED} else EXIT_PERSON


def _host(home: HostPaths) -> Host:
    me = processes.look_up(os.getpid())
    assert isinstance(me, processes.Stat)
    shared = SharedDirectory.find(os.environ)
    return Host(os.uname().nodename, host.boot_id(), host.usable_cores(), home, Proc(*me.proc), shared)


def _start_log(paths: RunPaths) -> None:
    logging.raiseExceptions = False  # a full disk must not fill stderr
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    append_to(paths.manager_log).close()
    handler = logging.FileHandler(paths.manager_log, encoding="utf-8")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)


def _catch_signals(daemon: Daemon) -> None:
    def halt(number: int, _frame: FrameType | None) -> None:
        _log.info("halts: %s", signal.Signals(number).name)
        daemon.halt()

    signal.set_wakeup_fd(daemon.wake_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, halt)
    signal.signal(signal.SIGINT, halt)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda _number, _frame: None)  # a request lies in the inbox: waking is all


def _story(paths: RunPaths, text: str) -> str:
    """The journal's lines about the job that an error names."""
    with paths.journal.open(encoding="utf-8", errors="replace") as file:
        return "".join(line for line in file if any(f"'{job}'" in text for job in _JOB.findall(line)))
