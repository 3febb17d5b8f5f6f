"""Find what a manifest would meet on this machine: existing outputs, and active runs that write the same files.

Changes nothing. A search that takes too long is cut short and says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.adapters import evidence, facts
from queue_manager.core import shell_paths
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.manifest import decode as decode_manifest
from queue_manager.core.outputs import escape, is_glob, patterns_overlap

PATIENCE = 10.0
"""Seconds for the search for outputs; on a slow file system the rest is not checked."""
SHARED = 5
"""Most shared outputs of one run that are named."""
_COMPARISONS = 200_000


class _Run(NamedTuple):
    """An active run. `pid`: of its manager; None where that died and jobs are still running."""

    id: str
    pid: int | None
    manifest: Manifest
    jobs: tuple[JobSpec, ...]
    cwd: str


def describe(manifest: Manifest, cwd: str, home: HostPaths) -> dict[str, Any]:
    """The document.

    `outputs`: the newest match of each job's expected_output, as [job id, epoch seconds of its last change], of jobs
    whose output is there; `outputs_untried`: how many were not looked for, since the look took too long. `live`: runs
    of this user that go on here and have to do with this manifest: {run_id, pid (null: its manager has gone and jobs of
    it still run), same (it has the same jobs in the same place), shared (outputs that both would write, at most 5),
    shared_count}; `live_unknown`: the runs of which that is not known, and why, in words.
    """
    found, untried = _outputs(manifest.jobs, cwd)
    unknown: list[str] = []
    live = _live(manifest, cwd, home, unknown)
    return {"outputs": found, "outputs_untried": untried, "live": live, "live_unknown": unknown}


def _outputs(jobs: Iterable[JobSpec], cwd: str) -> tuple[list[tuple[str, float]], int]:
    until = time.monotonic() + PATIENCE
    found, untried = [], 0
    for job in jobs:
        if job.expected_output is None:
            continue
        if time.monotonic() > until:
            untried += 1
            continue
        at_ns = evidence.newest_output(job.expected_output, job_cwd(cwd, job))
        if at_ns is not None:
            found.append((job.id, at_ns / 1e9))
    return found, untried


def job_cwd(cwd: str, job: JobSpec) -> str:
    """Return the directory of a job, below the run's `cwd` unless it names another one."""
    return os.path.normpath(os.path.join(cwd, os.path.expanduser(job.cwd or ".")))


class OutputTest:
    """Tests whether a path is the output of a job, or is inside one. Jobs are read only when it is first used.

    `cwd`: of the run, absolute.
    """

    def __init__(self, cwd: str) -> None:
        self._cwd = cwd
        self._jobs: Callable[[], Sequence[JobSpec]] | None = None
        self._known = 0
        self._patterns = evidence.Patterns()

    def of(self, jobs: Callable[[], Sequence[JobSpec]]) -> OutputTest:
        """The same with the jobs that `jobs` gives, of which the first may be known already."""
        self._jobs = jobs
        return self

    def __call__(self, path: str) -> bool:
        if self._jobs is not None:
            jobs, self._jobs = self._jobs(), None
            for job in jobs[self._known :]:
                if job.expected_output is not None:
                    self._patterns.add(job.id, job.expected_output, job_cwd(self._cwd, job))
            self._known = len(jobs)
        while len(path) > len(self._cwd):
            if self._patterns.others_match("", path):  # no job has the empty id
                return True
            path = os.path.dirname(path)
        return False


def _live(manifest: Manifest, cwd: str, home: HostPaths, unknown: list[str]) -> list[dict[str, Any]]:
    mine = _patterns(manifest.jobs, cwd)
    ids = {job.id for job in manifest.jobs}
    rows = []
    for run in _runs(home, unknown):
        theirs = {job.id for job in run.jobs}
        same_place = run.manifest.project == manifest.project and run.cwd == cwd
        same = same_place and (ids <= theirs or theirs <= ids)
        shared = _shared(mine, _patterns(run.jobs, run.cwd))
        if same or shared:
            rows.append({
                "run_id": run.id, "pid": run.pid, "same": same, "shared": shared[:SHARED], "shared_count": len(shared),
            })  # fmt: skip
    return rows


