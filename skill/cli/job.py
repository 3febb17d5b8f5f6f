"""Verbs about one job: why, logs, attach."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time

import click

from skill.cli.console import print_json
from skill.cli.options import JSON, RUN, the_run
from skill.common.errors import INTERRUPTED, FailedError, UseError
from skill.operations import explain_job
from skill.operations.attach_job import attach_command
from skill.reports import explain
from skill.runs import logs
from skill.runs.open import open_run
from skill.terminal import safe_output

JOB = click.argument("job", metavar="JOB")


@click.command("why")
@JOB
@RUN
@JSON
def why_verb(job: str, run_name: str | None, as_json: bool) -> None:
    """Explain the status of JOB, back to the root cause.

    Shows what it waits for, or how it ended with the log lines that show it, and what to do next.
    """
    run = the_run(run_name)
    story = explain_job.explain_job(run, job)
    if as_json:
        print_json(story)
    else:
        print(f"run {run.id}")
        print("\n".join(explain.lines(story)))


@click.command("logs")
@JOB
@click.option("-f", "--follow", is_flag=True, help="Follow the log until the job has ended, over all attempts.")
@click.option("-n", "--lines", type=click.IntRange(min=0), metavar="N", help="Start with the last N lines.")
@click.option(
    "--attempt", type=click.IntRange(min=1), metavar="N", help="The attempt whose log to print (default: the newest)."
)
@click.option("--raw", is_flag=True, help="Print every byte as the job wrote it, unfiltered.")
@RUN
def logs_verb(job: str, follow: bool, lines: int | None, attempt: int | None, raw: bool, run_name: str | None) -> int:
    """Print the log of JOB.

    On a terminal, colours are kept and other control characters are escaped; elsewhere the output is plain text. Of a
    progress bar the last state is shown.

    The log of a job on a host is read there. While the host is unreachable, the part that was pulled is shown.
    """
    if follow and attempt is not None:
        raise UseError("-f follows the newest attempt: leave --attempt out, or -f")
    run = the_run(run_name)
    with open_run(run) as there:
        found = there.log(job, attempt, lines, follow=follow)
        for line in found.about:
            print(line, file=sys.stderr, flush=True)
        writer = _Writer(raw=raw, live=follow)
        try:
            for piece in found.pieces:
                if piece.note:
                    writer.end()
                    print(f"-- {job}: {piece.note}", file=sys.stderr, flush=True)
                else:
                    writer.write(piece.data)
        except KeyboardInterrupt:
            if not follow:
                raise
            return INTERRUPTED
        finally:
            writer.end()
    return 0


class _Writer:
    """Writes log bytes to stdout: with colours to a terminal, plain elsewhere. `raw`: unchanged; `live`: also the
    incomplete last line."""

    def __init__(self, *, raw: bool = False, live: bool = False) -> None:
        self._out = safe_output.behind(sys.stdout)  # control characters are escaped here
        self._cleaner: logs.Plain | None = None
        if not raw:
            width = shutil.get_terminal_size().columns if live else None
            self._cleaner = logs.Coloured(width) if self._out.isatty() else logs.Plain()

    def write(self, data: bytes) -> None:
        self._out.flush()
        if self._cleaner is None:
            self._out.buffer.write(data)
        else:
            self._out.write(self._cleaner.feed(data))
        self._out.flush()

    def end(self) -> None:
        """Write the incomplete last line that was held back."""
        if self._cleaner is not None:
            self._out.write(self._cleaner.feed(b"") + self._cleaner.end())
        self._out.flush()


@click.command("attach")
@JOB
@RUN
def attach(job: str, run_name: str | None) -> None:
    """Attach to the terminal of a running JOB. Ctrl-a d detaches; the job keeps running.

    On Slurm it opens a shell beside the job, on its node and in its allocation (srun --overlap).
    """
    run = the_run(run_name)
    found = attach_command(run, job)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        log = shlex.join(["wavequeue", "logs", job, "--run", run.id, "-f"])
        raise UseError(f"attach needs a terminal; follow its log instead: {log}")
    _become(job, found.command, found.leave)


def _become(job: str, command: list[str], leave: str) -> None:
    """Replace this process by what shows the job. Raises FailedError where the program is missing."""
    print(f"{job}: {leave}", flush=True)
    time.sleep(1.0)  # screen clears the terminal at once
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        package = {"ssh": "openssh-client"}.get(command[0], command[0])
        raise FailedError(f"{command[0]} is not installed: sudo apt-get install -y {package}") from None
