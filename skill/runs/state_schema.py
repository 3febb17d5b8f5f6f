"""What a state document has to be, whoever wrote it: nothing that it says may break what reads it. Pure.

The columns of its rows stand here. What they do not name is kept as it is: a newer manager may have written it.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

from queue_manager.core.status import Status
from queue_manager.core.terminal_text import one_line
from skill.common.typed_json import Bounds, fits, is_printable

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_JOB_TIMES, _PHASE_TIMES = (
    ("started", "completed", "retry_at", "attempt_ended", "last_output", "queued"),
    ("started", "completed"),
)
_META_TIMES = ("started", "updated", "finished", "idle_since")
_ROOM, _ROOM_A_JOB, _ROOM_A_BYTE, _MOST = 16 << 20, 4 << 10, 32, 512 << 20

Text = Annotated[str, Bounds(max_length=1 << 16)]
Words = Text | None
Whole = Annotated[int, Bounds(ge=-(1 << 53), le=1 << 53)]
Count = Annotated[int, Bounds(ge=0, le=1 << 53)]
Number = Annotated[float, Bounds(ge=-1e15, le=1e15)]
Finite = Annotated[float, Bounds(ge=-sys.float_info.max, le=sys.float_info.max)]
Counts = dict[Status, Count]


class Condition(TypedDict):
    """What blocks a run. `since`: ISO time."""

    kind: Text
    text: Text
    since: Text


class Teardown(TypedDict):
    """What becomes of a rented machine; see queue_manager.core.teardown."""

    plan: Text
    reason: Words
    waits_for: Words
    since: Words
    confirmed: bool
    instance_id: Whole | None
    cost_usd: Number | None
    usd_per_hour: Number | None
    usd_per_day_stopped: Number | None
    bound: Words


class Eta(TypedDict):
    """When the run will have ended, see skill.runs.eta."""

    at: Words
    basis: list[Text]
    note: Words


class _Meta(TypedDict):
    project: Text
    run_id: Text
    started: Words
    updated: Text
    finished: Words
    host: Words
    pid: Whole | None
    manager: Literal["running", "finished", "halted"]
    cwd: Text
    wave: Text
    current_wave: Whole | None
    paused: bool
    conditions: list[Condition]
    poll: Number
    screen_dir: Words
    seq: Count


class Meta(_Meta, total=False):
    """The run and its manager. Older managers do not tell what is named here. `queued`: how many of the pending jobs
    are in Slurm's queue, and in `queue` why, in words."""

    teardown: Teardown | None
    eta: Eta | None
    idle_since: Words
    results_seq: Whole | None
    pushed_seq: Whole | None
    manifest_sha256: Words
    launcher: Text
    queued: Count
    queue: dict[Text, Count]
    manager_on: Words


class _Phase(TypedDict):
    name: Text
    depends_on: list[Text]
    status: Text
    jobs: Count
    counts: Counts
    oom_retries: Count
    started: Words
    completed: Words


class Phase(_Phase, total=False):
    """One phase; times in ISO form. `codes`: how many of its jobs ran each version of the code; `queued`: how many of
    its pending jobs are in Slurm's queue."""

    codes: dict[Text, Count]
    queued: Count


class _Card(TypedDict):
    index: Count
    uuid: Text
    name: Text
    total_mib: Count | None
    used_mib: Count | None
    free_mib: Whole | None
    util: Whole | None
    jobs: list[Text]
    promised_mib: Count
    note: Text


class Card(_Card, total=False):
    """One card; memory in MiB, `util` in percent."""

    holder: Words
    room_mib: Count


class Flag(TypedDict):
    """Something that is wrong with a running job, and the line of its log that shows it. `since`: ISO time."""

    kind: Text
    text: Text
    line: Text
    since: Text


class Health(TypedDict, total=False):
    """How a running job does, as far as that is known. `rate` in steps a second, `eta_s` in seconds."""

    step: Whole | None
    total: Whole | None
    rate: Number | None
    eta_s: Number | None
    loss: Finite | None
    util: Number | None
    mem_mib: Count | None
    flags: list[Flag]


class Step(TypedDict):
    """A step on a job's ladder: after which attempt, why, what was done, and what came of it. Times in ISO form."""

    at: Text
    attempt: Count
    failure: Text
    cause: Text
    rung: Count
    action: Text
    effect: Words
    effect_at: Words


class Recovery(TypedDict):
    """What the ladder did for a job. `changed`: settings that are not those of the spec, in words; `command`: the
    whole command with them; `wants_host`: it is to run on another host."""

    steps: list[Step]
    changed: Words
    command: Words
    wants_host: bool