def _patterns(jobs: Iterable[JobSpec], cwd: str) -> list[str]:
    """Return all outputs, absolute."""
    return [
        os.path.normpath(os.path.join(escape(job_cwd(cwd, job)), job.expected_output))
        for job in jobs
        if job.expected_output is not None
    ]


def _shared(mine: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Return those of `mine` that a job of the other run may also write."""
    literal = {one for one in theirs if not is_glob(one)}
    globs = [one for one in theirs if is_glob(one)]
    budget = _COMPARISONS
    found = []
    for one in dict.fromkeys(mine):
        if one in literal:
            found.append(one)
            continue
        others = [*globs, *literal] if is_glob(one) else globs
        budget -= len(others)
        if budget >= 0 and any(patterns_overlap(one, other) for other in others):
            found.append(one)
    return found


def _runs(home: HostPaths, unknown: list[str]) -> Iterator[_Run]:
    """The runs of this user that go on: a manager holds them, or their jobs have outlived it. Those of other machines
    that have this home write into the same files, so that they count, as long as their manager lives.

    What cannot be read, and so cannot be compared, is put into `unknown`, a text each.
    """
    for place in (home, *_elsewhere(home, unknown)):
        for folder in _entries(place.runs, unknown):
            paths = RunPaths.of(folder)
            try:
                pid = facts.held_by(paths.lock)
                if pid is None and not _is_between_managers(paths) and not (place == home and _jobs_run(paths)):
                    continue
                found = _read(folder.name, pid, RunPaths.of(folder.resolve()))
            except OSError as error:
                unknown.append(f"run {folder.name}: {error.filename}: {error.strerror}")
            except ValueError as error:
                unknown.append(f"run {folder.name}: {error}")
            else:
                yield found


def _elsewhere(home: HostPaths, unknown: list[str]) -> list[HostPaths]:
    """Return the directories of other machines in this home."""
    base = home.base or home.root
    return [HostPaths(root, base) for root in (base, *_entries(home.others, unknown)) if root != home.root]


def _entries(folder: Path, unknown: list[str]) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        unknown.append(f"{folder}: {error.strerror}")
        return []


def _is_between_managers(paths: RunPaths) -> bool:
    """Whether the manager of a run is a job of Slurm, which another one follows until the run has finished."""
    return paths.manager_job.exists() and facts.state_meta(paths.state).get("manager") == "running"


def _jobs_run(paths: RunPaths) -> bool:
    """Whether jobs of a run go on without a manager: it was killed or halted, and their sessions live. Raises OSError
    where its state cannot be read."""
    try:
        text = paths.state.read_bytes()
        if facts.state_meta(paths.state).get("manager") not in ("running", "halted"):
            return False
        rows = json.loads(text)["jobs"]
        pids = [(row["screen_pid"], row["screen_name"]) for row in rows if row["status"] == "running"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False
    return any(type(pid) is int and facts.is_session(pid, str(name)) for pid, name in pids)


def _read(run_id: str, pid: int | None, paths: RunPaths) -> _Run:
    """Raises OSError, ValueError."""
    manifest = decode_manifest(paths.manifest.read_text(encoding="utf-8"))
    jobs = {job.id: job for job in manifest.jobs}
    with contextlib.suppress(FileNotFoundError), paths.journal.open("rb") as file:
        for line in file:
            if b'"JobsAdded"' in line and line.endswith(b"\n"):
                from queue_manager.core.events import JobsAdded, decode

                event = decode(line.decode()).event
                if isinstance(event, JobsAdded):
                    jobs.update((spec.id, spec) for spec in event.specs)
    cwd = os.path.normpath(paths.root / os.path.expanduser(manifest.cwd))
    whole = shell_paths.whole(manifest._replace(jobs=tuple(jobs.values())), os.environ)
    return _Run(run_id, pid, whole, whole.jobs, cwd)
