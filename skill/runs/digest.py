"""Read a state document for people: the status of jobs, what blocks the queue, what needs a person. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

from queue_manager.core.launchers import SLURM
from queue_manager.core.status import BAD, RETRYING, Status
from queue_manager.core.times import duration, epoch
from skill.common.errors import DONE, PERSON

Row = Mapping[str, Any]
"""A job, phase or card as it stands in queue_state.json."""
Clock = Callable[[str | None], str]
"""Formats an ISO time as a time of day, as `clock` does."""

ORDER = tuple(
    status.value
    for status in (
        Status.COMPLETED, Status.RUNNING, Status.FAILED_OOM, Status.FAILED_OTHER, Status.PENDING, Status.STUCK,
        Status.BLOCKED, Status.CANCELLED,
    )
)  # fmt: skip
"""The statuses in the order in which people want to read them."""
QUEUED = "queued"
"""The word for a pending job that is in Slurm's queue."""
SHOWN = (*ORDER[:2], QUEUED, *ORDER[2:])
"""The words for jobs in the order in which people want to read them."""
RETRIES = frozenset(status.value for status in RETRYING)
NEEDS_PERSON = frozenset(status.value for status in BAD)
UNKNOWN = "unknown: "
"""Before a host's name: its state is unknown."""
FINAL = NEEDS_PERSON | {Status.COMPLETED.value}
_RECENT = 60
_NAMED = 3


class Digest(NamedTuple):
    """What is worth showing of the jobs, taken once from a document, each in one place. `running`: longest first;
    `person`: stuck first; `retrying`: soonest first; `recent`: those that completed, newest first; `cancelled`: by a
    person, who knows of it, newest first."""

    running: list[Row]
    person: list[Row]
    retrying: list[Row]
    recent: list[Row]
    cancelled: list[Row]


def digest(document: Mapping[str, Any]) -> Digest:
    """Select the jobs that a view shows; apart from those that run or need a person, their number does not grow with
    the run."""
    running, person, retrying, ended, cancelled = [], [], [], [], []
    for row in document["jobs"]:
        status = row["status"]
        if status == "running":
            running.append(row)
        elif status in RETRIES:
            retrying.append(row)
        elif status == "cancelled":
            cancelled.append(row)
        elif status in NEEDS_PERSON:
            person.append(row)
        elif status == "completed":
            ended.append(row)
    running.sort(key=lambda row: row["started"] or "~")
    rank = {"stuck": 0, "blocked": 1}
    person.sort(key=lambda row: rank[row["status"]])
    retrying.sort(key=lambda row: row["retry_at"] or "~")
    recent = heapq.nlargest(_RECENT, ended, key=lambda row: row["completed"] or "")
    cancelled.sort(key=lambda row: row["completed"] or "", reverse=True)
    return Digest(running, person, retrying, recent, cancelled)


def word(row: Row) -> str:
    """Return the word for a job's status: that of the contract, or that it is queued."""
    return QUEUED if row.get("queued") else str(row["status"])


def counts(row: Mapping[str, Any]) -> dict[str, int]:
    """Return how many jobs of a document, a phase or a host there are by the word for their status."""
    queued = (row.get("meta") or row).get("queued") or 0
    found = {name: count for name, count in row["counts"].items() if count}
    if queued:
        found |= {QUEUED: queued, "pending": max(0, found.get("pending", 0) - queued)}
    return found


def clock(text: str | None) -> str:
    """Return the time of day of an ISO time, in UTC with its Z; empty for none."""
    return "" if text is None else f"{text[11:19]}Z"


