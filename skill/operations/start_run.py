"""Begin a run on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core import durations
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import HostPaths
from queue_manager.core.manifest import Manifest, encode
from skill.common import files
from skill.common.errors import FailedError, UseError
from skill.common.files import write_whole
from skill.operations.build_spec import (
    Given,
    Say,
    beside,
    build_for,
    changed_at,
    earlier,
    earlier_manifests,
    file_of,
    hosts_warning,
    ignore,
    settle,
)
from skill.operations.find_run import check_name
from skill.planning import engines, existing_outputs, history, local_preflight, slurm_preflight
from skill.runs import directory, live_runs, local_manager
from skill.runs.directory import Run


class Started(NamedTuple):
    """A run that was started: its number of jobs, and the process of its manager (0: a job of Slurm)."""

    run: Run
    jobs: int
    pid: int


def start_run(
    spec: Given,
    *,
    poll: float | None = None,
    again: bool = False,
    skip_done: bool = False,
    name: str | None = None,
    engine: str = engines.HOSTS,
    manager: str | None = None,
    warn: Say = ignore,
    say: Say = ignore,
) -> Started:
    """Create the run of a spec and start its manager on this machine. Writes nothing where it cannot run.

    `poll`: seconds between checks of the GPUs; `again`: run although the same jobs are running already; `skip_done`:
    jobs whose outputs exist and are newer than the code count as done; `name`: call the run so, instead of after its
    project; `engine`: what places the jobs, see planning.engines; `manager`: where
    it runs then, see local_manager.start. `warn` gets the warnings of the build, `say` all
    other lines. Raises SpecErrors, UseError and FailedError.
    """
    if again and skip_done:
        raise UseError("--again and --skip-done cannot be used together")
    if name is not None:
        check_name(name)
    folder = beside(spec)
    manifest = settle(build_for(spec, engine, warn), folder)
    if not Path(manifest.cwd).is_dir():
        raise UseError(f"{spec}: cwd {manifest.cwd} does not exist; create it, or give another one")
    if manifest.venv is not None and not (Path(manifest.venv) / "bin" / "activate").exists():
        raise UseError(f"{spec}: venv {manifest.venv} does not exist; create it with: python3 -m venv {manifest.venv}")
    with files.in_turn(folder):  # of two that start the same jobs, the second one sees the first
        document = local_manager.examine(manifest, newest_code=skip_done)
        checked = local_preflight.check(manifest, document["probe"])
        if checked.refusal is not None:
            raise FailedError(checked.refusal)
        if engine == SLURM:
            _check_slurm(document, say)
        entered = local_preflight.environment(document)
        if entered.refusal is not None:
            raise UseError(f"{spec}: {entered.refusal}")
        unset = local_preflight.unset_words(document, {job.id for job in manifest.jobs})
        for warning in (*hosts_warning(manifest), *checked.warnings, *entered.warnings, *unset):
            say(f"warning: {warning}")
        done = _there_already(spec, manifest, document, say, again=again, skip_done=skip_done)
        known = history.earlier(earlier(manifest.project, folder))
        place = HostPaths(Path(document["place"]))
        run = directory.create(name or manifest.project, folder, place, time.time())
        try:
            write_whole(run.paths.manifest, encode(manifest))
            if known.jobs:
                write_whole(run.paths.durations, durations.encode(known).decode())
            if done:
                files.make_directory(run.paths.inbox)
                write_whole(run.paths.request(existing_outputs.REQUEST), existing_outputs.request_text(done))
        except BaseException:
            directory.discard(run, place)
            raise
        try:
            return Started(run, len(manifest.jobs), local_manager.start(run, poll, manager))
        except KeyboardInterrupt:
            say(f"{run.id} continues. follow it: wavequeue watch --run {run.id}")
            raise


def _check_slurm(document: dict[str, Any], say: Say) -> None:
    """Report what Slurm said of the jobs. Raises FailedError where it can never run some."""
    found = slurm_preflight.check(document)
    if found.faults:
        raise FailedError("\n".join([*found.faults, "Nothing was started."]))
    for warning in found.warnings:
        say(f"warning: {warning}")


def _there_already(
    spec: Given, manifest: Manifest, document: dict[str, Any], say: Say, *, again: bool, skip_done: bool
) -> tuple[str, ...]:
    """Report outputs and runs on this machine that concern a spec. Returns the jobs that count as done. Raises UseError
    where the same jobs are running, FailedError where --skip-done cannot be decided."""
    found = existing_outputs.read(document)
    if found is None:
        return ()
    refused = live_runs.refusal(found.live, str(spec), file=file_of(spec))
    if refused is not None and not again:
        raise UseError(refused)
    lines = live_runs.warnings(found.live, found.live_unknown)
    done: tuple[str, ...] = ()
    if skip_done:
        code = existing_outputs.newest_code(found)
        before = earlier_manifests(manifest.project, beside(spec))
        chosen = existing_outputs.skips(manifest.jobs, found, code, changed_at(spec), before)
        done, lines = chosen.done, [*lines, *existing_outputs.skip_words(chosen, code)]
    elif not again:
        lines += existing_outputs.words(found, manifest.jobs)
    for line in lines:
        say(line)
    return done
