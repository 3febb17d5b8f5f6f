"""The keys of a spec, level by level, and the types that hold its values before they are substituted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from build_manifest.faults import Mark
from build_manifest.grid import GridForm
from build_manifest.nodes import Node, Scalar
from queue_manager.core.manifest import OomRetry
from queue_manager.core.recover_policy import RUN_SECONDS

EACH_ID = "${id}"
"""The job's id, wherever a job's texts are; in pull that of each job."""
GRID_KEYS = ("grid", "zip", "exclude", "include")
TOP_KEYS = (
    "project", "cwd", "hosts", "ssh", "conda", "venv", "conda_hook", "uv", "module", "container", "env", "gpus",
    "max_parallel", "gpu_free_threshold_mib", "oom_retry", "wave", "stale_after", "grace", "preconditions",
    "default_cmd", "on_complete", "analyze_on_complete", "pull", "when_done", "idle_after", "max_cost", "deadline",
    "results_to", "shell", "wandb", "launcher", "est_minutes", "metrics", "health", "notify", "recover", "slurm",
    *GRID_KEYS, "template", "jobs", "phases",
)  # fmt: skip
PHASE_KEYS = (
    "name", "depends_on", "match", *GRID_KEYS, "template", "jobs", "env", "preconditions", "est_minutes", "metrics",
    "health", "recover", "slurm",
)  # fmt: skip
JOB_KEYS = (
    "id", "cmd", "args", "expected_output", "output_check", "gpus", "gpu_mem_mib", "gpu_model", "env", "timeout",
    "grace", "priority", "depends_on", "preconditions", "retries", "metrics", "cwd", "shell", "wandb",
    "est_minutes", "health", "recover", "slurm",
)  # fmt: skip
TEARDOWN_KEYS = ("when_done", "idle_after", "max_cost", "deadline")
"""What may end a rented machine."""
SHELL_KEYS = ("errexit",)
OOM_RETRY_KEYS = ("delay", "max_attempts")
PRECONDITION_KEYS = {
    "checkpoint_exists": ("type", "path"),
    "file_exists": ("type", "path"),
    "command": ("type", "command"),
    "disk_free_gib": ("type", "gib", "path"),
}
"""Keys of a precondition by its type; all but `path` of `disk_free_gib` have to be there."""

OTHER_WORDS = {
    "command": "cmd", "script": "cmd", "run": "cmd", "name": "id", "output": "expected_output",
    "outputs": "expected_output", "expected_outputs": "expected_output", "needs": "depends_on", "after": "depends_on",
    "dependencies": "depends_on", "matrix": "grid", "sweep": "grid", "parameters": "args", "params": "args",
    "arguments": "args", "environment": "env", "conda_env": "conda", "modules": "module", "image": "container",
    "docker": "container", "workdir": "cwd", "working_dir": "cwd",
    "max_jobs": "max_parallel", "concurrency": "max_parallel", "time_limit": "timeout", "walltime": "timeout",
    "num_gpus": "gpus", "n_gpus": "gpus", "gpu_count": "gpus", "memory": "gpu_mem_mib", "max_retries": "retries",
    "gpu_type": "gpu_model", "gpu_name": "gpu_model",
    "stages": "phases", "steps": "phases", "tasks": "jobs",
}  # fmt: skip
"""What other tools call it."""


class PreconditionForm(NamedTuple):
    type: str
    path: Scalar | None
    command: Scalar | None
    gib: Scalar | None


class MetricForm(NamedTuple):
    """A rule of a metric: its keys and their values, still unsubstituted. `kind`: json, log or csv."""

    kind: str
    mark: Mark
    values: Mapping[str, Scalar]


Metrics = Mapping[str, MetricForm]


class HealthValue(NamedTuple):
    """What a key of health says, as a manifest has it."""

    mark: Mark
    value: Any


Health = Mapping[str, HealthValue]
Slurm = Mapping[str, Any]


class RungForm(NamedTuple):
    """One rung of a ladder, still unsubstituted; fields as in recover_policy.Rung. `value`: the arg's new one."""

    kind: str
    mark: Mark
    command: Scalar | None = None
    timeout: float = RUN_SECONDS
    arg: Scalar | None = None
    value: Node | None = None


class RecoverForm(NamedTuple):
    """A ladder; without rungs it switches off one that stands further out."""

    mark: Mark
    rungs: tuple[RungForm, ...]


class JobForm(NamedTuple):
    """A template or a job. `cmd`: commands, one after the other. `numbers`: those of gpus, gpu_mem_mib, timeout, grace,
    priority, retries and est_minutes that were given. `given`: the keys that are there, also those that could not
    be read."""

    mark: Mark
    id: Scalar | None
    cmd: tuple[Scalar, ...]
    args: tuple[tuple[Scalar, Node], ...] | None
    expected_output: Scalar | None
    cwd: Scalar | None
    env: tuple[tuple[str, Scalar], ...]
    depends_on: tuple[Scalar, ...]
    preconditions: tuple[PreconditionForm, ...]
    numbers: Mapping[str, Scalar]
    metrics: Metrics
    health: Health
    recover: RecoverForm | None
    slurm: Slurm
    gpu_model: tuple[Scalar, ...]
    errexit: bool | None
    wandb: bool | None
    given: frozenset[str]
    default_id: Callable[[str], str] | None = None
    """How a value is a part of an `id` that was made, not written."""


class PhaseForm(NamedTuple):
    """A phase: a template over a grid (`jobs` holds it), or a list of jobs. `is_valid`: its cells are known."""

    name: str
    mark: Mark
    depends_on: tuple[Scalar, ...]
    match: tuple[Scalar, ...]
    grid: GridForm
    jobs: tuple[JobForm, ...]
    templated: bool
    env: tuple[tuple[str, Scalar], ...]
    preconditions: tuple[PreconditionForm, ...]
    metrics: Metrics
    health: Health
    recover: RecoverForm | None
    slurm: Slurm
    is_valid: bool
    est_minutes: float | None = None


class EnvironmentForm(NamedTuple):
    """What jobs run in, as in Manifest; what was not given is None or empty."""

    conda: str | None
    venv: str | None
    conda_hook: str | None
    uv: bool
    module: tuple[str, ...]
    container: str | None


class SpecForm(NamedTuple):
    """A whole spec. Fields as in Manifest; those that were not given are None or empty."""

    project: str
    phases: tuple[PhaseForm, ...]
    cwd: Scalar | None
    hosts: tuple[str, ...]
    environment: EnvironmentForm
    env: tuple[tuple[str, Scalar], ...]
    gpus: tuple[int, ...] | None
    max_parallel: int | None
    gpu_free_threshold_mib: int | None
    oom_retry: OomRetry | None
    wave: str | None
    stale_after: float | None
    grace: float | None
    preconditions: tuple[PreconditionForm, ...]
    default_cmd: Scalar | None
    on_complete: Scalar | None
    analyze_on_complete: Scalar | None
    pull: tuple[str, ...]
    when_done: str | None
    idle_after: float | None
    max_cost: float | None
    deadline: float | str | None
    results_to: Scalar | None
    metrics: Metrics
    health: Health
    recover: RecoverForm | None
    slurm: Slurm
    slurm_manager: Slurm | None
    errexit: bool | None
    wandb: bool | None
    est_minutes: float | None
    launcher: str | None
    notify: Mapping[str, Any] | None
