"""One state document of all hosts of a run, in the schema of queue_state.json. Pure.

Each job row has its `host`; a job that was moved is shown where it belongs now. `meta.hosts` has a row for each host
(see `_host_row`), and what blocks one host stands among `meta.conditions` under its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from queue_manager.core.overview import MOST_PENDING
from queue_manager.core.state_format import FORMAT, VERSION, phase_status
from queue_manager.core.status import BAD, Status
from queue_manager.core.times import duration, iso
from skill.runs import assignment, eta
from skill.runs.assignment import LOST, PLANNED, Assigned, Part
from skill.runs.dependencies import Dependencies
from skill.runs.digest import ELSEWHERE, left_running, the_manager
from skill.runs.directory import Document
from skill.runs.state_schema import fault

if TYPE_CHECKING:
    from queue_manager.core.manifest import JobSpec, Manifest, Phase

RECOVERED = "recovered"
CARRIED = "waits for outputs of other hosts"
"""How the waiting reason of a job begins that waits for outputs of another host."""
_OVER = BAD | {Status.COMPLETED}
_Row = dict[str, Any]


class Look(NamedTuple):
    """What is known of one host.

    `document`: its state (or overview) as last read, None if it never was; `at`: epoch seconds when that was written
    down here; `alive`: whether a manager holds the run there, None where that is not known; `reason`: why it could not
    be read just now, None if it was; `answered`: it was reached all the same, and that was its answer.
    """

    host: str
    document: Document | None
    at: float | None = None
    alive: bool | None = None
    reason: str | None = None
    answered: bool = False


class _Side(NamedTuple):
    """One host: its part, what is known of it, the rows of its own jobs, and how many there are by phase and status.

    `missing`: how many of its jobs it has not taken yet, as far as is known: they were moved to it lately.
    """

    part: Part
    look: Look
    own: frozenset[str]
    rows: list[_Row]
    tally: Mapping[str, Counter[str]]
    missing: int = 0

    @property
    def document(self) -> Document | None:
        return self.look.document

    @property
    def counts(self) -> Counter[str]:
        return sum(self.tally.values(), Counter())

    @property
    def manager(self) -> str | None:
        """running, finished, halted or died as last known; None if it was never read."""
        if self.document is None:
            return None
        state: str = self.document["meta"]["manager"]
        if state == "finished" and self.missing:
            return "running" if all(batch.sent for batch in self.part.batches) else "halted"
        return "died" if state == "running" and self.look.alive is False else state

    @property
    def counted(self) -> bool:
        """Whether the run's own state depends on it: not if it is gone."""
        return self.part.state != LOST and not self.part.revoked

    @property
    def goes_on(self) -> bool:
        """Whether its manager may be at work: what is not known of a host is not taken for its end."""
        if self.document is None:
            return self.look.alive or (self.look.alive is None and self.part.state != PLANNED)
        return self.manager == "running"


def merge(assigned: Assigned, manifest: Manifest, looks: Sequence[Look], now: float) -> Document:
    """The document of the whole run. `now` in epoch seconds, by the clock that `Look.at` was taken from.

    Hosts without a look count as never read, and so do those whose document cannot be used. It is an overview (jobs
    are left out, `jobs_total` tells how many there are) if one of the documents is.
    """
    known = {look.host: _checked(look) for look in looks}
    short = any(look.document and look.document.get("overview") for look in known.values())
    specs = {spec.id: spec for spec in manifest.jobs}
    owner = assigned.host_of()
    sides = [_side(part, known.get(part.host, Look(part.host, None)), specs, owner, short) for part in assigned.parts]
    order = {name: n for n, name in enumerate(specs)}
    rows = [row for side in sides for row in side.rows]
    rows.sort(key=lambda row: order.get(row["id"], len(order)))
    _complete(rows, manifest, owner)
    read = [side for side in sides if side.document]
    counts: Counter[str] = sum((side.counts for side in sides), Counter())
    document: Document = {
        "meta": _meta(assigned, manifest, sides, now),
        "phases": _phases(manifest, sides),
        "gpus": [{**row, "host": side.part.host} for side in read for row in (side.document or {})["gpus"]],
        "jobs": rows,
        "counts": dict(sorted(counts.items())),
    }
    if short:
        document |= {"overview": True, "jobs_total": counts.total()}
    return document


