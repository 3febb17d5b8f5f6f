"""Build the manifest of a spec, and read what earlier runs beside it show."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Union

import build_manifest
from build_manifest.faults import Shown, listed
from queue_manager.core.durations import Durations
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest
from skill.common.errors import FailedError, UseError
from skill.planning import engines, existing_outputs, history
from skill.runs import assignment, directory, state_cache
from skill.runs.open import on_hosts

Say = Callable[[str], None]
"""Receives lines for the user."""
_RUNS_MEASURED, _JOBS_MEASURED = 10, 10_000
"""How many of the newest runs of a project are read for durations, or as many as have this number of jobs."""


def ignore(text: str) -> None:
    """Drop the line."""


class MadeSpec(NamedTuple):
    """A spec that is no file: it was made of what the command line says. `name`: what messages call it; `saved`:
    its text for people; `beside`: where its file would be; `file`: what a person gives to mean the same again, if there
    is such a file; `jobs`: how many it has."""

    name: str
    text: str
    saved: str
    jobs: int
    beside: Path
    shown: Shown
    file: str | None

    def __str__(self) -> str:
        return self.name


Given = Union[str, MadeSpec]
"""A spec as it is given: the path of its file, or one that was made."""


def beside(spec: Given) -> Path:
    """The directory of a spec: where its runs are kept, and what its cwd is relative to."""
    return spec.beside if isinstance(spec, MadeSpec) else Path(spec).absolute().parent


def file_of(spec: Given) -> str:
    """What to give to a verb to mean the same spec again."""
    return (spec.file or "SPEC") if isinstance(spec, MadeSpec) else spec


def changed_at(spec: Given) -> float:
    """When a spec was last changed, in epoch seconds."""
    return time.time() if isinstance(spec, MadeSpec) else Path(spec).stat().st_mtime


def build(spec: Given, warn: Say = ignore) -> build_manifest.Built:
    """Build a spec. `warn` gets a line for each warning. Raises SpecErrors."""
    if isinstance(spec, MadeSpec):
        built = build_manifest.build(spec.text, spec.name, spec.shown)
    else:
        built = build_manifest.build(build_manifest.read(spec), spec)
    for warning in built.warnings:
        warn(warning)
    return built


def build_for(spec: Given, engine: str, warn: Say = ignore) -> Manifest:
    """Build the manifest of a spec for what places its jobs, see planning.engines. `warn` gets a line for each warning.
    Raises SpecErrors."""
    made = engines.placed(build(spec, warn).manifest, engine)
    for warning in made.warnings:
        warn(warning)
    return made.manifest


def settle(manifest: Manifest, beside: Path) -> Manifest:
    """Return the manifest with absolute cwd and venv. `beside`: the directory of the spec."""
    cwd = os.path.abspath(beside / os.path.expanduser(manifest.cwd))
    venv = manifest.venv
    return manifest._replace(
        cwd=cwd, venv=None if venv is None else os.path.abspath(os.path.join(cwd, os.path.expanduser(venv)))
    )


def hosts_warning(manifest: Manifest) -> list[str]:
    """Return the warning for a spec that names hosts but is run on this machine."""
    named = [name for name in manifest.hosts if name not in ("localhost", socket.gethostname())]
    return [f"the spec is for {listed(named)}; this checks only the machine you are on"] if named else []


def earlier_manifests(project: str, beside: Path) -> list[existing_outputs.Earlier]:
    """Return the manifests of a project's newest runs beside its spec, newest first."""
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
    """Return the states of a project's newest runs beside its spec; of runs on hosts, those that were read last."""
    found: list[directory.Document] = []
    runs = 0
    for run in directory.in_folder(beside / LOCAL_RUNS):
        states = [one for one in _states(run) if one["meta"]["project"] == project]
        found += states
        runs += bool(states)
        if runs == _RUNS_MEASURED or sum(len(one["jobs"]) for one in found) >= _JOBS_MEASURED:
            break
    return found


def _states(run: directory.Run) -> list[directory.Document]:
    """Return the states of a run that are on this machine; none where none can be read."""
    try:
        if not on_hosts(run):
            return [directory.read_state(run)]
        assigned = assignment.read(run)
        folders = [] if assigned is None else [assignment.host_folder(run, part.host) for part in assigned.parts]
        kept = [state_cache.recall(folder, whole=True) for folder in folders]
        return [one.document for one in kept if one is not None]
    except (UseError, FailedError):
        return []


def expected(manifest: Manifest, beside: Path) -> Durations:
    """Return the expected durations of a spec's jobs, from earlier runs of the project beside it."""
    return Durations(manifest.jobs, history.earlier(earlier(manifest.project, beside)))
