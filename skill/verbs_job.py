"""Verbs about one job: why, logs, attach."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path

import click

from skill import inbox, logs, runs, view, why
from skill.dependencies import Dependencies
from skill.errors import INTERRUPTED, FailedError, UseError
from skill.runs import Run
from skill.status import Row, reason
from skill.verbs_run import RUN, the_run
from skill.verbs_spec import JSON, print_json

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
    document = runs.read_state(run)
    row = inbox.one(document, job)
    tries = why.attempts(runs.records(run, [f'"job":"{job}"']), job)
    lines: list[str] = []
    if row["attempt"]:
        path = logs.log_path(run, row, None, {one["id"] for one in document["jobs"]})
        if path.exists():
            lines = logs.plain(logs.tail(path, _READ_LINES)).splitlines()
    story = why.explain(document, Dependencies(runs.read_manifest(run)), job, tries, lines, time.time())
    if as_json:
        print_json(story)
    else:
        print(f"run {run.id}")
        print("\n".join(why.lines(story)))


@click.command("logs")
@JOB
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended, over all its attempts.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="The log of this attempt. Absent: the newest.")
@RUN
def logs_verb(job: str, follow: bool, lines: int | None, attempt: int | None, run_name: str | None) -> int:
    """Print the log of JOB. Where stdout is no terminal, progress bars and colours are made plain."""
    if follow and attempt is not None:
        raise UseError("-f follows the newest attempt: leave --attempt out, or -f")
    run = the_run(run_name)
    document = runs.read_state(run)
    row = inbox.one(document, job)
    ids = {one["id"] for one in document["jobs"]}
    if follow:
        return _follow(run, job, lines, logs.log_path(run, {**row, "attempt": max(1, row["attempt"])}, None, ids))
    path = logs.log_path(run, row, attempt, ids)
    print(f"run {run.id}, job {job}, attempt {attempt or row['attempt']}, {row['status']}", file=sys.stderr)
    writer = _Writer()
    try:
        if lines is None:
            with path.open("rb") as file:
                while data := file.read(_CHUNK):
                    writer.write(data)
        else:
            writer.write(logs.tail(path, lines))
    except FileNotFoundError:
        raise FailedError(f"{path} is not there: the attempt has written nothing yet") from None
    writer.write(b"", last=True)
    return 0


class _Writer:
    """Writes log bytes to stdout: as they are to a terminal, plain elsewhere."""

    def __init__(self) -> None:
        self._plain = None if sys.stdout.isatty() else logs.Plain()

    def write(self, data: bytes, *, last: bool = False) -> None:
        sys.stdout.flush()
        if self._plain is None:
            sys.stdout.buffer.write(data)
        else:
            sys.stdout.write(self._plain.feed(data) + (self._plain.end() if last else ""))
        sys.stdout.flush()


def _follow(run: Run, job: str, lines: int | None, path: Path) -> int:
    watched = view.Watched(run, runs.read_state(run))

    def look() -> Row:
        watched.look()
        return inbox.one(watched.document, job)

    def goes_on() -> bool:
        row = inbox.one(watched.document, job)
        return watched.alive or (row["status"] == "running" and _process_is_there(row))

    writer = _Writer()
    print(f"run {run.id}, job {job}", file=sys.stderr)
    try:
        for piece in logs.follow(path, lines, look, goes_on):
            if piece.note:
                writer.write(b"", last=True)
                print(f"-- {job}: {piece.note}", file=sys.stderr, flush=True)
            else:
                writer.write(piece.data)
    except KeyboardInterrupt:
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
    document = runs.read_state(run)
    row = inbox.one(document, job)
    log = shlex.join(["wavequeue", "logs", job, "--run", run.id])
    if row["status"] != "running":
        said = f" ({reason(row)})" if reason(row) else ""
        hint = f"; its log: {log}" if row["attempt"] else ""
        raise UseError(f"job {job} does not run now: it is {row['status']}{said}{hint}")
    if row["screen_pid"] is None:
        raise FailedError(f"job {job} is just being started; try again in a moment")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UseError(f"attach needs a terminal; follow its log instead: {log} -f")
    environment = dict(os.environ)
    if document["meta"]["screen_dir"]:
        environment["SCREENDIR"] = document["meta"]["screen_dir"]
    print(f"{job}: Ctrl-a d leaves this screen, and the job goes on", flush=True)
    time.sleep(1.0)  # screen clears the terminal at once
    try:
        os.execvpe("screen", ["screen", "-x", f"{row['screen_pid']}.{row['screen_name']}"], environment)
    except FileNotFoundError:
        raise FailedError("screen is not installed: sudo apt-get install -y screen") from None
