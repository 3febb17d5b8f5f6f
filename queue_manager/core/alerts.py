"""Turn events of the journal into alerts for people, one line of JSON each."""

from __future__ import annotations

import json

from queue_manager.core import events as ev
from queue_manager.core import failure_advice
from queue_manager.core.events import Record
from queue_manager.core.launchers import ENGINE_LIMIT
from queue_manager.core.times import iso

RECOVERY = "recovery"
"""The kind of an alert that a step of a job's ladder is taken, or that its command failed."""
UNHEALTHY = "unhealthy"
"""The kind of an alert about a flag of a running job; `flag` is the flag's kind, and `line` a line of the job's log."""


def alert(record: Record) -> str | None:
    """Return the line of alerts.jsonl for an event, with its line end; None for an event without an alert."""
    found = words(record)
    if found is None:
        return None
    kind, job, text = found
    row = {"seq": record.seq, "at": iso(record.at), "kind": kind, "job": job, "text": text}
    if isinstance(record.event, ev.HealthFlagged):
        row |= {"flag": record.event.kind, "line": record.event.line or None}
    if isinstance(record.event, ev.AttemptEnded) and kind == "stuck":
        row["next"] = failure_advice.of_failure(record.event.failure or "", text)
    return json.dumps({key: value for key, value in row.items() if value is not None}, ensure_ascii=False) + "\n"


def last_seq(text: str) -> int:
    """Return the number of the event of the last complete line; 0 if there is none."""
    for line in reversed(text.splitlines()):
        try:
            return int(json.loads(line)["seq"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def words(record: Record) -> tuple[str, str | None, str] | None:
    """Return the kind of an alert, its job, and its text; None for an event without an alert."""
    event = record.event
    if isinstance(event, ev.AttemptEnded):
        if event.status == "stuck":
            return "stuck", event.job, event.error or "failed"
        if event.status == "failed_oom":
            return "oom", event.job, event.error or "out of memory"
        if event.failure == "not_launched":
            return "not_launched", event.job, event.error or "not launched"
        if event.warning:
            return "warning", event.job, event.warning
    elif isinstance(event, ev.RecoveryChosen):
        return RECOVERY, event.job, f"{event.failure} in attempt {event.n}: {event.action} ({event.cause})"
    elif isinstance(event, ev.RecoveryRan) and event.code:
        return RECOVERY, event.job, f"the command before attempt {event.n} failed with exit code {event.code}"
    elif isinstance(event, ev.HealthFlagged) and not event.again:
        return UNHEALTHY, event.job, f"{event.kind}: {event.text}"
    elif isinstance(event, ev.LeftoversFound) and event.fate != "end":
        what = "the job continues until they end" + (
            ", and then fails, since their result is unknown" if event.fate == "fail" else ""
        )
        return "leftovers", event.job, f"its command has ended, but it waits for {event.text}: {what}"
    elif isinstance(event, ev.JobStuck):
        return "stuck", event.job, event.error
    elif isinstance(event, ev.AttemptStopping) and event.reason in ("stale", "timeout"):
        return event.reason, event.job, f"attempt {event.n} is being stopped: {event.reason}"
    elif isinstance(event, (ev.ConditionBegan, ev.ConditionEnded)) and event.kind == ENGINE_LIMIT:
        return None
    elif isinstance(event, ev.ConditionBegan):
        return event.kind.split(":")[0], None, event.text
    elif isinstance(event, ev.ConditionEnded):
        return f"{event.kind.split(':')[0]}_over", None, f"over: {event.kind}"
    elif isinstance(event, ev.CardQuarantined):
        return (
            "quarantine",
            None,
            f"{event.card} gets no more jobs: {event.reason}; once it is repaired: wavequeue resume",
        )
    elif isinstance(event, ev.CompleteRan) and event.code:
        return "on_complete", None, f"on_complete ended with exit code {event.code}: see queue_mgr.log"
    elif isinstance(event, ev.RunRepaired):
        return "repaired", None, event.text
    elif isinstance(event, ev.BoundReached):
        return event.kind, None, f"{event.text}: no more jobs are started; to continue anyway: wavequeue resume"
    elif isinstance(event, ev.TeardownStarting):
        cost = "" if event.cost is None else f"; it has cost about ${event.cost:.2f}"
        word = "stopped (its disk is still billed)" if event.plan == "stop" else "destroyed"
        return "teardown", None, f"instance {event.instance} is being {word}: {event.reason}{cost}"
    elif isinstance(event, ev.TeardownCalledOff):
        return "teardown", None, f"the machine keeps running: {event.reason}"
    elif isinstance(event, ev.TeardownConfirmed):
        word = "stopped" if event.plan == "stop" else "destroyed"
        return "teardown", None, f"the provider confirms that instance {event.instance} is {word}"
    return None
