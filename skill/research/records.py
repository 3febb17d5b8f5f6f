"""The columns of the research files: of each queue, and of project.yaml. The parser and the JSON Schemas read this
table and no other. Pure.

A record is the mapping that its file has: what it does not have is not said. Everything else about one is derived.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from skill.common.project import QUEUES
from skill.common.typed_json import Bounds

Record = dict[str, Any]
Name = Annotated[str, Bounds(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", max_length=100)]
"""An id or a name that is also a safe file name."""
Text = Annotated[str, Bounds(min_length=1, max_length=1 << 16)]
Time = Annotated[str, Bounds(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
Variables = dict[str, str]
Rules = dict[str, dict[str, str]]
JOB_COLUMNS = {
    "cmd": "command", "priority": "priority", "phase": "phase", "params": "params", "env": "env", "metrics": "metrics",
    "depends_on": "depends_on", "expected_output": "expected_output", "gpus": "gpus", "gpu_mem_mib": "gpu_mem_mib",
    "est_minutes": "est_minutes",
}  # fmt: skip
"""Columns of a run by the key of a job; what a job has beside them is in the column `job`."""
RunState = Literal["pending", "claimed", "running", "done", "failed", "stuck", "cancelled"]


class _Idea(TypedDict):
    id: Annotated[Name, Bounds(description="the id of the idea, such as moons-i1")]
    project: Annotated[Name, Bounds(description="the id of a project in research/")]
    text: Annotated[Text, Bounds(description="the idea, in a sentence")]
    state: Annotated[
        Literal["open", "running", "supported", "refuted", "dropped"], Bounds(description="what became of the idea")
    ]
    created: Annotated[Time, Bounds(description="a time in UTC, such as 2026-01-31T12:00:00Z")]


class Idea(_Idea, total=False):
    """An idea of a project. Runs name the idea that they test."""

    notes: Annotated[Text, Bounds(description="notes for yourself")]


class _Benchmark(TypedDict):
    id: Annotated[Name, Bounds(description="the id of the benchmark, such as moons-b1")]
    project: Annotated[Name, Bounds(description="the id of a project in research/")]
    text: Annotated[Text, Bounds(description="what is compared with what, in a sentence")]
    state: Annotated[Literal["open", "ready", "dropped"], Bounds(description="whether the benchmark can be used")]
    created: Annotated[Time, Bounds(description="a time in UTC, such as 2026-01-31T12:00:00Z")]


class Benchmark(_Benchmark, total=False):
    """A benchmark of a project; its files lie in research/PROJECT/benchmarks/."""

    notes: Annotated[Text, Bounds(description="notes for yourself")]


class _Run(TypedDict):
    id: Annotated[Name, Bounds(description="the id of the run, such as moons-r1")]
    project: Annotated[Name, Bounds(description="the id of a project in research/")]
    command: Annotated[Text, Bounds(description="the command that is run, in bash")]
    priority: Annotated[int, Bounds(ge=-(1 << 31), le=1 << 31, description="a whole number; higher goes first")]
    state: Annotated[RunState, Bounds(description="what became of the run")]
    created: Annotated[Time, Bounds(description="a time in UTC, such as 2026-01-31T12:00:00Z")]


class Run(_Run, total=False):
    """One run: one command, one job on a host. What the job and its manifest have beside these columns is in `job` and
    `settings`, as a manifest writes it. The last columns are written by dispatch-runs and check-runs."""

    pool: Annotated[Name, Bounds(description="the pool of workers.yaml that it may run in")]
    idea: Annotated[Name, Bounds(description="the id of the idea that it tests")]
    phase: Annotated[Text, Bounds(description="the phase of the spec that it came from")]
    params: Annotated[Variables, Bounds(description="grid keys with their values, as text")]
    env: Annotated[Variables, Bounds(description="variables with their values, as text")]
    metrics: Annotated[Rules, Bounds(description="names of metrics with their rules, as in a spec")]
    depends_on: Annotated[list[Name], Bounds(description="ids of runs that have to be done before")]
    expected_output: Annotated[Text, Bounds(description="a path or a glob, relative to the directory of the job")]
    gpus: Annotated[int, Bounds(ge=0, le=1024, description="the number of GPUs, 0 for none; absent: 1")]
    gpu_mem_mib: Annotated[int, Bounds(ge=1, le=1 << 31, description="MiB of a GPU that it may share")]
    est_minutes: Annotated[float, Bounds(gt=0, le=1e9, description="how long it takes, in minutes")]
    spec: Annotated[Text, Bounds(description="the spec that it came from")]
    spec_job: Annotated[Text, Bounds(description="the id of its job in that spec")]
    job: Annotated[dict[str, Any], Bounds(description="more keys of a job, as in a manifest")]
    settings: Annotated[dict[str, Any], Bounds(description="keys of a manifest for all its jobs, such as conda")]
    notes: Annotated[Text, Bounds(description="notes for yourself")]
    worker: Annotated[Text, Bounds(description="the worker that has it")]
    run: Annotated[Text, Bounds(description="the wavequeue run that has it")]
    claimed: Annotated[Time, Bounds(description="when it was given to the worker")]
    claim: Annotated[Text, Bounds(description="the id of the request by which the worker got it")]
    started: Annotated[Time, Bounds(description="when it started")]
    finished: Annotated[Time, Bounds(description="when it ended, by the clock of the host")]
    exit_code: Annotated[int, Bounds(ge=-256, le=256, description="the exit code of the command")]
    last_line: Annotated[Text, Bounds(description="the last line of its log")]
    error: Annotated[Text, Bounds(description="why it failed")]
    attempts: Annotated[int, Bounds(ge=0, le=1 << 31, description="how many attempts there were")]


class _Publication(TypedDict):
    id: Annotated[Name, Bounds(description="the id of the publication, such as moons-p1")]
    project: Annotated[Name, Bounds(description="the id of a project in research/")]
    title: Annotated[Text, Bounds(description="the title of the paper")]
    state: Annotated[
        Literal["draft", "filled", "submitted", "published", "dropped"], Bounds(description="how far the paper is")
    ]
    created: Annotated[Time, Bounds(description="a time in UTC, such as 2026-01-31T12:00:00Z")]


class Publication(_Publication, total=False):
    """A paper of a project; its files lie in research/PROJECT/paper/."""

    file: Annotated[Text, Bounds(description="the path of the paper, relative to the project")]
    filled: Annotated[Time, Bounds(description="when its numbers were last filled in")]
    evidence_sha256: Annotated[Text, Bounds(description="the hash of the evidence that it was filled from")]
    notes: Annotated[Text, Bounds(description="notes for yourself")]


class _Project(TypedDict):
    id: Annotated[Name, Bounds(description="the name of its directory in research/")]
    title: Annotated[Text, Bounds(description="the title of the project")]
    idea: Annotated[Text, Bounds(description="the idea that it began with")]
    target: Annotated[Text, Bounds(description="what it has to reach, in words")]
    metric: Annotated[Text, Bounds(description="the name of the metric that it is about")]
    created: Annotated[Time, Bounds(description="a time in UTC, such as 2026-01-31T12:00:00Z, in quotes")]


class Project(_Project, total=False):
    """project.yaml. `pool` and `metrics` are those of its runs that name none; `control`: what results are compared
    with."""

    pool: Annotated[Name, Bounds(description="the pool of workers.yaml that its runs use")]
    metrics: Annotated[Rules, Bounds(description="names of metrics with their rules, as in a spec")]
    control: Annotated[Variables, Bounds(description="grid keys of the control with their values, as text")]
    notes: Annotated[Text, Bounds(description="notes for yourself")]


class Kind(NamedTuple):
    """A kind of record: its columns, and the letter of its ids."""

    columns: Any
    letter: str


KINDS = {
    "idea": Kind(Idea, "i"),
    "benchmark": Kind(Benchmark, "b"),
    "run": Kind(Run, "r"),
    "publication": Kind(Publication, "p"),
}
"""By queue."""
assert tuple(KINDS) == QUEUES
