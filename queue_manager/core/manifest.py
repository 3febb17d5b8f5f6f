"""The manifest: the expanded, frozen list of jobs that is the only input of a run. Types, JSON codec, errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from queue_manager.core import launchers
from queue_manager.core.health_policy import is_policy
from queue_manager.core.layout import id_fault, project_fault
from queue_manager.core.notify_rules import is_notify
from queue_manager.core.recover_policy import is_ladder
from queue_manager.core.slurm_manager import is_manager
from queue_manager.core.slurm_needs import is_slurm

FORMAT = "wavequeue-manifest"
VERSION = 1
_HALF = re.compile("[\ud800-\udfff]")
MAX_JOBS = 1_000_000
WAVES = ("rolling", "barrier")
WHEN_DONE = ("keep", "stop", "destroy")
PRECONDITIONS = ("checkpoint_exists", "file_exists", "command", "disk_free_gib", "carried")


class ManifestError(ValueError):
    """The manifest cannot be used. The message says where and what to do instead."""


class Precondition(NamedTuple):
    """What has to hold before a job starts.

    `checkpoint_exists` and `file_exists` look at `path` (a path or glob, relative to the job's cwd; a checkpoint
    also has to be non-empty), `command` runs `command` under bash in the job's cwd and wants exit code 0,
    `disk_free_gib` wants `gib` GiB free where `path` (default: the cwd) lies. `carried`, which no spec can say, waits
    for the file `path` (no glob; `~` is the home) that is made once another host's outputs have been brought here: as
    long as it may come, the run is not over.
    """

    type: str
    path: str | None = None
    command: str | None = None
    gib: float | None = None


class OomRetry(NamedTuple):
    """`delay` in seconds before the next attempt; `max_attempts` attempts that end in OOM make the job stuck."""

    delay: float = 120.0
    max_attempts: int = 3


class Phase(NamedTuple):
    """A named stage. Without `match`, each of its jobs waits for all jobs of the phases in `depends_on`;
    with it, the dependencies stand in the jobs."""

    name: str
    depends_on: tuple[str, ...] = ()
    match: tuple[str, ...] = ()


class JobSpec(NamedTuple):
    """One unit of work.

    `cmd` is bash, with `${GPU}` left for launch. `depends_on` names jobs and groups (`Manifest.groups`).
    `gpus`: cards needed, 0 for none. `gpu_mem_mib`: MiB promised to the job on a card it may share; None: the
    card is its own. `timeout` in seconds. Higher `priority` goes first. `params`: grid values and args as they
    were written. `grace`: seconds to save between TERM and KILL; None: the manifest's. `errexit`: whether `cmd` ends at
    its first command that fails; None: as the manifest says. `env_from`: variables that are known at launch only: a
    text, the name of a variable of the host, a text and so on, that are put together. `wandb`: whether W&B gets
    the job's name and run; None: as the manifest says. `est_minutes`: how long its owner takes it to run, for estimates
    alone. `health`: what counts as unhealthy while it runs, see health_policy. `recover`: what is tried when it
    fails, see recover_policy. `slurm`: what Slurm is asked for, where that runs it, see slurm_needs. `gpu_model`:
    models of GPUs that will do, see gpu_models; empty: any.
    """

    id: str
    cmd: str
    phase: str
    depends_on: tuple[str, ...] = ()
    gpus: int = 1
    gpu_mem_mib: int | None = None
    expected_output: str | None = None
    cwd: str | None = None
    env: Mapping[str, str] = {}
    timeout: float | None = None
    priority: int = 0
    retries: int = 0
    preconditions: tuple[Precondition, ...] = ()
    params: Mapping[str, str] = {}
    metrics: Any = None
    errexit: bool | None = None
    grace: float | None = None
    env_from: Mapping[str, tuple[str, ...]] = {}
    wandb: bool | None = None
    est_minutes: float | None = None
    health: Any = None
    recover: Any = None
    slurm: Any = None
    gpu_model: tuple[str, ...] = ()


class Manifest(NamedTuple):
    """A run's input. `cwd`, where relative, is meant from the directory of the manifest file.

    `gpus`: indices of the cards that may be used, None for all. `gpu_free_threshold_mib` in MiB, `stale_after` in
    seconds. `groups`: named sets of jobs that others wait for, such as `teachers[N=384]`. `pull`: paths and globs,
    relative to cwd, pulled from hosts in addition to the jobs' outputs. What follows is about a rented machine:
    `when_done`: what becomes of it once all is done; `idle_after`: seconds without a job after which it is stopped;
    `max_cost`: USD that it may cost; `deadline`: seconds from the run's start, or a time in ISO 8601 with its zone;
    `results_to`: bash that brings the results to a safe place, by which exit code 0 says that they are there.

    What manifests of earlier versions lack: `errexit` and `wandb`, as in a job; `rendezvous`: jobs get an address and
    a port of their own for their processes; `shell_paths`: a `~` at the beginning and `$NAME` in jobs' outputs and
    preconditions are the host's, with the job's environment; `grace`: seconds to save after TERM; `launcher`: by what
    attempts are started, see launchers. `notify`: who gets alerts, see notify_rules. `uv`, `module`,
    `container`: what jobs run in beside conda and venv, see launchers.environments. `slurm_manager`: what a manager
    that is a job of Slurm asks for, see slurm_manager.
    """

    project: str
    jobs: tuple[JobSpec, ...]
    phases: tuple[Phase, ...]
    groups: Mapping[str, tuple[str, ...]] = {}
    cwd: str = "."
    hosts: tuple[str, ...] = ()
    conda: str | None = None
    venv: str | None = None
    conda_hook: str | None = None
    env: Mapping[str, str] = {}
    gpus: tuple[int, ...] | None = None
    max_parallel: int | None = None
    gpu_free_threshold_mib: int = 500
    oom_retry: OomRetry = OomRetry()
    wave: str = "rolling"
    stale_after: float = 600.0
    on_complete: str | None = None
    analyze_on_complete: str | None = None
    pull: tuple[str, ...] = ()
    when_done: str = "keep"
    idle_after: float | None = None
    max_cost: float | None = None
    deadline: float | str | None = None
    results_to: str | None = None
    errexit: bool = False
    wandb: bool = False
    rendezvous: bool = False
    shell_paths: bool = False
    grace: float = 10.0
    launcher: str = launchers.DEFAULT
    notify: Any = None
    uv: bool = False
    module: tuple[str, ...] = ()
    container: str | None = None
    slurm_manager: Any = None

    def grace_of(self, job: JobSpec) -> float:
        """Seconds that a job has between TERM and KILL."""
        return self.grace if job.grace is None else job.grace


def moment(text: str) -> float | None:
    """A time in ISO 8601 as epoch seconds; None if it is none, or lacks its zone."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if found.tzinfo is None else found.timestamp()