class _Job(TypedDict):
    id: Text
    phase: Text
    status: Status
    gpus: list[Count]
    attempt: Count
    attempts: Count
    oom_attempts: Count
    started: Words
    completed: Words
    retry_at: Words
    exit_code: Whole | None
    expected_output: Words
    error: Words
    warning: Words
    waiting: Words
    log: Text
    depends_on: list[Text]
    cards: Count
    screen_name: Words


class Job(_Job, total=False):
    """One job; times in ISO form, `gpu_mem_mib` in MiB. Of what runs, where that is known: when its log last grew
    (`last_output`; `silent_s`: seconds since then, when it was looked at), `cpu` in percent of a core, and in `asks`
    that it is waiting for input on its terminal, in words. `metrics`: its numbers, None of a rule that gave none, and
    `metric_errors` says why. `outcome`: stopped_early or recovered, where it completed so. `queued`: since when it is
    in Slurm's queue, and `node` on which it ran last. `seq`: of the last event of its manager that changed it.
    `memory`: host or gpu, which of them its last attempt ran out of, and `host_ooms` and `gpu_ooms` how many did of
    each."""

    gpu: Whole | None
    pid: Whole | None
    screen_pid: Whole | None
    wave: Whole | None
    failure: Words
    memory: Words
    host_ooms: Count
    gpu_ooms: Count
    time_limits: Count
    gpu_mem_mib: Count | None
    gpu_model: list[Text]
    priority: Whole | None
    attempt_ended: Words
    code: Words
    environment: Words
    skipped: bool
    last_output: Words
    silent_s: Number | None
    cpu: Number | None
    asks: Words
    metrics: dict[Text, Finite | None] | None
    metric_errors: dict[Text, Text] | None
    health: Health | None
    outcome: Words
    queued: Words
    node: Words
    seq: Count
    recovery: Recovery | None


class _Document(TypedDict):
    meta: Meta
    phases: list[Phase]
    gpus: list[Card]
    jobs: list[Job]
    counts: Counts


class Document(_Document, total=False):
    """queue_state.json, or its short form: `overview` is then true, and `jobs_total` says how many jobs there are."""

    overview: bool
    jobs_total: Count


def most_bytes(jobs: int, added: int = 0) -> int:
    """Bytes that the state of a run of so many jobs may have. A job takes about 700; more may have been added.

    `added`: bytes of journal lines about jobs that were added from here and that a host may tell of for the first time.
    """
    return min(_MOST, _ROOM + _ROOM_A_JOB * jobs + _ROOM_A_BYTE * added)


def fault(document: Any, jobs: Container[str] | None = None) -> str | None:
    """What is wrong with a document, in words; None if it can be used. `jobs`: ids that it may have; None: any."""
    words = fits(document, Document)
    if words is not None:
        return words
    if document.get("overview") and "jobs_total" not in document:
        return "jobs_total is missing"
    for place, text in _times(document):
        if text is not None and not is_time(text):
            return f"{place}: is not a time: {one_line(text, 40)}"
    if jobs is not None:
        strange = next((row["id"] for row in document["jobs"] if row["id"] not in jobs), None)
        if strange is not None:
            return f"jobs: {one_line(strange, 80)} is not a job of this run"
    return None


def clean(value: Any) -> Any:
    """The same, with what would command a terminal shown escaped: a host may write into a state whatever it likes."""
    if isinstance(value, str):
        return one_line(value)
    if not isinstance(value, (dict, list)) or is_printable(value):
        return value
    if isinstance(value, dict):
        return {clean(key): clean(one) for key, one in value.items()}
    return [clean(one) for one in value]


@functools.lru_cache(maxsize=4096)
def is_time(text: str) -> bool:
    """Whether a text is a time as `queue_manager.core.times.iso` writes it, and one that there is."""
    if _TIME.fullmatch(text) is None:
        return False
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).year > 1
    except ValueError:
        return False


def _times(document: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    meta = document["meta"]
    yield from ((f"meta.{name}", meta.get(name)) for name in _META_TIMES)
    if meta.get("teardown"):
        yield "meta.teardown.since", meta["teardown"]["since"]
    if meta.get("eta"):
        yield "meta.eta.at", meta["eta"]["at"]
    yield from ((f"meta.conditions[{n}].since", row["since"]) for n, row in enumerate(meta["conditions"]))
    for name, columns in (("phases", _PHASE_TIMES), ("jobs", _JOB_TIMES)):
        for n, row in enumerate(document[name]):
            for column in columns:
                if row.get(column) is not None:
                    yield f"{name}[{n}].{column}", row[column]
            for step in (row.get("recovery") or {}).get("steps", ()):
                yield f"{name}[{n}].recovery.steps", step["at"]
                yield f"{name}[{n}].recovery.steps", step["effect_at"]
            for flag in (row.get("health") or {}).get("flags", ()):
                yield f"{name}[{n}].health.flags", flag["since"]
