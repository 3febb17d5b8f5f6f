"""Verbs about one job: why, logs, attach."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from build_manifest import regular_file
from skill.cli.run import RUN, the_run
from skill.cli.spec import JSON, print_json
from skill.common.errors import INTERRUPTED, FailedError, UseError
from skill.hosts.connection import Host, Unreachable
from skill.reports import explain
from skill.runs import assignment, directory, logs, requests, state_schema
from skill.runs.dependencies import Dependencies
from skill.runs.digest import FINAL, Row, reason
from skill.runs.directory import Run
from skill.terminal import live as view
from skill.terminal import safe_output

_READ_LINES = 2000
"""Lines of a log in which `why` looks for those that say what happened."""
_CHUNK = 1 << 20
JOB = click.argument("job", metavar="JOB")


@click.command("why")
@JOB
@RUN
@JSON
def why_verb(job: str, run_name: str | None, as_json: bool) -> None:
    """Say why JOB is where it is.

    What it waits for, down to the jobs it is up to in the end; or how it ended, with the log lines that say so; and
    what to do next.
    """
    run = the_run(run_name)
    story = _why_on_hosts(run, job) if assignment.path(run).exists() else _why_here(run, job)
    if as_json:
        print_json(story)
    else:
        print(f"run {run.id}")
        print("\n".join(explain.lines(story)))


def _why_here(run: Run, job: str) -> dict[str, Any]:
    document = directory.read_state(run)
    row = requests.one(document, job)
    tries = explain.attempts(directory.records(run, [f'"job":"{job}"', '"CodeSeen"']), job)
    lines: list[str] = []
    if row["attempt"]:
        path = logs.log_path(run, row, None, {one["id"] for one in document["jobs"]})
        if path.exists():
            lines = logs.plain(logs.tail(path, _READ_LINES)).splitlines()
    return explain.explain(document, Dependencies(directory.read_manifest(run)), job, tries, lines, time.time())


def _why_on_hosts(run: Run, job: str) -> dict[str, Any]:
    from skill.runs import remote, remote_logs

    with remote.RemoteRun.at(run) as there:
        document = there.look(full=True)
        dependencies = Dependencies(there.manifest)
        host = there.owner().get(job)
        if host is None or job not in dependencies.jobs:
            host = requests.one(document, job)["host"]
        reachable = any(row["name"] == host and row["reachable"] for row in document["meta"]["hosts"])
        tries = explain.attempts(remote_logs.records(there, host, job, reachable=reachable), job)
        ask = remote_logs.Asker(there, job)
        piece = ask(lines=_READ_LINES) if reachable else None
        data = b""
        if isinstance(piece, remote_logs.Piece):
            with contextlib.suppress(FailedError):  # cut off in the middle: what came tells something
                for part in remote_logs.read(ask, piece, None):
                    data += part
        elif (kept := remote_logs.pulled(there, host, job, None)) is not None:
            data = logs.tail(kept.path, _READ_LINES)
        lines = [state_schema.clean(line) for line in logs.plain(data).splitlines()]
        return explain.explain(document, dependencies, job, tries, lines, time.time())


@click.command("logs")
@JOB
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, over all its attempts.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="The log of this attempt. Absent: the newest.")
@click.option("--raw", is_flag=True, help="Pass every byte on as the job wrote it, whatever it does to a terminal.")
@RUN
def logs_verb(job: str, follow: bool, lines: int | None, attempt: int | None, raw: bool, run_name: str | None) -> int:
    """Print the log of JOB.

    A terminal gets its colours; other control characters are shown escaped. Elsewhere it is made plain text. Of a
    progress bar the last state is shown.

    That of a job on a host comes from there; while the host is not reached, what was pulled of it is shown.
    """
    if follow and attempt is not None:
        raise UseError("-f follows the newest attempt: leave --attempt out, or -f")
    run = the_run(run_name)
    if assignment.path(run).exists():
        return _logs_on_host(run, job, lines, attempt, _Writer(raw=raw, live=follow), follow=follow)
    document = directory.read_state(run)
    row = requests.one(document, job)
    ids = {one["id"] for one in document["jobs"]}
    if follow:
        path = logs.log_path(run, {**row, "attempt": max(1, row["attempt"])}, None, ids)
        return _follow(run, job, lines, path, _Writer(raw=raw, live=True))
    path = logs.log_path(run, row, attempt, ids)
    print(f"run {run.id}, job {job}, attempt {attempt or row['attempt']}, {row['status']}", file=sys.stderr)
    try:
        _print_file(path, lines, _Writer(raw=raw))
    except FileNotFoundError:
        raise FailedError(f"{path} is not there: the attempt has written nothing yet") from None
    return 0


def _print_file(path: Path, lines: int | None, writer: _Writer) -> None:
    """Print a log, or its last lines. Raises OSError."""
    if lines is None:
        with regular_file.open_regular(path, follow=False) as file:
            while data := file.read(_CHUNK):
                writer.write(data)
    else:
        writer.write(logs.tail(path, lines))
    writer.write(b"", last=True)


def _logs_on_host(run: Run, job: str, lines: int | None, attempt: int | None, writer: _Writer, *, follow: bool) -> int:
    from skill.runs import remote, remote_logs

    with remote.RemoteRun.at(run) as there:
        ask = remote_logs.Asker(there, job)
        first = ask(attempt=attempt, lines=lines)
        if isinstance(first, Unreachable):
            kept = remote_logs.pulled(there, ask.host, job, attempt)
            if kept is not None and (not follow or kept.row["status"] in FINAL):
                stood = f"attempt {attempt or kept.row['attempt']}, {kept.row['status']} then"
                print(f"wavequeue: {ask.host} is unreachable: {first.reason}", file=sys.stderr)
                print(f"run {run.id}, job {job}, {stood}; this was {kept.age}", file=sys.stderr, flush=True)
                _print_file(kept.path, lines, writer)
                return 0
        if follow:
            return _print_followed(run, job, remote_logs.follow(ask, lines, ask.again), writer)
        if isinstance(first, Unreachable):
            what = "its log" if attempt is None else f"the log of attempt {attempt}"
            raise FailedError(f"{ask.host} is unreachable: {first.reason}; {what} was not pulled before")
        if isinstance(first, str):
            raise FailedError(first)
        logs.check_attempt(first.row, attempt)
        said = f"attempt {attempt or first.row['attempt']}, {first.row['status']}"
        print(f"run {run.id}, job {job} on {first.host}, {said}", file=sys.stderr, flush=True)
        if first.file is None or (attempt is not None and first.attempt not in (None, attempt)):
            raise FailedError(f"{first.host}: its log is not there: the attempt has written nothing yet")
        for data in remote_logs.read(ask, first, attempt):
            writer.write(data)
        writer.write(b"", last=True)
        return 0


class _Writer:
    """Writes log bytes to stdout: coloured to a terminal, plain elsewhere. `raw`: as they are; `live`: a line that has
    no end yet, too."""

    def __init__(self, *, raw: bool = False, live: bool = False) -> None:
        self._out = safe_output.behind(sys.stdout)  # all of it is cleaned here
        self._cleaner: logs.Plain | None = None
        if not raw:
            width = shutil.get_terminal_size().columns if live else None
            self._cleaner = logs.Coloured(width) if self._out.isatty() else logs.Plain()

    def write(self, data: bytes, *, last: bool = False) -> None:
        self._out.flush()
        if self._cleaner is None:
            self._out.buffer.write(data)
        else:
            self._out.write(self._cleaner.feed(data) + (self._cleaner.end() if last else ""))
        self._out.flush()


def _follow(run: Run, job: str, lines: int | None, path: Path, writer: _Writer) -> int:
    watched = view.Watched(run, directory.read_state(run))

    def look() -> Row:
        watched.look()
        return requests.one(watched.document, job)

    def goes_on() -> bool:
        row = requests.one(watched.document, job)
        return watched.alive or (row["status"] == "running" and _process_is_there(row))

    return _print_followed(run, job, logs.follow(path, lines, look, goes_on), writer)


def _print_followed(run: Run, job: str, pieces: Iterable[logs.Followed], writer: _Writer) -> int:
    print(f"run {run.id}, job {job}", file=sys.stderr, flush=True)
    try:
        for piece in pieces:
            if piece.note:
                writer.write(b"", last=True)
                print(f"-- {job}: {piece.note}", file=sys.stderr, flush=True)
            else:
                writer.write(piece.data)
    except KeyboardInterrupt:
        writer.write(b"", last=True)
        return INTERRUPTED
    writer.write(b"", last=True)
    return 0


def _process_is_there(row: Row) -> bool:
    pid = row["screen_pid"]
    return pid is not None and Path(f"/proc/{pid}").exists()


@click.command("attach")
@JOB
@RUN
def attach(job: str, run_name: str | None) -> None:
    """Look at the terminal of a running JOB. Ctrl-a d leaves it; the job goes on."""
    run = the_run(run_name)
    if assignment.path(run).exists():
        _attach_on_host(run, job)
        return
    document = directory.read_state(run)
    session = _session(run, requests.one(document, job))
    environment = dict(os.environ)
    if document["meta"]["screen_dir"]:
        environment["SCREENDIR"] = document["meta"]["screen_dir"]
    _become(job, ["screen", "-x", session], environment)


def _session(run: Run, row: Row) -> str:
    """The name of the screen of a running job. Raises UseError, FailedError where it cannot be looked at."""
    job = row["id"]
    log = shlex.join(["wavequeue", "logs", job, "--run", run.id])
    if row["status"] != "running":
        said = f" ({reason(row)})" if reason(row) else ""
        hint = f"; its log: {log}" if row["attempt"] else ""
        raise UseError(f"job {job} does not run now: it is {row['status']}{said}{hint}")
    if row["screen_pid"] is None:
        raise FailedError(f"job {job} is just being started; try again in a moment")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UseError(f"attach needs a terminal; follow its log instead: {log} -f")
    return f"{row['screen_pid']}.{row['screen_name']}"


def _attach_on_host(run: Run, job: str) -> None:
    from skill.runs import remote, remote_logs

    with remote.RemoteRun.at(run) as there:
        ask = remote_logs.Asker(there, job)
        found, way = ask(lines=0), there.way(ask.host)
    if isinstance(found, Unreachable) or not isinstance(way, Host):
        why_not = found.reason if isinstance(found, Unreachable) else "it is not registered"
        log = shlex.join(["wavequeue", "logs", job, "--run", run.id])
        raise FailedError(f"{ask.host} is unreachable: {why_not}; what was pulled of its log: {log}")
    if isinstance(found, str):
        raise FailedError(found)
    session, folder = _session(run, found.row), found.document["meta"]["screen_dir"]
    command = ["screen", "-x", session]
    if folder:
        command = ["env", f"SCREENDIR={folder}", *command]
    ssh = way.ssh_command()
    if ssh is not None:
        command = [*ssh, "-t", way.destination, f"exec {shlex.join(command)}"]
    _become(job, command, dict(os.environ))


def _become(job: str, command: list[str], environment: dict[str, str]) -> None:
    """Look at a screen, with this process. Raises FailedError where the program is not there."""
    print(f"{job}: Ctrl-a d leaves this screen, and the job goes on", flush=True)
    time.sleep(1.0)  # screen clears the terminal at once
    try:
        os.execvpe(command[0], command, environment)
    except FileNotFoundError:
        package = {"screen": "screen", "ssh": "openssh-client"}.get(command[0], command[0])
        raise FailedError(f"{command[0]} is not installed: sudo apt-get install -y {package}") from None
