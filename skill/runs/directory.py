"""Runs on this machine: which there are, which one is meant, and room for a new one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from build_manifest import regular_file
from build_manifest.faults import listed, nearest
from queue_manager.core.layout import LOCAL_RUNS, HostPaths, RunPaths
from queue_manager.core.state_format import FORMAT, VERSION
from skill.common import typed_json
from skill.common.errors import FailedError, UseError
from skill.common.files import append_to, make_directory, make_name, make_new_directory
from skill.runs import state_schema

if TYPE_CHECKING:  # a run's state is shown without them
    from queue_manager.core import events, manifest

Document = dict[str, Any]
"""queue_state.json as it was read."""
HOST_FOLDERS, ADDED = "hosts", "added.jsonl"
"""Of a run on hosts: where lies what is read of them, and journal lines about jobs that were added: of the run those
from here, of a host those that it tells of."""
MOST_STATE = 256 << 20
"""Bytes of a state or a manifest: those of 100,000 jobs have about 70 MiB."""
_STAGE = ".new-"
_TIME = re.compile(r"-[0-9]{8}-[0-9]{6}(?:-[0-9]+)?$")
_MOST_JOURNAL = 4 << 30
"""Bytes of a journal that is read."""
_LINE = 256 << 20
"""Bytes of one line of it: one may bring many jobs."""
_JOBS, _JOBS_END, _ID = b',\n"jobs": [\n', b"\n]}\n", b'{"id": "'


class Run(NamedTuple):
    """One run directory. `id` is its name."""

    id: str
    paths: RunPaths

    @classmethod
    def at(cls, directory: Path) -> Run:
        directory = directory.resolve()
        return cls(directory.name, RunPaths.of(directory))

    @property
    def root(self) -> Path:
        return self.paths.root


def run_id(project: str, now: float) -> str:
    """PROJECT-YYYYMMDD-HHMMSS in UTC; `now` in epoch seconds."""
    return f"{project}-{datetime.fromtimestamp(now, timezone.utc):%Y%m%d-%H%M%S}"


def title(run_id: str) -> str:
    """What a run is called without the time in its id: its name, or its project's."""
    return _TIME.sub("", run_id)


def _runs_beside(beside: Path) -> Path:
    """Make the directory of the runs beside a spec, which git leaves alone."""
    local = beside / LOCAL_RUNS
    make_directory(local)
    ignore = local / ".gitignore"
    if not ignore.exists() or not ignore.stat().st_size:
        with append_to(ignore) as file:  # in one write, and with no other name first that a kill would leave
            file.write(b"*\n")
    return local


def create(project: str, beside: Path, place: HostPaths, now: float) -> Run:
    """Make the directory of a new run below `beside`, and its name among the runs of this machine. Nobody else gets
    either. `place`: of all that is this machine's own, as of ~/.wavequeue.

    Where the name is taken it gets -2, -3 and so on. Raises OSError.
    """
    local, shared = _runs_beside(beside), place.runs
    make_directory(shared)
    first = run_id(project, now)
    number = 1
    while True:
        name = first if number == 1 else f"{first}-{number}"
        number += 1
        try:
            make_new_directory(local / name)
        except FileExistsError:
            continue
        try:
            make_name(shared / name, (local / name).resolve())
        except FileExistsError:
            (local / name).rmdir()
            continue
        return Run.at(local / name)


def create_filled(name: str, beside: Path, fill: Callable[[Run, str], None]) -> Run:
    """Make the directory of a run whose jobs run elsewhere: it is there with all its files, or not at all.

    Where the `name` is taken it gets -2, -3 and so on. `fill` writes the files, given the directory as it is at first
    and the run's id. The run gets no name in ~/.wavequeue/runs, see `note_submitted`: this machine may itself be one of
    its hosts. Only one process at a time may make runs beside a spec in this way. Raises OSError.
    """
    local = _runs_beside(beside)
    for left in local.glob(f"{_STAGE}*"):  # of one that was killed
        shutil.rmtree(left, ignore_errors=True)
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(one for one in names if not (local / one).exists())
    stage = local / f"{_STAGE}{free}"
    make_new_directory(stage)
    fill(Run.at(stage), free)
    stage.rename(local / free)
    return Run.at(local / free)


def discard(run: Run, place: HostPaths) -> None:
    """Take a run away again in which nothing has begun."""
    with contextlib.suppress(OSError):
        (place.runs / run.id).unlink()
    shutil.rmtree(run.root, ignore_errors=True)