def sha256(data: bytes) -> str:
    """Hash by which a run knows its manifest."""
    import hashlib  # OpenSSL is large, and who reads a request or looks at a host needs none

    return hashlib.sha256(data).hexdigest()


def encode(manifest: Manifest) -> str:
    """Write a manifest as JSON, one job a line; the same manifest gives the same bytes."""
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    for name, value in manifest._asdict().items():
        if name not in ("jobs", "phases", "groups") and value != Manifest._field_defaults.get(name):
            head[name] = value._asdict() if isinstance(value, OomRetry) else value
    parts = [f"{_dump(key)}: {_dump(value)}" for key, value in head.items()]
    parts.append('"phases": ' + _lines("[", (_dump(_lean(phase)) for phase in manifest.phases), "]"))
    if manifest.groups:
        rows = (f"{_dump(name)}: {_dump(ids)}" for name, ids in manifest.groups.items())
        parts.append('"groups": ' + _lines("{", rows, "}"))
    parts.append('"jobs": ' + _lines("[", (_dump(job_to_json(job)) for job in manifest.jobs), "]"))
    return "{" + ",\n".join(parts) + "}\n"


def job_to_json(job: JobSpec) -> dict[str, Any]:
    """A job as a JSON object; fields at their default are left out."""
    data = _lean(job)
    if job.preconditions:
        data["preconditions"] = [_lean(precondition) for precondition in job.preconditions]
    return data


def phase_to_json(phase: Phase) -> dict[str, Any]:
    """A phase as a JSON object; fields at their default are left out."""
    return _lean(phase)