def _checked(look: Look) -> Look:
    words = None if look.document is None else fault(look.document)
    if words is None:
        return look
    return look._replace(
        document=None, reason=look.reason or f"what it sent is not a state of a run ({words})", answered=True
    )


def _side(part: Part, look: Look, specs: Mapping[str, JobSpec], owner: Mapping[str, str], short: bool) -> _Side:
    own = frozenset(part.own())
    if look.document is None:
        jobs = [specs[name] for name in part.own() if name in specs]
        tally: dict[str, Counter[str]] = {}
        for spec in jobs:
            tally.setdefault(spec.phase, Counter())["pending"] += 1
        return _Side(
            part, look, own, [_unread(spec, part.host) for spec in (jobs[:MOST_PENDING] if short else jobs)], tally
        )
    gone = set(part.moved)
    # A job that no host was given was added on this one since.
    rows = [
        {**row, "host": part.host}
        for row in look.document["jobs"]
        if row["id"] in own or (row["id"] not in gone and row["id"] not in owner)
    ]
    for row in rows:
        if row["id"] in part.rungs and row["status"] == "completed" and row.get("outcome") is None:
            row["outcome"] = RECOVERED  # its host knows only what came after it was moved
    tally = {name: counts.copy() for name, counts in _tally(part, look.document, rows, specs).items()}
    missing = [specs[name] for name in _not_taken(part, look.document) if name in own and name in specs]
    for spec in missing:
        tally.setdefault(spec.phase, Counter())["pending"] += 1
    rows += [_unread(spec, part.host) for spec in (missing[:MOST_PENDING] if short else missing)]
    return _Side(part, look, own, rows, tally, len(missing))


def _not_taken(part: Part, document: Document) -> list[str]:
    """Which jobs of its batches a host did not have yet when this was read. An overview tells only how many it had, and
    batches come in their order."""
    later = [job for batch in part.batches for job in batch.jobs]
    if not later:
        return []
    if document.get("overview"):
        had = max(0, document["jobs_total"] - len(part.first()))
        return later[had:]
    there = {row["id"] for row in document["jobs"]}
    return [job for job in later if job not in there]


def _tally(
    part: Part, document: Document, rows: Iterable[_Row], specs: Mapping[str, JobSpec]
) -> dict[str, Counter[str]]:
    """How many own jobs are in each status, by phase."""
    by_phase = {row["name"]: Counter(row["counts"]) for row in document["phases"]}
    if document.get("overview") and not part.moved:
        return by_phase
    tally: dict[str, Counter[str]] = {}
    seen = set()
    for row in rows:
        tally.setdefault(row["phase"], Counter())[row["status"]] += 1
        seen.add(row["id"])
    if document.get("overview"):
        seen.update(_not_taken(part, document))
        # What an overview leaves out is completed, as far as it told of so many; the rest is pending.
        left = {
            name: counts["completed"] - tally.get(name, Counter())["completed"] for name, counts in by_phase.items()
        }
        for name in part.own():
            if name not in seen and name in specs:
                phase = specs[name].phase
                completed = left.get(phase, 0) > 0
                left[phase] = left.get(phase, 0) - completed
                tally.setdefault(phase, Counter())["completed" if completed else "pending"] += 1
    return tally


_OF_ONE = ("boot", "ticks", "results_seq", "pushed_seq", "idle_since", "teardown")
"""Fields of meta that are told of one manager alone: none where a run is on several hosts."""


def _unread(spec: JobSpec, host: str) -> _Row:
    """The row of a job of a host that was never read."""
    return {
        "id": spec.id, "phase": spec.phase, "status": "pending", "gpu": None, "gpus": [], "screen_name": None,
        "screen_pid": None, "pid": None, "attempt": 0, "attempts": 0, "oom_attempts": 0, "wave": None, "started": None,
        "completed": None, "attempt_ended": None, "skipped": False, "code": None, "environment": None,
        "exit_code": None,
        "expected_output": spec.expected_output, "error": None, "warning": None,
        "memory": None, "host_ooms": 0, "gpu_ooms": 0, "time_limits": 0,
        "failure": None, "log": "", "waiting": f"host {host} has not been read yet", "retry_at": None,
        "depends_on": list(spec.depends_on), "cards": spec.gpus, "gpu_mem_mib": spec.gpu_mem_mib,
        "gpu_model": list(spec.gpu_model),
        "priority": spec.priority, "last_output": None, "silent_s": None, "cpu": None, "asks": None, "host": host,
        "metrics": {}, "metric_errors": {}, "health": None, "outcome": None, "recovery": None, "seq": 0,
        "queued": None, "node": None,
    }  # fmt: skip


