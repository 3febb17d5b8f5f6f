"""Which host of a run has which jobs: hosts.json beside its manifest, and a host's part of the manifest."""

from __future__ import annotations

import contextlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict
from urllib.parse import quote

from build_manifest import regular_file
from queue_manager.core.layout import id_fault
from skill.common import files, typed_json
from skill.common.errors import FailedError, UseError
from skill.common.files import write_whole
from skill.runs.code_versions import Push
from skill.runs.dependencies import Dependencies, Need
from skill.runs.directory import HOST_FOLDERS, MOST_STATE, Run

if TYPE_CHECKING:
    from queue_manager.core.manifest import JobSpec, Manifest, Precondition
    from queue_manager.core.requests import Request

HOSTS = "hosts.json"
FORMAT = "wavequeue-hosts"
VERSION = 1
PLANNED, SUBMITTED, LOST = "planned", "submitted", "lost"
"""States of a part: no manager was started for it yet; one was; its jobs were moved away, because the host is lost."""
_LOCK = "hosts.lock"
MARKS = ".wavequeue/carried"


class Batch(NamedTuple):
    """Jobs that a host got after its part, because another host was given up. `id`: of the request that adds them;
    `sent`: whether its manager has accepted it."""

    id: str
    jobs: tuple[str, ...]
    sent: bool = False


class Part(NamedTuple):
    """What one host has of a run.

    `workspace` and `cwd`: paths on the host, absolute or relative to the home. `host_id`: who the host was when it got
    the part. `python`: its interpreter; `runtime`: digest of the runtime there; `pid`: of the manager as last started.
    `moved`: those of `jobs` that now belong to another host; `revoked`: whether this host was told so. `batches`: which
    of `jobs` came later, in that order. `done`: those of `jobs` that outputs stood for when the run began.
    `code`: what was pushed to it of late, oldest first. `rungs`: of those of `jobs` that came here because their ladder
    asked for another host, the rung that did.
    """

    host: str
    jobs: tuple[str, ...]
    state: str = PLANNED
    workspace: str = ""
    cwd: str = ""
    host_id: str | None = None
    python: str | None = None
    runtime: str | None = None
    pid: int | None = None
    moved: tuple[str, ...] = ()
    revoked: bool = False
    batches: tuple[Batch, ...] = ()
    done: tuple[str, ...] = ()
    code: tuple[Push, ...] = ()
    rungs: Mapping[str, int] = {}

    def first(self) -> tuple[str, ...]:
        """The jobs without those of its batches."""
        if not self.batches:
            return self.jobs
        later = {job for batch in self.batches for job in batch.jobs}
        return tuple(job for job in self.jobs if job not in later)

    def own(self) -> tuple[str, ...]:
        """The jobs that belong to this host now."""
        if not self.moved:
            return self.jobs
        gone = set(self.moved)
        return tuple(job for job in self.jobs if job not in gone)


class Assigned(NamedTuple):
    """A run on hosts. `digest`: sha256 of its manifest file; `created`: ISO time; `source`: absolute directory of the
    spec; `pulled`: when results last came from each host, ISO times by its name."""

    run_id: str
    project: str
    digest: str
    created: str
    source: str
    parts: tuple[Part, ...]
    pulled: Mapping[str, str] = {}

    def part(self, host: str) -> Part:
        """Return the part of a host. Raises UseError where it has none."""
        for part in self.parts:
            if part.host == host:
                return part
        names = ", ".join(part.host for part in self.parts)
        raise UseError(f"run {self.run_id} has no jobs on {host}; it is on: {names}")

    def with_part(self, part: Part) -> Assigned:
        """Return the assignment with this part instead of the host's former one, or added."""
        if all(one.host != part.host for one in self.parts):
            return self._replace(parts=(*self.parts, part))
        return self._replace(parts=tuple(part if one.host == part.host else one for one in self.parts))

    def host_of(self) -> dict[str, str]:
        """Return the present host of each job, by the job's id."""
        return {job: part.host for part in self.parts for job in part.own()}


def path(run: Run) -> Path:
    """Return the path of hosts.json. A run is on hosts if and only if it exists."""
    return run.root / HOSTS


def host_folder(run: Run, host: str) -> Path:
    """Return the directory for what is read of one host: its state, journal and logs. It may not exist."""
    return (
        run.root / HOST_FOLDERS / (quote(host, safe="@+=,") if id_fault(host) is None else f"~{quote(host, safe='')}")
    )


