"""Add runs to the queue of research: one command, or all jobs of a spec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from build_manifest.command_line import check_job
from build_manifest.secrets import is_secret
from skill.common.errors import UseError
from skill.hosts import dotenv
from skill.hosts.registry import Registry
from skill.operations.build_spec import Say, build, ignore
from skill.operations.research_projects import find, now, the_project
from skill.research import projects
from skill.research.record_faults import unknown
from skill.research.records import Record
from skill.research.run_records import from_manifest, linked, with_metrics
from skill.research.store import Store


class Columns(NamedTuple):
    """What all runs that are added have in common. `priority` None: 0, or as the spec says."""

    pool: str | None = None
    priority: int | None = None
    idea: str | None = None
    env: Mapping[str, str] = {}


def add_command(
    workers: Path,
    project: str | None,
    command: str,
    columns: Columns,
    metrics: Mapping[str, str] | None = None,
    *,
    gpus: int | None = None,
    warn: Say = ignore,
) -> Record:
    """Add a run of one command. `project` None: the only one; `metrics`: rules as texts of YAML, by name; `gpus` None:
    one; `warn` is called with what is odd about it. Raises UseError and SpecErrors."""
    if not command.strip():
        raise UseError("--command is empty; write the command to run")
    store = Store(workers)
    settings, common = _common(store, the_project(store, project), columns)
    for text in check_job(command, None, 1 if gpus is None else gpus):
        warn(text)
    run = {**common, "command": command, "priority": columns.priority or 0}
    if gpus is not None:
        run["gpus"] = gpus
    given = settings.get("metrics", {})
    return store.add("run", lambda _: [run], lambda added: [with_metrics(added[0], metrics or {}, given)])[0]


def add_spec(workers: Path, project: str | None, spec: str, columns: Columns, warn: Say = ignore) -> list[Record]:
    """Add a run for each job of a spec, with its grid keys; those that wait for others name them. `project` None: the
    only one; `warn` is called with each warning about the spec. Raises UseError and SpecErrors."""
    store = Store(workers)
    settings, common = _common(store, the_project(store, project), columns)
    manifest = build(spec, warn).manifest
    common["spec"] = os.path.relpath(spec, store.paths.root)
    if columns.priority is not None:
        common["priority"] = columns.priority
    new = from_manifest(manifest, common, settings.get("metrics", {}))
    return store.add("run", lambda _: new, linked)


def _common(store: Store, project: str, columns: Columns) -> tuple[Record, Record]:
    """The project, and the columns that all runs which are added have in common."""
    settings = projects.read(store.paths, project)
    pool = settings.get("pool") if columns.pool is None else columns.pool
    common: Record = {"project": project, "state": "pending", "created": now()}
    if pool is not None:
        _check_pool(store, pool)
        common["pool"] = pool
    if columns.idea is not None:
        of = find("idea", store.read("idea"), columns.idea)["project"]
        if of != project:
            raise UseError(f"the idea {columns.idea} is of the project {of} and not of {project}")
        common["idea"] = columns.idea
    for name, value in columns.env.items():
        fault = dotenv.name_fault(name)
        if fault:
            raise UseError(f"--env {name}: the name {fault}")
        if is_secret(name, value):
            raise UseError(f"--env {name} looks like a key, and the queue is a file that is shared; put it into .env")
    return settings, common | ({"env": dict(columns.env)} if columns.env else {})


def _check_pool(store: Store, pool: str) -> None:
    known = {one.pool for one in Registry.load(store.paths.workers).workers.values() if one.pool}
    if pool not in known:
        none = "put a host into it: wavequeue hosts add NAME USER@HOST:PORT --pool POOL"
        raise UseError("; ".join(unknown("pool", pool, sorted(known), none)))