def _complete(rows: Iterable[_Row], manifest: Manifest, owner: Mapping[str, str]) -> None:
    """Give jobs back what they wait for on other hosts: their own host knows it as marks only."""
    carried = [row for row in rows if assignment.MARKS in (row["waiting"] or "")]
    if not carried:
        return
    dependencies = Dependencies(manifest)
    for row in carried:
        if row["id"] in dependencies.jobs:
            needs = list(dependencies.needs(row["id"]))
            away = [need for need in needs if any(owner.get(job) != row["host"] for job in need.ids)]
            # What it waited for elsewhere may have been moved here.
            others = [f"{need.kind} {need.name}" for need in away or needs]
            row["waiting"] = f"{CARRIED}: {', '.join(others[:3])}" + (" and more" if len(others) > 3 else "")
            row["depends_on"] = list(dependencies.jobs[row["id"]].depends_on)


def _phases(manifest: Manifest, sides: Sequence[_Side]) -> list[_Row]:
    """The manifest's phases in its order, then those that were added on hosts."""
    by_phase: dict[str, list[_Row]] = {phase.name: [] for phase in manifest.phases}
    phases = list(manifest.phases)
    tallies: dict[str, Counter[str]] = {}
    for side in sides:
        for name, counts in side.tally.items():
            tallies.setdefault(name, Counter()).update(counts)
        for row in side.document["phases"] if side.document else ():
            if row["name"] not in by_phase:
                by_phase[row["name"]] = []
                from queue_manager.core.manifest import Phase  # a phase that was added there since

                phases.append(Phase(row["name"], tuple(row.get("depends_on", ()))))
            by_phase[row["name"]].append(row)
    return [_phase(phase, by_phase[phase.name], tallies.get(phase.name, Counter())) for phase in phases]


def _phase(phase: Phase, rows: Sequence[_Row], tally: Mapping[str, int]) -> _Row:
    counts = {Status(name): count for name, count in tally.items() if count}
    ended = [row["completed"] for row in rows if row["completed"]]
    return {
        "name": phase.name,
        "depends_on": list(phase.depends_on),
        "status": phase_status(counts),
        "jobs": sum(counts.values()),
        "counts": {status.value: count for status, count in sorted(counts.items())},
        "oom_retries": sum(row["oom_retries"] for row in rows),
        "queued": sum(row.get("queued") or 0 for row in rows),
        "codes": dict(sum((Counter(row.get("codes") or {}) for row in rows), Counter())),
        "started": min((row["started"] for row in rows if row["started"]), default=None),
        "completed": max(ended, default=None) if set(counts) <= _OVER else None,
    }


def _meta(assigned: Assigned, manifest: Manifest, sides: Sequence[_Side], now: float) -> _Row:
    metas = [side.document["meta"] for side in sides if side.document]
    counted = [side for side in sides if side.counted]
    manager = _manager(counted)
    going = [side.document["meta"]["paused"] for side in counted if side.document and side.manager != "finished"]
    paused = bool(going) and all(going)
    ats = [side.look.at for side in sides if side.document and side.look.at is not None]
    only = metas[0] if len(assigned.parts) == 1 and metas else {}
    return {
        "format": FORMAT,
        "version": VERSION,
        "project": assigned.project,
        "run_id": assigned.run_id,
        "started": min((meta["started"] for meta in metas if meta["started"]), default=None),
        "updated": iso(max(ats)) if ats else assigned.created,
        "finished": max((meta["finished"] or "" for meta in metas), default="") or None
        if manager == "finished"
        else None,
        "host": ", ".join(part.host for part in assigned.parts),
        "pid": only.get("pid"),
        "manager": manager,
        "cwd": only.get("cwd") or next((part.cwd for part in assigned.parts if part.cwd), manifest.cwd),
        "wave": manifest.wave,
        "current_wave": max((meta["current_wave"] or 0 for meta in metas), default=0),
        "paused": paused,
        "conditions": [row for side in sides for row in _conditions(assigned, side, paused, now)],
        "manifest_sha256": assigned.digest,
        "poll": max((meta["poll"] for meta in metas), default=5.0),
        "screen_dir": only.get("screen_dir"),
        "launcher": manifest.launcher,
        "seq": sum(meta["seq"] for meta in metas),
        "queued": sum(meta.get("queued") or 0 for meta in metas),
        "queue": dict(sum((Counter(meta.get("queue") or {}) for meta in metas), Counter())),
        **{name: only.get(name) for name in _OF_ONE},
        **({ELSEWHERE: only[ELSEWHERE]} if ELSEWHERE in only else {}),
        "eta": eta.merged(side.document["meta"] for side in counted if side.document and side.manager == "running"),
        "hosts": [_host_row(assigned, side, now) for side in sides],
    }