def decode(text: str) -> Manifest:
    """Read a manifest. Raises ManifestError that names the field, and all unknown or duplicate names at once."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"the manifest is not valid JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ManifestError(f'this is not a manifest (no "format": "{FORMAT}"); build one with: wavequeue build SPEC')
    if data.get("version") != VERSION:
        raise ManifestError(
            f"manifest version {data.get('version')!r} is not {VERSION}; build it again: wavequeue build SPEC"
        )
    fields = {key: value for key, value in data.items() if key not in ("format", "version")}
    unknown = sorted(set(fields) - set(Manifest._fields))
    if unknown:
        raise ManifestError(f"the manifest has unknown keys: {', '.join(unknown)}")
    for name in ("project", "jobs", "phases"):
        if name not in fields:
            raise ManifestError(f'the manifest has no "{name}"')
    _check("the manifest", fields, _MANIFEST_KINDS)
    rows = fields.pop("jobs")
    fields["phases"] = tuple(phase_from_json(row) for row in fields["phases"])
    fields["groups"] = {name: tuple(ids) for name, ids in fields.get("groups", {}).items()}
    fields["hosts"] = tuple(fields.get("hosts", ()))
    fields["pull"] = tuple(fields.get("pull", ()))
    fields["module"] = tuple(fields.get("module", ()))
    if fields.get("gpus") is not None:
        fields["gpus"] = tuple(fields["gpus"])
    if "oom_retry" in fields:
        _check("oom_retry", fields["oom_retry"], _OOM_KINDS)
        fields["oom_retry"] = OomRetry(**fields["oom_retry"])
    rows.reverse()
    jobs = []
    while rows:  # taken off one by one: a manifest of 100,000 jobs is not held twice
        jobs.append(job_from_json(rows.pop()))
    manifest = Manifest(jobs=tuple(jobs), **fields)
    fault = project_fault(manifest.project)
    if fault:
        raise ManifestError(f"project {manifest.project!r} {fault}")
    faults = graph_faults(manifest.phases, manifest.groups, manifest.jobs)
    if faults:
        raise ManifestError("; ".join(faults[:20]))
    return manifest


def job_from_json(row: Any) -> JobSpec:
    """Read one job. Raises ManifestError."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise ManifestError(f"a job must be an object with an id, not {str(row)[:80]}")
    where = f"job {row['id']!r}"
    _check(where, row, _JOB_KINDS)
    for name in ("cmd", "phase"):
        if name not in row:
            raise ManifestError(f'{where} has no "{name}"')
    fields = dict(row)
    if "depends_on" in fields:
        fields["depends_on"] = tuple(fields["depends_on"])
    if "gpu_model" in fields:
        fields["gpu_model"] = tuple(fields["gpu_model"])
    if "env_from" in fields:
        fields["env_from"] = {name: tuple(parts) for name, parts in fields["env_from"].items()}
    if "preconditions" in fields:
        fields["preconditions"] = tuple(_precondition(where, item) for item in fields["preconditions"])
    return JobSpec(**fields)


def phase_from_json(row: Any) -> Phase:
    """Read one phase. Raises ManifestError."""
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise ManifestError(f"a phase must be an object with a name, not {str(row)[:80]}")
    _check(f"phase {row['name']!r}", row, _PHASE_KINDS)
    return Phase(row["name"], tuple(row.get("depends_on", ())), tuple(row.get("match", ())))


def graph_faults(phases: Iterable[Phase], groups: Mapping[str, Iterable[str]], jobs: Iterable[JobSpec]) -> list[str]:
    """Faults of the whole: unsafe or duplicate ids, dependencies on nothing, circles. Empty if there are none."""
    faults: list[str] = []
    phases, jobs = list(phases), list(jobs)
    names = {phase.name for phase in phases}
    ids: set[str] = set()
    for job in jobs:
        fault = id_fault(job.id)
        if fault:
            faults.append(f"job id {job.id!r} {fault}")
        if job.id in ids:
            faults.append(f"two jobs have the id {job.id!r}")
        ids.add(job.id)
        if job.phase not in names:
            faults.append(f"job {job.id!r} is of phase {job.phase!r}, which does not exist")
    if len(names) != len(phases):
        faults.append("two phases have the same name")
    faults += [
        f"phase {phase.name!r} depends on phase {name!r}, which does not exist"
        for phase in phases
        for name in phase.depends_on
        if name not in names
    ]
    faults += [
        f"group {group!r} names job {name!r}, which does not exist"
        for group, members in groups.items()
        for name in members
        if name not in ids
    ]
    faults += [
        f"job {job.id!r} depends on {name!r}, which does not exist"
        for job in jobs
        for name in job.depends_on
        if name not in ids and name not in groups
    ]
    if not faults:
        circle = find_circle(phases, groups, jobs)
        if circle:
            faults.append("circular dependency: " + " -> ".join(circle))
    return faults


