"""Where the code and the results of a run lie, on a host and here, and which results are wanted of a host. Pure."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.outputs import escape
from queue_manager.core.shell_paths import on_host
from skill.hosts.connection import remote
from skill.runs.assignment import Assigned, Part
from skill.runs.directory import Run

RESULTS = "results"
"""Where results lie in the directory of a run whose code was not pushed."""


class PathMap(NamedTuple):
    """The directory whose files correspond to each other: `there` on a host, relative to its home or absolute, and
    `here`. `cwd`: the run's, from there."""

    there: str
    cwd: str
    here: Path

    def place(self, cwd: str | None, pattern: str) -> str | None:
        """A path or glob, meant from a job's cwd on the host, as a name below the ground; None if it is elsewhere."""
        if on_host(pattern):
            return None
        base = posixpath.join(self.there, self.cwd)
        if cwd is not None:
            # The result is a pattern, and a directory's name is none.
            base = remote(cwd) if cwd.startswith("~") else posixpath.join(base, escape(cwd))
        path, top = posixpath.normpath(posixpath.join(base, pattern)), posixpath.normpath(self.there)
        if path == top:
            return "."
        if top == ".":
            return None if path.startswith(("/", "../")) or path == ".." else path
        top = top.rstrip("/") + "/"
        return path[len(top) :] if path.startswith(top) else None

    def output(self, spec: JobSpec) -> str | None:
        """What a job writes, as a name below the ground; None where it is elsewhere, or nothing."""
        return None if spec.expected_output is None else self.place(spec.cwd, spec.expected_output)


class Wanted(NamedTuple):
    """What is asked of a host: `patterns` below the ground, those of no job from index `declared` on; `but` what moved
    to other hosts; `outside`: ids of jobs whose output lies elsewhere, and is not asked for."""

    patterns: tuple[str, ...]
    declared: int
    but: tuple[str, ...]
    outside: tuple[str, ...]


def map_paths(run: Run, assigned: Assigned, manifest: Manifest, part: Part) -> PathMap:
    """Where a part's files lie.

    Code that was pushed has its results here where a run on this machine would have written them; of code that was
    on the host already they come into the run's directory.
    """
    if manifest.cwd.startswith(("/", "~")):
        return PathMap(part.cwd, ".", run.root / RESULTS)
    return PathMap(part.workspace, _below(part.cwd, part.workspace), Path(assigned.source))


def _below(path: str, top: str) -> str:
    inner = PathMap(top, ".", Path()).place(None, posixpath.relpath(path, top))
    return inner or "."


def wanted(paths: PathMap, manifest: Manifest, part: Part) -> Wanted:
    """The results that belong to a host now."""
    own, moved = set(part.own()), set(part.moved)
    patterns: dict[str, None] = {}
    but: dict[str, None] = {}
    outside = []
    for spec in manifest.jobs:
        if spec.id not in own and spec.id not in moved:
            continue
        pattern = paths.output(spec)
        if pattern is None:
            if spec.expected_output is not None and spec.id not in moved:
                outside.append(spec.id)
        else:
            (but if spec.id in moved else patterns)[pattern] = None
    declared = [name for glob in manifest.pull if (name := paths.place(None, glob)) is not None]
    return Wanted((*patterns, *declared), len(patterns), tuple(but), tuple(outside))