def _manager(counted: Sequence[_Side]) -> str:
    if counted and all(side.manager == "finished" for side in counted):
        return "finished"
    return "running" if any(side.goes_on for side in counted) else "halted"


def _host_row(assigned: Assigned, side: _Side, now: float) -> _Row:
    """A host: `manager` is running, finished, halted, died, or None if never read; `age_s`: seconds since it was read;
    `jobs`: how many belong to it now; `reachable`: whether it could be read just now, and if not, `reason` says why and
    `answered` whether it was reached at all."""
    part, look = side.part, side.look
    return {
        "name": part.host,
        "state": part.state,
        "manager": side.manager,
        "age_s": _age(look, now),
        "reachable": look.reason is None and side.document is not None,
        "reason": look.reason,
        "answered": look.answered,
        "pid": side.document["meta"]["pid"] if side.document else part.pid,
        "seq": side.document["meta"]["seq"] if side.document else 0,
        "jobs": side.counts.total(),
        "moved": len(part.moved),
        "counts": dict(sorted(side.counts.items())),
        "queued": (side.document["meta"].get("queued") or 0) if side.document else 0,
        "code": [{"name": push.name, "pushed": push.at} for push in part.code],
        "last_pull": assigned.pulled.get(part.host),
        "teardown": side.document["meta"].get("teardown") if side.document else None,
    }


def _age(look: Look, now: float) -> float | None:
    return round(max(0.0, now - look.at), 3) if look.document and look.at is not None else None


def _conditions(assigned: Assigned, side: _Side, paused: bool, now: float) -> list[_Row]:
    """What blocks one host, under its name."""
    host, look, document = side.part.host, side.look, side.document
    rows: list[_Row] = []

    def say(kind: str, text: str, since: str | None = None) -> None:
        since = since or (iso(look.at) if look.at is not None else assigned.created)
        rows.append({"kind": kind, "text": f"{host}: {text}", "since": since, "host": host})

    if side.part.state == LOST:
        return rows
    if look.reason is not None:
        age = _age(look, now)
        shown = "it has not been read yet" if age is None else f"the status shown is {duration(age)} old"
        how = "its state is unknown" if look.answered else "unreachable, so its state is unknown"
        say("unknown" if look.answered else "unreachable", f"{how}: {look.reason}; {shown}")
    if document is None:
        if side.part.state == PLANNED and look.reason is None:
            text = "its jobs were not sent there yet; run the same `wavequeue submit` again to finish that"
            say("planned", text, assigned.created)
        return rows
    meta = document["meta"]
    resume = f"wavequeue resume --run {assigned.run_id}"
    unsent = sum(len(batch.jobs) for batch in side.part.batches if not batch.sent)
    if unsent:
        what = "1 job that was moved to it was" if unsent == 1 else f"{unsent} jobs that were moved to it were"
        say("planned", f"{what} not sent there yet; run the same `wavequeue rescue` again to finish that")
    elif side.manager in ("died", "halted") and side.counted:
        what = "has died" if side.manager == "died" else "was halted"
        left = left_running(meta, document["counts"].get("running", 0))
        text = f"{the_manager(meta)} {what}; {left}. Start it again: {resume}"
        say("manager", text, meta["updated"])
    if meta["paused"] and not paused and side.manager != "finished":
        say("paused", f"paused: no new jobs start there. Continue: {resume}", meta["updated"])
    for row in meta["conditions"]:
        say(row["kind"], row["text"], row["since"])
    return rows