def find_circle(phases: Iterable[Phase], groups: Mapping[str, Iterable[str]], jobs: Iterable[JobSpec]) -> list[str]:
    """A circle among the dependencies, first name repeated at the end; empty if there is none."""
    phases = list(phases)
    edges: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for phase in phases:
        edges[("phase", phase.name)] = []
        # A job enters its phase's gate, and leaves by belonging to the phase: two nodes keep the graph small.
        gate = [] if phase.match else [("phase", name) for name in phase.depends_on]
        edges[("gate", phase.name)] = gate
    for name, members in groups.items():
        edges[("group", name)] = [("job", member) for member in members]
    for job in jobs:
        edges[("job", job.id)] = [
            ("gate", job.phase),
            *((("group" if name in groups else "job"), name) for name in job.depends_on),
        ]
        edges[("phase", job.phase)].append(("job", job.id))
    done: set[tuple[str, str]] = set()
    for root in edges:
        if root in done:
            continue
        path: list[tuple[str, str]] = [root]
        on_path = {root}
        iterators = [iter(edges[root])]
        while iterators:
            step = next(iterators[-1], None)
            if step is None:
                iterators.pop()
                node = path.pop()
                on_path.discard(node)
                done.add(node)
            elif step in on_path:
                circle = [*path[path.index(step) :], step]
                shown = [name for kind, name in circle if kind == "job"] or [name for _, name in circle]
                return [*shown, shown[0]] if shown[0] != shown[-1] or len(shown) == 1 else shown
            elif step not in done:
                path.append(step)
                on_path.add(step)
                iterators.append(iter(edges[step]))
    return []


def _precondition(where: str, item: Any) -> Precondition:
    if not isinstance(item, dict) or item.get("type") not in PRECONDITIONS:
        raise ManifestError(f"{where}: a precondition needs a type, one of: {', '.join(PRECONDITIONS)}")
    _check(f"{where}, precondition", item, _PRECONDITION_KINDS)
    return Precondition(**item)


def _is_text(value: Any) -> bool:
    """A text that can be handed to a program: no NUL, no half of a character (a lone surrogate of a JSON escape)."""
    return isinstance(value, str) and "\0" not in value and not _HALF.search(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _is_env_from(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_texts(one) and len(one) % 2 == 1 for one in value.values())


def _is_groups(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_texts(one) for one in value.values())


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _is_positive_count(value: Any) -> bool:
    return _is_integer(value) and value >= 1


def _is_cards(value: Any) -> bool:
    return isinstance(value, list) and all(_is_count(one) for one in value) and len(set(value)) == len(value)


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_positive_time(value: Any) -> bool:
    return _is_time(value) and value > 0


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_wave(value: Any) -> bool:
    return value in WAVES


def _is_launcher(value: Any) -> bool:
    return value in launchers.LAUNCHERS


def _is_when_done(value: Any) -> bool:
    return value in WHEN_DONE


def _is_deadline(value: Any) -> bool:
    return _is_positive_time(value) or (isinstance(value, str) and moment(value) is not None)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool)


def _is_anything(_: Any) -> bool:
    return True


_Kind = tuple[Callable[[Any], bool], str]
_TEXT: _Kind = (_is_text, "a text")
_TEXTS: _Kind = (_is_texts, "a list of texts")
_TEXT_MAP: _Kind = (_is_text_map, "an object whose values are texts")
_COUNT: _Kind = (_is_count, "a whole number of 0 or more")
_POSITIVE: _Kind = (_is_positive_count, "a whole number of 1 or more")
_TIME: _Kind = (_is_positive_time, "a number above 0")
_TRUTH: _Kind = (_is_truth, "true or false")
_LIST: _Kind = (_is_list, "a list")
_Kinds = Mapping[str, _Kind]

