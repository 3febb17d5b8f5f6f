"""Describe what is submitted: a built spec, where its code is here, and where it goes on each host."""

from __future__ import annotations

import contextlib
import math
import os
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.manifest import Manifest, encode, sha256
from queue_manager.core.outputs import escape, is_glob, pattern_matches
from skill.common.errors import UseError
from skill.hosts.connection import remote
from skill.operations import build_spec
from skill.operations.build_spec import Given
from skill.runs.assignment import Part
from skill.runs.path_map import PathMap
from skill.transfer import code_files, not_code
from skill.transfer.code_files import CodeFiles
from skill.transfer.not_code import Project

if TYPE_CHECKING:
    from skill.hosts.registry import Registry, Worker


_BETWEEN = re.compile(r"[\s='\"`,;|&<>()]+")
_PATH = re.compile(r"[./]|data|ckpt|checkpoint", re.IGNORECASE)


class Submission(NamedTuple):
    """A spec to submit.

    `text` is its manifest file and `digest` that file's hash. `beside`: the directory of the spec. `source`: the
    directory whose content is pushed: that of the spec, or the nearest parent that also contains the cwd. `cwd`: where
    the jobs run, relative to `source`; None where the spec names a directory on the host, and nothing is pushed.
    `file`: what to give to a verb to mean the spec.
    """

    manifest: Manifest
    text: str
    digest: str
    beside: Path
    source: Path
    cwd: str | None
    file: str = "SPEC"

    @property
    def preflight(self) -> str:
        """The command that shows all checks of it."""
        return f"wavequeue preflight {shlex.quote(self.file)}"

    @property
    def pushed(self) -> bool:
        """Whether the code is pushed."""
        return self.cwd is not None

    def code_mib(self, code: CodeFiles | None) -> int | None:
        """The size of the code that is pushed, in MiB on the disk; None where none is."""
        if code is None:
            return None
        sizes = 0
        for name in code.files:
            with contextlib.suppress(FileNotFoundError):
                sizes += (self.source / name).lstat().st_blocks * 512
        return sizes >> 20

    def code(self) -> CodeFiles | None:
        """Choose the files that are pushed, by asking git; None where nothing is. Raises UseError where git fails."""
        if self.cwd is None:
            return None
        paths = PathMap("there", self.cwd, self.source)
        outputs = dict.fromkeys(name for job in self.manifest.jobs if (name := paths.output(job)) is not None)
        rows = {(job.cwd, one.path) for job in self.manifest.jobs for one in job.preconditions if one.path is not None}
        needed = [name for cwd, path in rows if (name := paths.place(cwd, path)) is not None]
        return code_files.choose(self.source, Project(tuple(outputs), needed, lambda: self._named(paths)))

    def _named(self, paths: PathMap) -> frozenset[str]:
        """What commands name, as far as it may be a path of the project."""
        rows = {(job.cwd, word) for job in self.manifest.jobs for word in _BETWEEN.split(job.cmd) if _PATH.search(word)}
        found = (paths.place(cwd, escape(word)) for cwd, word in rows)
        return frozenset(name for name in found if name is not None)

    def part(self, worker: Worker, jobs: Sequence[str]) -> Part:
        """A host's part of the run, before the host was checked."""
        workspace = remote(worker.workspace or f"~/wavequeue/{self.manifest.project}").rstrip("/") or "/"
        cwd = remote(self.manifest.cwd) if self.cwd is None else posixpath.normpath(posixpath.join(workspace, self.cwd))
        return Part(worker.name, tuple(jobs), workspace=workspace, cwd=cwd)

    def comes(self, code: CodeFiles | None, host_cwd: str) -> Callable[[str, str], bool]:
        """Whether the push of this code brings a path or glob, relative to a directory of a host. `host_cwd`: the run's
        cwd there."""

        names = () if code is None else code.files
        folders: set[str] = set()

        def found(pattern: str, where: str) -> bool:
            if self.cwd is None:
                return False
            if not folders:
                folders.update(str(folder) for name in names for folder in PurePosixPath(name).parents)
            below = posixpath.join(self.cwd, posixpath.relpath(where, host_cwd))
            path = posixpath.normpath(posixpath.join(escape(below) if is_glob(pattern) else below, pattern))
            if pattern.startswith("/"):
                path = posixpath.normpath(posixpath.join(self.cwd, posixpath.relpath(pattern, host_cwd)))
            if is_glob(pattern):
                return any(pattern_matches(path, name) for name in [*names, *folders])
            return path in folders or path in names

        return found