def note_submitted(run: Run, home: Path) -> None:
    """See to it that a run on hosts is found from any directory. Raises OSError."""
    folder = HostPaths.of(home).submitted
    make_directory(folder)
    link = folder / run.id
    if not link.exists():  # or it leads to a run that was removed
        link.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            make_name(link, run.root)


def in_folder(*folders: Path) -> Iterator[Run]:
    """The runs that lie in these folders, newest first: by when their manifest was written. Of two with one name, the
    one in the first folder."""
    found: dict[str, tuple[int, str, Path]] = {}
    for folder in folders:
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                with contextlib.suppress(OSError):  # a link whose run was removed
                    if not path.name.startswith(_STAGE):
                        at = RunPaths.of(path).manifest.stat().st_mtime_ns
                        found.setdefault(path.name, (at, path.name, path))
    return (Run.at(path) for _, _, path in sorted(found.values(), reverse=True))


def without_manifest(folder: Path) -> Iterator[Run]:
    """Directories among the runs of a folder that lack a manifest: what is left of a run."""
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            if _TIME.search(path.name) and path.is_dir() and not RunPaths.of(path).manifest.exists():
                yield Run.at(path)


def made_at(run: Run) -> float:
    """When a run was made, in epoch seconds: when its manifest was written."""
    for path in (run.paths.manifest, run.root):
        with contextlib.suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def staged(root: Path) -> Path:
    """The name of a directory beside a run's that is not taken for a run, and is cleared away some time."""
    return root.with_name(f"{_STAGE}{root.name}")


def of_project(project: Path, cwd: Path) -> Iterator[Run]:
    """Runs beside specs of a project: in its directory, and two levels below; and in `cwd`."""
    folders = [project / LOCAL_RUNS, *project.glob(f"*/{LOCAL_RUNS}"), *project.glob(f"*/*/{LOCAL_RUNS}")]
    for folder in dict.fromkeys([*folders, cwd / LOCAL_RUNS]):
        yield from in_folder(folder)


def known(cwd: Path, home: Path) -> Iterator[Run]:
    """All runs that may be meant, the likeliest first: those of `cwd` and of directories below it, as far as this user
    started them, those of its parents, then all of this user."""
    seen = set()
    places = HostPaths.of(home)
    for run in in_folder(cwd / LOCAL_RUNS, places.submitted, places.runs):
        if run.root.is_relative_to(cwd):
            seen.add(run.root)
            yield run
    beside = [(parent / LOCAL_RUNS,) for parent in (cwd, *cwd.parents)]
    shared = [(place / places.runs.name,) for place in sorted(places.others.glob("*"))]
    # Where this machine is itself a host of a run, the run here is meant, and not the host's part.
    for folders in (*beside, (places.submitted, places.runs), *shared):
        for run in in_folder(*folders):
            if run.root not in seen:
                seen.add(run.root)
                yield run


def find(name: str | None, cwd: Path, home: Path) -> Run:
    """The run that is meant: by id, by the beginning of one, by its directory, or else the newest. Raises UseError."""
    if name is None:
        newest = next(known(cwd, home), None)
        if newest is None:
            raise UseError("there is no run yet, here or in ~/.wavequeue/runs; start one with: wavequeue run SPEC")
        return newest
    path = Path(name).expanduser()
    if "/" in name or (path / RunPaths.of(path).state.name).exists():
        if not RunPaths.of(path).manifest.exists() and not RunPaths.of(path).state.exists():
            raise UseError(f"{name} is not the directory of a run: it has no manifest.json")
        return Run.at(path)
    return _by_name(name, list(known(cwd, home)))


def _by_name(name: str, runs: list[Run]) -> Run:
    for run in runs:
        if run.id == name:
            return run
    called = [run for run in runs if title(run.id) == name]
    fits = called if len(called) == 1 else [run for run in runs if run.id.startswith(name)]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise UseError(f"{len(fits)} runs begin with {name}: {listed(run.id for run in fits)}; give more of the name")
    close = nearest(name, [run.id for run in runs])
    hint = f"did you mean {close}?" if close else f"there are: {listed(run.id for run in runs)}" if runs else ""
    raise UseError("; ".join(filter(None, (f"there is no run {name}", hint))))