_MANIFEST_KINDS: _Kinds = {
    "project": _TEXT,
    "jobs": _LIST,
    "phases": _LIST,
    "groups": (_is_groups, "an object whose values are lists of job ids"),
    "cwd": _TEXT,
    "hosts": _TEXTS,
    "conda": _TEXT,
    "venv": _TEXT,
    "conda_hook": _TEXT,
    "uv": _TRUTH,
    "module": _TEXTS,
    "container": _TEXT,
    "env": _TEXT_MAP,
    "gpus": (_is_cards, "a list of GPU indices, each once"),
    "max_parallel": _POSITIVE,
    "gpu_free_threshold_mib": _COUNT,
    "oom_retry": (_is_object, "an object with delay and max_attempts"),
    "wave": (_is_wave, f"one of: {', '.join(WAVES)}"),
    "stale_after": _TIME,
    "on_complete": _TEXT,
    "analyze_on_complete": _TEXT,
    "pull": _TEXTS,
    "when_done": (_is_when_done, f"one of: {', '.join(WHEN_DONE)}"),
    "idle_after": _TIME,
    "max_cost": _TIME,
    "deadline": (_is_deadline, "a number of seconds above 0, or a time in ISO 8601 with its zone"),
    "results_to": _TEXT,
    "errexit": _TRUTH,
    "wandb": _TRUTH,
    "rendezvous": _TRUTH,
    "launcher": (_is_launcher, f"one of: {', '.join(launchers.LAUNCHERS)}"),
    "shell_paths": _TRUTH,
    "grace": (_is_time, "a number of 0 or more"),
    "slurm_manager": (is_manager, "an object as the manager in a spec's slurm, see slurm_manager"),
    "notify": (is_notify, "an object with command or webhook, on and every in seconds"),
}
_OOM_KINDS: _Kinds = {"delay": (_is_time, "a number of 0 or more"), "max_attempts": _POSITIVE}
_PHASE_KINDS: _Kinds = {"name": _TEXT, "depends_on": _TEXTS, "match": _TEXTS}
_JOB_KINDS: _Kinds = {
    "id": _TEXT,
    "cmd": _TEXT,
    "phase": _TEXT,
    "depends_on": _TEXTS,
    "gpus": _COUNT,
    "gpu_mem_mib": _POSITIVE,
    "expected_output": _TEXT,
    "cwd": _TEXT,
    "env": _TEXT_MAP,
    "timeout": _TIME,
    "priority": (_is_integer, "a whole number"),
    "retries": _COUNT,
    "preconditions": _LIST,
    "params": _TEXT_MAP,
    "metrics": (_is_anything, ""),
    "errexit": _TRUTH,
    "grace": (_is_time, "a number of 0 or more"),
    "wandb": _TRUTH,
    "est_minutes": (_is_positive_time, "a number above 0"),
    "health": (is_policy, "an object as a spec's health, with times in seconds"),
    "recover": (is_ladder, "a list of rungs, each an object with its kind, see recover_policy"),
    "slurm": (is_slurm, "an object as a spec's slurm, see slurm_needs"),
    "gpu_model": _TEXTS,
    "env_from": (_is_env_from, "an object whose values are lists of texts and names in turn"),
}
_PRECONDITION_KINDS: _Kinds = {"type": _TEXT, "path": _TEXT, "command": _TEXT, "gib": _TIME}


def _check(where: str, fields: Mapping[str, Any], kinds: _Kinds) -> None:
    for key, value in fields.items():
        if key not in kinds:
            raise ManifestError(f"{where} has the unknown key {key!r}")
        fits, words = kinds[key]
        if not fits(value):
            raise ManifestError(f"{where}: {key} is {json.dumps(value)[:60]}; it has to be {words}")


def _lean(value: Any) -> dict[str, Any]:
    defaults = value._field_defaults
    return {k: v for k, v in value._asdict().items() if k not in defaults or v != defaults[k]}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _lines(opening: str, rows: Iterable[str], closing: str) -> str:
    return opening + "\n" + ",\n".join(rows) + "\n" + closing
