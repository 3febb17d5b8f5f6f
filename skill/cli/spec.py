"""Verbs about a spec, before anything runs: init, build, plan."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import click

import build_manifest
from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest, encode
from queue_manager.core.readings import may_use
from queue_manager.core.terminal_text import json_escaped
from skill.cli import init_spec
from skill.common.errors import FailedError, UseError
from skill.common.files import write_whole
from skill.planning import existing_outputs, local_preflight, plan
from skill.runs import directory, live_runs, local_manager
from skill.terminal import live

SPEC = click.argument("spec", metavar="SPEC")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
AGAIN = click.option("--again", is_flag=True, help="Run all jobs, though their outputs are there or they run already.")
SKIP_DONE = click.option(
    "--skip-done", is_flag=True, help="Take outputs that are there and newer than the code; run the other jobs."
)
_RUNS_MEASURED = 10


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json_escaped(json.dumps(document, ensure_ascii=False)), flush=True)


def build(spec: str) -> build_manifest.Built:
    """Build a spec, with its warnings on stderr. Raises SpecErrors."""
    built = build_manifest.build(build_manifest.read(spec), spec)
    for warning in built.warnings:
        print(warning, file=sys.stderr)
    return built


def settle(manifest: Manifest, beside: Path) -> Manifest:
    """The manifest with its cwd and venv made absolute: `beside` is the directory of the spec."""
    cwd = os.path.abspath(beside / os.path.expanduser(manifest.cwd))
    venv = manifest.venv
    return manifest._replace(
        cwd=cwd, venv=None if venv is None else os.path.abspath(os.path.join(cwd, os.path.expanduser(venv)))
    )


def hosts_warning(manifest: Manifest) -> list[str]:
    """What to say of a spec that names hosts and is run here."""
    named = [name for name in manifest.hosts if name not in ("localhost", socket.gethostname())]
    return [f"the spec is for {listed(named)}; this looks at the machine you are on only"] if named else []


@click.command("init")
@click.argument("file", default="spec.yaml", metavar="[FILE]")
def init(file: str) -> None:
    """Write a small spec with comments, to begin with.

    FILE is spec.yaml unless you say otherwise; a file that is there is left alone.
    """
    path = Path(file)
    if path.exists():
        raise UseError(f"{file} is there already; name another file")
    if not path.absolute().parent.is_dir():
        raise UseError(f"there is no directory {path.parent}")
    write_whole(path, init_spec.text(path.absolute().parent.name, file), mode=None)
    print(f"wrote {file}. See what it would do: wavequeue plan {file}")


@click.command("build", short_help="Expand SPEC into its manifest: every job in one JSON document.")
@SPEC
@click.option("-o", "--output", metavar="FILE", help="Write the manifest there. Absent: to stdout.")
def build_verb(spec: str, output: str | None) -> None:
    """Expand SPEC into its manifest: one JSON document with every job."""
    built = build(spec)
    text = encode(built.manifest)
    if output is None:
        sys.stdout.write(json_escaped(text))
        sys.stdout.flush()
        return
    path = Path(output)
    if path.exists() and path.samefile(spec):
        raise UseError(f"{output} is the spec itself; name another file for the manifest")
    if path.exists() and not path.is_file():
        raise UseError(f"{output} is no file that can be replaced; name another")
    try:
        write_whole(path, text)
    except OSError as error:
        raise UseError(f"{output} cannot be written: {error.strerror}") from None
    jobs, phases = len(built.manifest.jobs), len(built.manifest.phases)
    print(f"{output}: {jobs} job{'s' * (jobs != 1)} in {phases} phase{'s' * (phases != 1)}")


@click.command("plan", short_help="Show what SPEC would run here, and for how long.")
@SPEC
@JSON
def plan_verb(spec: str, as_json: bool) -> int:
    """Show what SPEC would run on this machine: phases, jobs, cards, how long. Starts nothing."""
    built = build_manifest.build(build_manifest.read(spec), spec)
    beside = Path(spec).absolute().parent
    manifest = settle(built.manifest, beside)
    document = local_manager.examine(manifest)
    found, there = document["probe"], existing_outputs.read(document)
    checked = local_preflight.check(manifest, found)
    usable = [row for row in found["gpus"] if may_use(row["index"], manifest.gpus)]
    machine = plan.Machine(found["host"], found["cpus"], tuple(row["total_mib"] or 0 for row in usable))
    # Written so that lines of warnings read the same here and in `build`.
    faults = [checked.refusal] if checked.refusal else []
    warnings = [*built.warnings, *hosts_warning(manifest), *checked.warnings]
    warnings += local_preflight.unset_words(document, {job.id for job in manifest.jobs})
    if there is not None:
        refused = live_runs.refusal(there.live, spec)
        faults += [refused] if refused else []
        warnings += [] if refused else live_runs.warnings(there.live)
        warnings += existing_outputs.words(there, manifest.jobs)
    if not Path(manifest.cwd).is_dir():
        faults.append(f"cwd {manifest.cwd} is not there")
    document = plan.plan(manifest, machine, plan.history(earlier(manifest.project, beside)), [*warnings, *faults])
    document["totals"]["outputs_there"] = None if there is None else len(there.outputs)
    if as_json:
        print_json(document)
        return 0
    output = live.console()
    for line in plan.lines(document, machine, output.width):
        output.print(line, no_wrap=True, crop=False)
    for warning in warnings:
        print(warning, file=sys.stderr)
    if faults:
        print(f"wavequeue: it cannot run here: {'; '.join(faults)}", file=sys.stderr)
    return 0


def earlier_manifests(project: str, beside: Path) -> list[existing_outputs.Earlier]:
    """Manifests of the newest runs of a project that lie beside its spec, newest first."""
    found = []
    for run in directory.in_folder(beside / LOCAL_RUNS):
        with contextlib.suppress(FailedError, OSError):
            made = directory.read_manifest(run)
            if made.project == project:
                found.append(existing_outputs.Earlier(run.paths.manifest.stat().st_mtime, made))
        if len(found) == _RUNS_MEASURED:
            break
    return found


def earlier(project: str, beside: Path) -> list[directory.Document]:
    """States of the newest runs of a project that lie beside its spec."""
    found = []
    for run in directory.in_folder(beside / LOCAL_RUNS):
        try:
            document = directory.read_state(run)
        except (UseError, FailedError):
            continue
        if document["meta"]["project"] == project:
            found.append(document)
        if len(found) == _RUNS_MEASURED:
            break
    return found
