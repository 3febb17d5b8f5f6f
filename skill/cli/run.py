"""Verbs about a whole run: run, status, watch, report."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from build_manifest import regular_file
from build_manifest.values import seconds
from queue_manager.core.manifest import Manifest, encode
from skill.cli.spec import AGAIN, JSON, SKIP_DONE, SPEC, build, earlier_manifests, hosts_warning, print_json, settle
from skill.common import files
from skill.common.errors import FAILED, INTERRUPTED, PERSON, FailedError, UseError
from skill.common.files import write_whole
from skill.operations import report_run
from skill.planning import existing_outputs, local_preflight
from skill.reports import report
from skill.runs import digest, directory, live_runs, local_manager, requests
from skill.runs.access import RunAccess
from skill.runs.directory import MOST_STATE, Document, Run
from skill.runs.open import open_run
from skill.runs.watched import Followed
from skill.terminal import live

RUN = click.option(
    "--run", "run_name", metavar="RUN", help="Which run: its name, the beginning of it, or its directory."
)
_FOOTER = "Ctrl-C leaves this view; the run goes on"


def the_run(name: str | None) -> Run:
    """The run that is meant, by --run or else the newest."""
    return directory.find(name, Path.cwd(), Path.home())


def print_markdown(text: str) -> None:
    """Markdown, drawn where there is a terminal."""
    output = live.console()
    if output.is_terminal:
        from rich.markdown import Markdown  # a tenth of a second that other verbs need not pay

        output.print(Markdown(text))
    else:
        print(text, end="")


@click.command("run")
@SPEC
@click.option("--detach", is_flag=True, help="Return at once; no view.")
@click.option("--poll", type=click.FloatRange(0.01, 3600), metavar="SEC", help="Seconds between looks at the cards.")
@AGAIN
@SKIP_DONE
@JSON
def run_verb(spec: str, detach: bool, poll: float | None, again: bool, skip_done: bool, as_json: bool) -> int:
    """Run SPEC on this machine.

    Its manager is detached: it goes on when you leave the view or log out. Without --detach this ends with the run:
    exit code 0 if all jobs completed, 3 if some need a person. While a run of the same jobs is live here it is refused,
    unless --again says that it is meant.
    """
    run, jobs, pid = _begin(spec, poll, again=again, skip_done=skip_done)
    hints = f"follow it: wavequeue watch --run {run.id}"
    try:
        if detach:
            if as_json:
                print_json({"run_id": run.id, "directory": str(run.root), "pid": pid, "jobs": jobs})
            else:
                print(f"{run.id}: {jobs} jobs, manager is process {pid}\n{run.root}\n{hints}")
            return 0
        with open_run(run) as there:
            followed = there.watch()
            code = live.follow(followed, live.console(error=as_json), _FOOTER, fresh=True)
    except KeyboardInterrupt:
        print(f"\nleft the view; {run.id} goes on. {hints}", file=sys.stderr)
        return INTERRUPTED
    if as_json:
        print_json(_status_document(run, followed.document, followed.alive))
    elif code != FAILED:
        _show_summary(run)
    _say_what_stopped(followed, code)
    return code


def _begin(spec: str, poll: float | None, *, again: bool, skip_done: bool) -> tuple[Run, int, int]:
    """Make the run of a spec and start its manager, if this machine can run it; nothing is written where it cannot.

    The run, the number of its jobs, and its manager's process.
    """
    if again and skip_done:
        raise UseError("--again runs all jobs, and --skip-done not all: give one of them")
    built = build(spec)
    beside = Path(spec).absolute().parent
    manifest = settle(built.manifest, beside)
    if not Path(manifest.cwd).is_dir():
        raise UseError(f"{spec}: cwd {manifest.cwd} is not there; make it, or say another one")
    if manifest.venv is not None and not (Path(manifest.venv) / "bin" / "activate").exists():
        raise UseError(f"{spec}: venv {manifest.venv} is not there; make it with: python3 -m venv {manifest.venv}")
    with files.in_turn(beside):  # of two that begin the same the second one sees the first
        document = local_manager.examine(manifest, newest_code=skip_done)
        checked = local_preflight.check(manifest, document["probe"])
        if checked.refusal is not None:
            raise FailedError(checked.refusal)
        unset = local_preflight.unset_words(document, {job.id for job in manifest.jobs})
        for warning in (*hosts_warning(manifest), *checked.warnings, *unset):
            print(f"wavequeue: warning: {warning}", file=sys.stderr)
        done = _there_already(spec, manifest, document, again=again, skip_done=skip_done)
        run = directory.create(manifest.project, beside, Path.home(), time.time())
        try:
            write_whole(run.paths.manifest, encode(manifest))
            if done:
                files.make_directory(run.paths.inbox)
                write_whole(run.paths.request(existing_outputs.REQUEST), existing_outputs.request_text(done))
        except BaseException:
            directory.discard(run, Path.home())
            raise
        try:
            return run, len(manifest.jobs), local_manager.start(run, poll)
        except KeyboardInterrupt:
            print(f"\n{run.id} goes on. follow it: wavequeue watch --run {run.id}", file=sys.stderr)
            raise


def _there_already(
    spec: str, manifest: Manifest, document: dict[str, Any], *, again: bool, skip_done: bool
) -> tuple[str, ...]:
    """Say what lies or goes on here that has to do with a spec. Gives the jobs that outputs stand for. Raises UseError
    where the same jobs run, FailedError where --skip-done cannot be decided."""
    found = existing_outputs.read(document)
    if found is None:
        return ()
    refused = live_runs.refusal(found.live, spec)
    if refused is not None and not again:
        raise UseError(refused)
    lines = live_runs.warnings(found.live)
    done: tuple[str, ...] = ()
    if skip_done:
        code = existing_outputs.newest_code(found)
        before = earlier_manifests(manifest.project, Path(spec).absolute().parent)
        chosen = existing_outputs.skips(manifest.jobs, found, code, Path(spec).stat().st_mtime, before)
        done, lines = chosen.done, [*lines, *existing_outputs.skip_words(chosen, code)]
    elif not again:
        lines += existing_outputs.words(found, manifest.jobs)
    for line in lines:
        print(f"wavequeue: {line}", file=sys.stderr)
    return done


def _show_summary(run: Run) -> None:
    try:
        text = regular_file.read_text(run.paths.summary, MOST_STATE, follow=False, errors="replace")
    except OSError as error:
        raise FailedError(f"{run.paths.summary}: {error.strerror}") from None
    print()
    print_markdown(text)
    print(f"\n{run.paths.summary}")


def _say_what_stopped(watched: Followed, code: int) -> None:
    if code == FAILED:
        for line in digest.hindrances(watched.document, watched.alive):
            print(f"wavequeue: {line}", file=sys.stderr)


def _status_document(run: Run, document: Document, alive: bool) -> dict[str, Any]:
    extra = {"manager_alive": alive, "age_s": digest.age(document, time.time()), "directory": str(run.root)}
    return {**document, **extra}


@click.command("status", short_help="Show how a run stands.")
@RUN
@click.option("--jobs", "list_jobs", is_flag=True, help="List every job.")
@click.option(
    "--status", "statuses", multiple=True, type=click.Choice(digest.ORDER), help="List jobs with this status."
)
@click.option("--phase", metavar="PHASE", help="List jobs of this phase.")
@JSON
def status_verb(
    run_name: str | None, list_jobs: bool, statuses: tuple[str, ...], phase: str | None, as_json: bool
) -> None:
    """Show how a run stands: hosts, phases, cards, what runs, what needs a person."""
    run = the_run(run_name)
    filtered = bool(statuses or phase)
    with open_run(run) as there:
        document = there.look(full=list_jobs or filtered or as_json)
        alive = there.alive(document)
    chosen = set(requests.select(document, (), phase, frozenset(statuses))) if filtered else None
    rows = [row for row in document["jobs"] if chosen is None or row["id"] in chosen]
    if as_json:
        print_json(_status_document(run, {**document, "jobs": rows}, alive))
        return
    from skill.terminal import frame  # what draws nothing need not pay for rich

    output = live.console()
    if list_jobs or filtered:
        lines = frame.jobs_table(rows, output.width, time.time())
        print(digest.headline(document, alive, time.time()))
    else:
        scene = frame.Scene(document, digest.digest(document), alive, time.time(), there.tail)
        lines = frame.frame(scene, output.width, None, live.marks(output))
    for line in lines:
        output.print(line, no_wrap=True, crop=False)


def _after(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else seconds(value)
    except ValueError as error:
        raise UseError(f"--after {value}: {error}") from None


@click.command("watch")
@RUN
@click.option(
    "--after", callback=_after, metavar="TIME", help="Give up a host that is not reached for so long, such as 30m."
)
def watch(run_name: str | None, after: float | None) -> int:
    """Follow a run until it ends; Ctrl-C leaves it going.

    With --after, a host that cannot be reached for so long while another one of the run can is given up, as by
    `wavequeue rescue`: the others run its jobs.

    Exit code 0 if all jobs completed, 3 if some need a person, 1 if a manager has died and nothing goes on.
    """
    run = the_run(run_name)
    try:
        with open_run(run) as there, _watched(there, after) as followed:
            code = live.follow(followed, live.console(), _FOOTER, fresh=False)
    except KeyboardInterrupt:
        print(f"\nleft the view; {run.id} goes on. Come back: wavequeue watch --run {run.id}", file=sys.stderr)
        return INTERRUPTED
    _say_what_stopped(followed, code)
    if code == PERSON:
        print("see why a job is where it is: wavequeue why JOB", file=sys.stderr)
    if there.names and code != FAILED:
        print(f"bring what it made home: wavequeue pull --run {run.id}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _watched(there: RunAccess, after: float | None) -> Iterator[Followed]:
    """What the view follows of a run. `after`: see operations.auto_rescue."""
    if after is not None and not there.names:
        raise UseError(f"run {there.run.id} runs on this machine: --after is for runs on hosts")
    with contextlib.closing(there.watch()) as followed:
        if after is None:
            yield followed
            return
        from skill.operations import auto_rescue

        with contextlib.closing(auto_rescue.Rule(followed, after, _say)):
            yield followed


def _say(text: str) -> None:
    print(f"wavequeue: {text}", file=sys.stderr, flush=True)


@click.command("report", short_help="Report on a run: phases, failures, numbers over seeds.")
@RUN
@JSON
def report_verb(run_name: str | None, as_json: bool) -> None:
    """Report on a run: phases, failures by reason, and the numbers in its JSON outputs, averaged over seeds."""
    run = the_run(run_name)
    made = report_run.report_run(run)
    if as_json:
        print_json(made)
    else:
        print_markdown(report.markdown(made))