def read(run: Run) -> Assigned | None:
    """Read the assignment of a run; None if it is not on hosts. Raises FailedError if the file is invalid."""
    try:
        data = typed_json.decode(regular_file.read(path(run), MOST_STATE, follow=False), MOST_STATE)
        words = typed_json.fits(data, _Head) or (None if data["format"] == FORMAT else "has another format")
        if words is None and data["version"] > VERSION:
            raise FailedError(f"{path(run)} was written by a newer wavequeue; use that one")
        words = words or typed_json.fits(data, _File)
        if words is not None:
            raise ValueError(words)
        parts = tuple(map(_part, data["parts"]))
        fields = {name: data[name] for name in Assigned._fields if name not in ("parts", "pulled")}
        return Assigned(**fields, parts=parts, pulled=dict(data.get("pulled", {})))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FailedError(f"{path(run)}: {error.strerror}") from None
    except ValueError as error:
        raise FailedError(f"{path(run)} is not a list of hosts of wavequeue: {error}") from None


class _Head(TypedDict):
    format: str
    version: int


class _PartFields(TypedDict):
    host: str
    jobs: list[str]


class _PartRow(_PartFields, total=False):
    state: Literal["planned", "submitted", "lost"]
    workspace: str
    cwd: str
    host_id: str | None
    python: str | None
    runtime: str | None
    pid: int | None
    moved: list[str]
    done: list[str]
    code: list[tuple[str | None, str]]
    revoked: bool
    batches: list[tuple[str, list[str], bool]]
    rungs: dict[str, int]


class _Fields(_Head):
    run_id: str
    project: str
    digest: str
    created: str
    source: str
    parts: list[_PartRow]


class _File(_Fields, total=False):
    pulled: dict[str, str]


def _part(row: Mapping[str, Any]) -> Part:
    known = {name: row[name] for name in Part._fields if name in row}
    batches = tuple(Batch(name, tuple(jobs), sent) for name, jobs, sent in row.get("batches", ()))
    lists = {name: tuple(row.get(name, ())) for name in ("jobs", "moved", "done")}
    code = tuple(Push(name, at) for name, at in row.get("code", ()))
    return Part(**{**known, **lists, "batches": batches, "code": code})


def write(run: Run, assigned: Assigned) -> None:
    """Write the assignment, whole and durable. Raises OSError. Where others may write too, use `changed`."""
    parts = ",\n".join(json.dumps(part._asdict(), ensure_ascii=False) for part in assigned.parts)
    head = {"format": FORMAT, "version": VERSION, **assigned._asdict(), "pulled": dict(assigned.pulled)}
    del head["parts"]
    write_whole(path(run), f'{json.dumps(head, ensure_ascii=False)[:-1]},\n"parts": [\n{parts}\n]}}\n')


class Change:
    """The result of `changed`: `assigned` as it is in the file now; what it is set to is written."""

    def __init__(self, assigned: Assigned) -> None:
        self.assigned = assigned


@contextlib.contextmanager
def changed(run: Run) -> Iterator[Change]:
    """Change hosts.json alone: `with changed(run) as now: now.assigned = now.assigned.with_part(part)`.

    Others who change it wait, so hold it for a moment only, never while a host is asked. Nothing is written
    if the block raises, or sets nothing. Raises UseError if the run is not on hosts, FailedError if it cannot be read,
    OSError.
    """
    with locked(run):
        found = read(run)
        if found is None:
            raise UseError(f"run {run.id} is not on hosts; it runs on this machine")
        change = Change(found)
        yield change
        if change.assigned != found:
            write(run, change.assigned)


@contextlib.contextmanager
def locked(run: Run) -> Iterator[None]:
    """Lock out all others who change hosts.json. Raises OSError."""
    with files.locked(run.root / _LOCK):
        yield


class Mark(NamedTuple):
    """A file that says to a host that the outputs of `jobs`, which other hosts have, are there now.

    `path` is relative to the run's cwd on the host. Whoever carries makes it once all of them have been put there.
    """

    path: str
    jobs: tuple[str, ...]


def marks(manifest: Manifest, part: Part, run_id: str) -> tuple[Mark, ...]:
    """What jobs of a part wait for on other hosts, each once; or waited for when the host was given them: some of that
    may have been moved to this very host since."""
    found: dict[Mark, None] = {}
    for number in range(len(part.batches) + 1):
        outside = _Outside(manifest, part, run_id, number)
        found.update(dict.fromkeys(mark for job in outside.jobs for mark in outside.marks(job)))
    return tuple(found)


def awaited(manifest: Manifest, part: Part) -> dict[str, tuple[frozenset[str], ...]]:
    """Sets of jobs on other hosts whose outputs a job of a part waits for, by its id; of jobs that wait for none,
    nothing. Jobs that wait for the same share one set."""
    outside = _Outside(manifest, part, "")
    sets: dict[Mark, frozenset[str]] = {}
    found = {}
    for job in outside.jobs:
        waits = outside.marks(job)
        if waits:
            found[job] = tuple(sets.setdefault(mark, frozenset(mark.jobs)) for mark in waits)
    return found