def read_state(run: Run) -> Document:
    """The state file of a run. Raises UseError where there is none, or it is not ours."""
    try:
        return parse_state(regular_file.read(run.paths.state, MOST_STATE, follow=False))
    except FileNotFoundError:
        raise UseError(
            f"run {run.id} has no state yet: its manager has not started; start it: wavequeue resume --run {run.id}"
        ) from None
    except OSError as error:
        raise FailedError(f"{run.paths.state}: {error.strerror}") from None
    except DamagedStateError as error:
        how = f"the manager restores it from the journal: wavequeue resume --run {run.id}"
        raise UseError(f"{run.paths.state} {error}; {how}") from None
    except ValueError as error:
        raise UseError(f"{run.paths.state} {error}") from None


def start_notices(conditions: Iterable[Mapping[str, Any]], host: str | None = None) -> tuple[str, ...]:
    """What a manager says of the environment that it was started in: which names of it differ from the run's.

    `conditions`: of a state. `host`: only of this one, of a run on hosts.
    """
    meant = [row for row in conditions if row["kind"].startswith("environment") and row.get("host") == host]
    return tuple(row["text"].removeprefix(f"{host}: ") for row in meant)


class DamagedStateError(ValueError):
    """What should be a state file is none. The journal still tells the whole run."""


def is_state_lost(run: Run) -> bool:
    """Whether a run has no state, or a damaged one: its manager writes it from the journal."""
    try:
        parse_state(regular_file.read(run.paths.state, MOST_STATE, follow=False))
    except (FileNotFoundError, DamagedStateError):
        return True
    except (OSError, ValueError):
        return False
    return False


def parse_state(data: bytes) -> Document:
    """Read a state file's content. Raises ValueError that says what it is instead."""
    try:
        document = typed_json.decode(data, MOST_STATE)
        ours = document["meta"]["format"] == FORMAT
        is_newer = document["meta"]["version"] > VERSION
    except (ValueError, KeyError, TypeError):
        ours = is_newer = False
    if not ours:
        raise DamagedStateError("is not a state file of wavequeue")
    if is_newer:
        raise ValueError("was written by a newer wavequeue; use that one")
    words = state_schema.fault(document)
    if words is not None:
        raise DamagedStateError(f"is damaged ({words})")
    found: Document = document
    return found


def read_pulled_state(folder: Path, jobs: int) -> Document:
    """The state of a host as it was pulled into a folder of its run; it was given so many jobs. Raises OSError,
    ValueError."""
    return read_sent(RunPaths.of(folder).state, jobs, added_size(folder, folder.parent.parent))


def read_sent(file: Path, jobs: int, added: int = 0) -> Document:
    """The state in a file that came of a host, which was given so many jobs. `added`: see `added_size`. Raises OSError,
    ValueError."""
    return parse_state(regular_file.read(file, state_schema.most_bytes(jobs, added), follow=False))


def added_size(*folders: Path) -> int:
    """Bytes of what is known here of jobs that were added, by folders of a run and of its hosts."""
    size = 0
    for folder in folders:
        with contextlib.suppress(OSError):
            size += (folder / ADDED).lstat().st_size
    return size