def prepare(manifest: Manifest, spec: Given, *, push: bool = True) -> Submission:
    """Return what a built spec submits. Raises UseError where the code cannot be pushed from its directory."""
    beside = Path(os.path.realpath(build_spec.beside(spec)))
    text = encode(manifest)
    made = Submission(manifest, text, sha256(text.encode()), beside, beside, None, build_spec.file_of(spec))
    if manifest.cwd.startswith(("/", "~")):
        return made
    here = Path(os.path.realpath(beside / manifest.cwd))
    source = Path(os.path.commonpath([beside, here]))
    if push and not here.is_dir():
        raise UseError(f"{spec}: cwd {manifest.cwd} does not exist; create it, or give another one")
    if push and (source == Path("/") or source == Path(os.path.realpath(Path.home()))):
        raise UseError(
            f"all of {source} would be pushed, since the spec and its cwd lie there; put them into a directory of the "
            "project, or write an absolute cwd for code that is on the host already"
        )
    return made._replace(source=source, cwd=os.path.relpath(here, source))


ASKED_ABOVE = 100_000_000
"""Bytes of code: more is sent only after a question."""


def say_size(
    made: Submission,
    code: CodeFiles | None,
    say: Callable[[str], None],
    agree: Callable[[str], None],
    since: float = -math.inf,
) -> None:
    """Report how large the code is that is pushed, with its largest files, and what is left out; `agree` is asked if
    what changed after `since` is large, and raises if it is not to be sent."""
    if code is None:
        return
    for line in code_lines(code):
        say(line)
    if sum(size for name, size in code.sizes.items() if _changed_at(made.source / name) > since) > ASKED_ABOVE:
        agree(code.words())


def code_lines(code: CodeFiles) -> list[str]:
    """Say which code is pushed, and what is not."""
    lines = [f"code: {code.words()}"]
    return [*lines, not_code.words(code.left_out, code_files.IGNORE)] if code.left_out else lines


def _changed_at(path: Path) -> float:
    try:
        return max(path.lstat().st_mtime, path.lstat().st_ctime)
    except FileNotFoundError:
        return 0.0


def targets(registry: Registry, names: Sequence[str], pool: str | None, manifest: Manifest) -> list[Worker]:
    """Return the hosts for a run: those named, those of the pool, the spec's, or the only one. Raises UseError."""
    chosen = tuple(dict.fromkeys(names)) or (manifest.hosts if pool is None else ())
    if names and pool is not None:
        raise UseError("give --host or --pool, not both")
    if pool is not None:
        return registry.in_pool(pool)
    if chosen:
        return [registry.named(name) for name in chosen]
    enabled = [worker for worker in registry.workers.values() if worker.enabled]
    if len(enabled) == 1:
        return enabled
    if enabled:
        names_there = listed(worker.name for worker in enabled)
        raise UseError(f"say which host with --host NAME or --pool POOL, or with hosts: in the spec; {names_there}")
    raise UseError(
        "no host is known: register one with `wavequeue hosts add NAME USER@HOST:PORT`, or give --host with a name of "
        "~/.ssh/config"
    )


MOST_ASKED = 20_000
"""Number of jobs about which a host is asked (running there? outputs there?); more would be megabytes."""


def question(manifest: Manifest, part: Part) -> Manifest:
    """Return what queue_manager.remote.preflight is asked on a host: only what it checks, to keep it small."""
    asked = len(manifest.jobs) <= MOST_ASKED
    jobs = [job for job in manifest.jobs if asked or job.preconditions or job.cwd is not None]
    cwd = part.cwd if part.cwd.startswith("/") else "~" if part.cwd == "." else f"~/{part.cwd}"
    return manifest._replace(
        jobs=tuple(job._replace(cmd="", depends_on=(), params={}, metrics=None, health=None) for job in jobs),
        phases=tuple(phase._replace(depends_on=()) for phase in manifest.phases),
        groups={},
        cwd=cwd,
    )