def part_manifest(manifest: Manifest, part: Part, run_id: str = "") -> Manifest:
    """Return the manifest of a host: its jobs without batches, in the manifest's order, in its cwd.

    Where a job depends on a job of another host, the dependency becomes a precondition: the mark file that shows that
    the output was copied (see `marks`). Names of marks contain `run_id`, because the workspace may have served earlier
    runs.
    """
    outside = _Outside(manifest, part, run_id)
    jobs = tuple(outside.adapted(job) for job in manifest.jobs if job.id in outside.here)
    used = {name for job in jobs for name in job.depends_on}
    groups = {
        name: tuple(job for job in ids if job in outside.here) for name, ids in manifest.groups.items() if name in used
    }
    return manifest._replace(jobs=jobs, groups=groups, hosts=(part.host,), cwd=_expanded(part.cwd) or manifest.cwd)


def batch_request(manifest: Manifest, part: Part, number: int, run_id: str) -> Request:
    """What brings batch `number` (0 is the first) of a part to its host, as part_manifest brings the other jobs.

    Groups get names of their own: one that the host knows has only those members that it had then.
    """
    from queue_manager.core.requests import Request

    batch = part.batches[number]
    outside = _Outside(manifest, part, run_id, number + 1)
    wanted = set(batch.jobs)
    specs = [outside.adapted(job) for job in manifest.jobs if job.id in wanted]
    used = {name for spec in specs for name in spec.depends_on if name in manifest.groups}
    named = {name: f"{name} of {batch.id}" for name in manifest.groups if name in used}
    groups = {new: tuple(job for job in manifest.groups[old] if job in outside.here) for old, new in named.items()}
    specs = [
        spec._replace(depends_on=tuple(named.get(name, name) for name in spec.depends_on)) if spec.depends_on else spec
        for spec in specs
    ]
    return Request(batch.id, "add", phases=manifest.phases, groups=groups, specs=tuple(specs))


class _Outside:
    """What the jobs of a part need from jobs that it has not. `number`: of its batches, 0 for the jobs before them."""

    def __init__(self, manifest: Manifest, part: Part, run_id: str, number: int = 0) -> None:
        self.jobs = part.batches[number - 1].jobs if number else part.first()
        self.here = set(part.first()).union(*(batch.jobs for batch in part.batches[:number]))
        self._cwd, self._rungs = part.cwd, part.rungs
        self._folder = posixpath.join(MARKS, run_id)
        self._ending = f".{number}" if number else ""
        self._dependencies = Dependencies(manifest)
        self._marks: dict[tuple[str, str], Mark | None] = {}

    def marks(self, job: str) -> list[Mark]:
        return [mark for need in self._dependencies.needs(job) if (mark := self._mark(need))]

    def _mark(self, need: Need) -> Mark | None:
        key = need.kind, need.name
        if key not in self._marks:
            jobs = tuple(job for job in need.ids if job not in self.here)
            path = posixpath.join(self._folder, _mark_name(need) + self._ending)
            self._marks[key] = Mark(path, jobs) if jobs else None
        return self._marks[key]

    def adapted(self, spec: JobSpec) -> JobSpec:
        """The job as its host gets it."""
        if spec.id in self._rungs:
            from queue_manager.core import recovery

            spec = recovery.moved(spec, self._rungs[spec.id])
        found = self.marks(spec.id)
        if not found:
            return spec
        left = []
        for need in self._dependencies.needs(spec.id):
            outside = self._mark(need)
            if need.kind != "phase" and (outside is None or len(outside.jobs) < len(need.ids)):
                left.append(need.name)
        waits = tuple(self._precondition(mark, spec.cwd or ".") for mark in found)
        return spec._replace(depends_on=tuple(left), preconditions=(*waits, *spec.preconditions))

    def _precondition(self, mark: Mark, cwd: str) -> Precondition:
        """A precondition's path is meant from the job's cwd, which may be elsewhere."""
        from queue_manager.core.manifest import Precondition

        if not cwd.startswith(("/", "~")):
            return Precondition("carried", path=posixpath.relpath(mark.path, cwd))
        place = posixpath.join(self._cwd, mark.path)
        return Precondition("carried", path=place if place.startswith("/") else f"~/{place}")


def _mark_name(need: Need) -> str:
    """A file name for a need. Names of groups may hold anything, and preconditions are globs."""
    digest = sha256(f"{need.kind} {need.name}".encode()).hexdigest()[:8]
    return f"{need.kind}-{re.sub('[^A-Za-z0-9._=+,@-]', '_', need.name)[:120]}-{digest}"


def _expanded(cwd: str) -> str:
    """A path on the host as the manager there reads it: it takes what is not absolute from the run directory."""
    if not cwd or cwd.startswith(("/", "~")):
        return cwd
    return "~" if cwd == "." else f"~/{cwd}"