def alike(rows: Iterable[Row]) -> list[list[Row]]:
    """Group rows with the same text: jobs that are blocked or cancelled for one reason. Stuck jobs stay alone."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        own = (row["id"],) if row["status"] == "stuck" else ()
        groups.setdefault((row["status"], reason(row), *own), []).append(row)
    return list(groups.values())


def names(rows: Sequence[Row]) -> str:
    """Name the jobs of a group: the first ids, and how many more."""
    shown = ", ".join(row["id"] for row in rows[:_NAMED])
    return shown if len(rows) <= _NAMED else f"{shown} and {len(rows) - _NAMED} more"


def seconds(row: Row, now: float) -> float | None:
    """Return how long a job has run, or ran; of a queued one how long it has been so; None if it has not. `now` in
    epoch seconds."""
    if row.get("queued"):
        return max(0.0, now - epoch(row["queued"]))
    if row["started"] is None:
        return None
    if row["status"] == "running":
        return max(0.0, now - epoch(row["started"]))
    if not row["completed"]:
        return None
    # A job that failed and was cancelled later did not run until then; older managers do not tell the difference.
    return max(0.0, epoch(row.get("attempt_ended") or row["completed"]) - epoch(row["started"]))


def took(row: Row, now: float) -> str:
    """Return the same in words; empty if it has not run."""
    length = seconds(row, now)
    return "" if length is None else duration(length)


def counts_text(counts: Mapping[str, int], leave_out: Iterable[str] = ()) -> str:
    """Format counts: `5 completed, 2 running`; zeros are left out."""
    left_out = set(leave_out)
    return ", ".join(f"{counts[name]} {name}" for name in SHOWN if counts.get(name) and name not in left_out)


def headline(document: Mapping[str, Any], alive: bool, now: float) -> str:
    """Describe the whole run in one line."""
    meta, counts = document["meta"], document["counts"]
    total = sum(counts.values())
    state = meta["manager"]
    if state == "running":
        state = "paused" if meta["paused"] else "running"
        if not alive:
            state = "its manager has died"
        elif meta.get(ELSEWHERE):
            state += f" (its manager is on {meta[ELSEWHERE]})"
    elif state == "halted" and any(row["manager"] == "died" for row in meta.get("hosts", ())):
        state = "its managers have died" if len(meta["hosts"]) > 1 else "its manager has died"
    begin = epoch(meta["started"]) if meta["started"] else now
    end = epoch(meta["finished"]) if meta["finished"] else now if alive else epoch(meta["updated"])
    done = counts.get("completed", 0)
    return f"{meta['run_id']}: {state}, {done} of {total} jobs completed, {duration(end - begin)}"


ELSEWHERE = "manager_on"
"""In the meta of a state whose manager is on another machine than the run is looked at from: that machine."""
GONE = "gone"
"""In the meta of a state whose manager is not there: how many of the jobs that it left running have no screen."""


def problems(document: Mapping[str, Any], alive: bool, clock: Clock = clock) -> list[str]:
    """List what blocks the queue, one line each; empty if nothing does."""
    return list(problems_by_kind(document, alive, clock).values())


def problems_by_kind(document: Mapping[str, Any], alive: bool, clock: Clock = clock) -> dict[str, str]:
    """The same, by what blocks the queue: a line may change with time, as where it tells an age."""
    meta = document["meta"]
    resume = f"wavequeue resume --run {meta['run_id']}"
    lines = {}
    if "hosts" in meta:
        pass  # the conditions tell of each manager, under its host's name
    elif meta["manager"] == "running" and not alive:
        left = left_running(meta, document["counts"].get("running", 0))
        lines["died"] = f"{the_manager(meta)} has died; {left}. Start it again: {resume}"
    elif meta["manager"] == "halted":
        left = left_running(meta, document["counts"].get("running", 0))
        lines["halted"] = f"the manager was halted; {left}. Start it again: {resume}"
    if meta["paused"] and meta["manager"] != "finished":
        lines["all paused"] = f"paused: no new jobs start. Continue: {resume}"
    for row in meta["conditions"]:
        lines[condition_kind(row)] = f"{row['text']} (since {clock(row['since'])})"
    for row in document["gpus"]:
        if "quarantine" in row["note"]:
            lines[card(row)] = f"{card(row)}: {row['note']}"
    return lines


def the_manager(meta: Mapping[str, Any]) -> str:
    """Name the manager that a run had last, with its machine where that may be any of a cluster."""
    place = f" on {meta['host']}" if meta.get("launcher") == SLURM else ""
    return "the manager" if meta["pid"] is None else f"the manager (process {meta['pid']}{place})"


def condition_kind(row: Mapping[str, Any]) -> str:
    """Name a condition of a run, as `problems_by_kind` does; that a host is not reached is one, whatever the reason."""
    return f"{UNKNOWN}{row['host']}" if row["kind"] in ("unreachable", "unknown") else str(row["text"])


def left_running(meta: Mapping[str, Any], count: int) -> str:
    """What is known of the jobs that ran when their manager was last heard of; `count` of them."""
    gone = meta.get(GONE)
    if not count:
        return "no job was running"
    if gone is None:
        return "it is unknown whether its running jobs continue"
    if not gone:
        return "running jobs continue"
    if gone >= count:
        return "its running jobs have ended or were killed"
    return f"{count - gone} of {count} running jobs continue, the others have ended or were killed"


def card(row: Row) -> str:
    """Name a GPU by its index, and by its host where there are hosts."""
    return f"{row['host']} GPU {row['index']}" if "host" in row else f"GPU {row['index']}"


def place(row: Row) -> str:
    """Say where a job runs or ran: `GPU 0`, `GPUs 0,1`, or `cpu`; with its node, or its host where there are hosts;
    empty if it has not begun."""
    if row.get("queued") or not row["attempt"]:
        return ""
    cards = row["gpus"]
    where = f"GPU{'s' if len(cards) > 1 else ''} {','.join(map(str, cards))}" if cards else "cpu"
    machine = row.get("node") or row.get("host")
    return where if machine is None else f"{machine} {where}"


OUTCOMES = {"stopped_early": "stopped early", "recovered": "recovered"}
"""How a job has completed, where that is worth a word."""


def reason(row: Row, clock: Clock = clock) -> str:
    """Give the reason for a job's status in one line; empty where there is none."""
    if row["status"] in FINAL:
        skipped = "not run: its output already existed" if row.get("skipped") else ""
        if row["status"] == "cancelled" and row["error"]:
            return str(row["error"]).removeprefix("cancelled ")  # which its status says beside it
        return row["error"] or row["warning"] or skipped or OUTCOMES.get(row.get("outcome") or "", "")
    if row["status"] in RETRIES:
        step = ((row.get("recovery") or {}).get("steps") or [{}])[-1]
        how = f", recover: {step['action']}" if step.get("attempt") == row["attempt"] else ""
        return f"{row['error'] or 'failed'}; again at {clock(row['retry_at'])}{how}"
    return row["waiting"] or ""


