"""The verb pull: copies results, logs and state to this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from build_manifest.faults import listed
from skill.cli.console import print_json, say
from skill.cli.options import JSON, RUN, time_option
from skill.common.errors import DONE, FAILED, INTERRUPTED, UseError
from skill.common.units import size_text
from skill.operations import pull_text
from skill.operations.find_run import find_run_on_hosts
from skill.operations.pull_run import OnBytes, Pulled, Puller, assignment_of, results_below
from skill.terminal import live

if TYPE_CHECKING:
    from skill.runs.directory import Run

_FRAME = 0.25
"""Seconds between two updates of the progress line."""


@click.command("pull", short_help="Copy results, logs and state from the hosts to this machine.")
@click.argument("run", required=False, metavar="[RUN]")
@RUN
@click.option(
    "--host", "names", metavar="NAME", multiple=True, help="Pull from this host only; may be given several times."
)
@click.option(
    "--every", callback=time_option, metavar="TIME", help="Pull again every TIME, such as 30m, until the run has ended."
)
@JSON
def pull_verb(run: str | None, run_name: str | None, names: tuple[str, ...], every: float | None, as_json: bool) -> int:
    """Copy the results of a run (expected_output, and pull: in the spec), its logs and its state from its hosts.

    Copies only files that are newer on the host, and checks their hashes; deletes nothing, and overwrites nothing that
    is newer here. A glob never copies a program or a hidden file, and never replaces a file that git tracks, that
    existed before, or that came from another host: spell such names out. Results go where a run on this machine would
    have written them. Exit code 1 if something is missing or was refused.
    """
    if run is not None and run_name is not None:
        raise UseError("give RUN or --run, not both")
    meant = find_run_on_hosts(run or run_name)

    def tell(done: Pulled) -> None:
        at = time.strftime("%H:%M:%S")
        text = pull_text.line(done.turns.values(), assignment_of(meant), ended=done.ended)
        print(f"{at} {text}", file=sys.stderr if as_json else sys.stdout, flush=True)
        _details(done)

    try:
        with Puller(meant, names, say, _progress) as puller:
            done = puller.pull() if every is None else puller.until_the_end(every, tell)
    except KeyboardInterrupt:
        again = f" --every {every:g}s" if every is not None else ""
        say(f"left; what was pulled is kept, and {meant.id} continues. Continue: wavequeue pull {meant.id}{again}")
        return INTERRUPTED
    if as_json:
        print_json(_document(meant, done))
    elif every is None:
        _report(meant, done)
    return FAILED if done.failed else DONE


@contextmanager
def _progress() -> Iterator[OnBytes]:
    """Show on a terminal how much has arrived from each host."""
    console = live.console(error=True)
    sizes: dict[str, int] = {}
    shown = time.monotonic()
    with console.status("pulling") as line:

        def on_bytes(name: str, size: int) -> None:
            nonlocal shown
            sizes[name] = sizes.get(name, 0) + size
            if time.monotonic() - shown > _FRAME:
                shown = time.monotonic()
                line.update("pulling: " + ", ".join(f"{one} {size_text(sizes[one])}" for one in sorted(sizes)))

        yield on_bytes if console.is_terminal else lambda _name, _size: None


def _report(run: Run, done: Pulled) -> None:
    found = assignment_of(run)
    for turn in done.turns.values():
        print(pull_text.host_line(turn, found))
    _details(done)
    places = results_below(run)
    print(f"results are below {listed(map(str, places.results))}, logs and state below {places.hosts}")
    if done.ended:
        print(f"the run has ended: {run.paths.summary}")


def _details(done: Pulled) -> None:
    for text in pull_text.details(done.turns.values(), done.relayed):
        say(text)


def _document(run: Run, done: Pulled) -> dict[str, Any]:
    """Return what `pull --json` prints."""
    found = assignment_of(run)
    relayed = [{"to": one.dst, "jobs": list(one.jobs), "files": one.files, "fault": one.fault} for one in done.relayed]
    return {
        "run_id": run.id,
        "directory": str(run.root),
        "ended": done.ended,
        "hosts": [pull_text.host_document(turn, found) for turn in done.turns.values()],
        "carried": relayed,
    }