def read_manifest(run: Run, *, ours: bool = False) -> manifest.Manifest:
    """The manifest of a run with all that was added or changed since, as far as is known here. Raises FailedError.

    `ours`: only what was added from here. What a host says of its jobs is shown, but by that no file comes here.
    """
    from queue_manager.core import events, manifest

    try:
        made = manifest.decode(_manifest_file(run).decode("utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FailedError(f"{run.paths.manifest}: {_words(error)}") from None
    from_hosts = [] if ours else sorted((run.root / HOST_FOLDERS).glob(f"*/{ADDED}"))
    for path in (run.paths.journal, run.root / ADDED, *from_hosts):
        for event in _read(path, ['"JobsAdded"', '"JobsChanged"']):
            if isinstance(event, events.JobsAdded):
                made = _with_added(made, event)
            elif isinstance(event, events.JobsChanged):
                made = _with_changed(made, event)
    return made


def note_added(run: Run, event: events.JobsAdded | events.JobsChanged, now: float) -> None:
    """Write down that jobs were added to a run on hosts, or changed in it, from here. `now` in epoch seconds. Raises
    OSError."""
    from queue_manager.core import events

    with append_to(run.root / ADDED) as file:
        file.write(events.encode(events.Record(1, now, event)).encode())
        os.fsync(file.fileno())


def read_added(journal: Path) -> list[events.JobsAdded]:
    """What a journal tells of jobs that were added. Raises FailedError."""
    if not journal.exists():
        return []
    from queue_manager.core import events

    return [event for event in _read(journal, ['"JobsAdded"']) if isinstance(event, events.JobsAdded)]


def _read(journal: Path, needles: Iterable[str]) -> list[events.Event]:
    return [record.event for record in _records(journal, needles)]


def _with_changed(made: manifest.Manifest, event: events.JobsChanged) -> manifest.Manifest:
    """A manifest with what was changed of its jobs."""
    changes = event.changes
    jobs = tuple(job._replace(**changes[job.id]) if job.id in changes else job for job in made.jobs)
    return made._replace(jobs=jobs)


def _with_added(made: manifest.Manifest, event: events.JobsAdded) -> manifest.Manifest:
    """A manifest with jobs that were added. A host cannot bring what another has, or what has no place."""
    names = {phase.name for phase in made.phases}
    phases = (*made.phases, *(phase for phase in event.phases if phase.name not in names))
    names.update(phase.name for phase in event.phases)
    ids = {job.id for job in made.jobs}
    new = [spec for spec in event.specs if spec.id not in ids and spec.phase in names]
    ids.update(spec.id for spec in new)
    groups = {**{name: members for name, members in event.groups.items() if ids.issuperset(members)}, **made.groups}
    new = [spec for spec in new if all(name in ids or name in groups for name in spec.depends_on)]
    return made._replace(phases=phases, groups=groups, jobs=(*made.jobs, *new))


def read_outline(run: Run, ids: Container[str]) -> manifest.Manifest:
    """The manifest of a run with these jobs alone and without its groups, for a view that shows few of very many.

    It was checked when it was written. Raises FailedError.
    """
    from queue_manager.core import manifest

    try:
        data = _outline(_manifest_file(run), ids)
        jobs = tuple(manifest.job_from_json(row) for row in data["jobs"] if row["id"] in ids)
        phases = tuple(map(manifest.phase_from_json, data["phases"]))
        wave = str(data.get("wave", "rolling"))
        return manifest.Manifest(data["project"], jobs, phases, cwd=data.get("cwd", "."), wave=wave)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FailedError(f"{run.paths.manifest}: {_words(error)}") from None


def _manifest_file(run: Run) -> bytes:
    return regular_file.read(run.paths.manifest, MOST_STATE, follow=False)


def _words(error: Exception) -> str:
    """Why a file of ours cannot be read, after its name."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if isinstance(error, (KeyError, TypeError, AttributeError)):
        return f"is damaged: something in it is missing or has a wrong type ({error})"
    return str(error)


def _outline(data: bytes, ids: Container[str]) -> dict[str, Any]:
    """A manifest file's content; where it has a line for each job, as we write it, without most of the others."""
    begin = data.find(_JOBS)
    whole: dict[str, Any]
    if begin < 0 or not data.endswith(_JOBS_END):
        whole = json.loads(data)
        return whole
    lines = data[begin + len(_JOBS) : -len(_JOBS_END)].split(b",\n")
    whole = json.loads(data[:begin] + b"}")
    kept = (line for line in lines if not line.startswith(_ID) or _id(line) in ids)
    return {**whole, "jobs": [json.loads(line) for line in kept]}


def _id(line: bytes) -> str:
    return line[len(_ID) : line.index(b'"', len(_ID))].decode()


def records(run: Run, needles: Iterable[str]) -> list[events.Record]:
    """The journal's records whose line holds one of `needles`; only these are read in full. Raises FailedError."""
    return _records(run.paths.journal, needles)


def _records(journal: Path, needles: Iterable[str]) -> list[events.Record]:
    from queue_manager.core import events

    wanted = [needle.encode() for needle in needles]
    found = []
    try:
        with regular_file.open_regular(journal, follow=False) as file:
            if os.fstat(file.fileno()).st_size > _MOST_JOURNAL:
                raise ValueError(f"is too large: at most {_MOST_JOURNAL >> 30} GiB are read")
            while line := file.readline(_LINE):
                # The manager may be writing the last line just now.
                if line.endswith(b"\n") and any(needle in line for needle in wanted):
                    found.append(events.decode(line.decode()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FailedError(f"{journal}: {_words(error)}") from None
    return found