def exit_code(document: Mapping[str, Any]) -> int:
    """Return 0 if every job is completed, else 3, for a run that has finished."""
    return DONE if set(document["counts"]) <= {Status.COMPLETED.value} else PERSON


def changes(before: Mapping[str, tuple[str, int]], document: Mapping[str, Any]) -> list[str]:
    """Return one line for each job whose status or attempt differs from `before` (by id; new jobs count as pending)."""
    lines = []
    for row in document["jobs"]:
        was = before.get(row["id"], ("pending", 0))
        is_now = (row["status"], row["attempt"])
        if is_now != was and (is_now[0], was[0]) != ("pending", "pending"):
            lines.append((_when(row, document), change(row, document)))
    return [line for _, line in sorted(lines)]


def change(row: Row, document: Mapping[str, Any]) -> str:
    """Describe a job's status in one line: `12:00:03Z completed teacher_N16 (4.1 s)`."""
    at = _when(row, document)
    tail = ""
    if row["status"] == "completed":
        length = took(row, 0.0)
        tail = (f"  ({length})" if length else "") + (f"  {reason(row)}" if reason(row) else "")
    elif row["status"] == "running":
        where = place(row) if row["gpus"] or row.get("node") or "host" in row else ""
        parts = [where, f"attempt {row['attempt']}" if row["attempt"] > 1 else ""]
        tail = "".join(f"  {part}" for part in parts if part)
    elif row["status"] != "pending":
        tail = f"  {reason(row)}"
    return f"{clock(at)} {row['status']:12} {row['id']}{tail}"


def _when(row: Row, document: Mapping[str, Any]) -> str:
    """When a job came to its status, as far as the document tells."""
    at = row["started"] if row["status"] == "running" else None if row["status"] == "pending" else row["completed"]
    return str(at or document["meta"]["updated"])


def places(document: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Return status and attempt of each job, by id."""
    return {row["id"]: (row["status"], row["attempt"]) for row in document["jobs"]}


def age(document: Mapping[str, Any], now: float) -> float:
    """Return the seconds since the document was written."""
    return round(max(0.0, now - epoch(document["meta"]["updated"])), 3)


def utc(now: float) -> str:
    """Format epoch seconds as a time of day in UTC with its Z."""
    return f"{datetime.fromtimestamp(now, timezone.utc):%H:%M:%S}Z"
