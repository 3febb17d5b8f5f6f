"""The messages that `notify` sends: alerts of the journal, as a document and in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from queue_manager.core import activity, alerts
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.launchers import CANNOT_START
from queue_manager.core.model import QueueState
from queue_manager.core.status import Status
from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import duration, iso

FINISHED = "finished"
_KINDS = {
    "stuck": ("stuck", "need", CANNOT_START, activity.KIND, "max_cost", "deadline"),
    "unhealthy": (alerts.UNHEALTHY, "stale", "timeout", "leftovers"),
    "card": ("nvml", "card", "leases", "quarantine", "node"),
    "disk": ("disk", "journal", "results_to"),
    "finished": (FINISHED,),
}
"""The kinds of alerts that each word of `on` means."""
_WORD = {kind: word for word, kinds in _KINDS.items() for kind in kinds}
_SHOWN = 5
"""Alerts of one message that are written out."""
_TEXT, _LINE = 600, 300


class Alert(NamedTuple):
    """`seq` and `at` (epoch seconds): of the event in the journal. `on`: the word of a spec that asks for it. `about`:
    what tells whether it still holds: the kind of a flag or a condition, or a GPU."""

    seq: int
    at: float
    kind: str
    on: str
    job: str | None
    text: str
    line: str | None = None
    about: str = ""


class Sending(NamedTuple):
    """One alert for the `n`th time: 1 is the first."""

    alert: Alert
    n: int = 1


class Source(NamedTuple):
    """The run that tells. `away`: it runs on a host to which it was submitted."""

    run_id: str
    project: str
    host: str
    away: bool = False


class AlertReader:
    """Finds the alerts among the events of a journal, from its first one on."""

    def __init__(self) -> None:
        self._begun: set[str] = set()
        """Conditions that a message was sent about: one in other words is the same condition."""

    def take(self, record: Record, state: QueueState) -> Alert | None:
        """The alert that an event is, for people who asked for some; None for one that is none."""
        event = record.event
        if isinstance(event, ev.RunFinished):
            return Alert(record.seq, record.at, FINISHED, FINISHED, None, _end(state))
        if isinstance(event, ev.ConditionEnded):
            self._begun.discard(event.kind)
            return None
        alert = alerts.words(record)
        if alert is None or alert[0] not in _WORD:
            return None
        kind, job, text = alert
        line, about = None, ""
        if isinstance(event, ev.HealthFlagged):
            line, about = event.line or None, event.kind
        elif isinstance(event, ev.CardQuarantined):
            about = event.card
        elif isinstance(event, ev.ConditionBegan):
            if event.kind in self._begun:
                return None
            self._begun.add(event.kind)
            about = event.kind
            if kind == activity.KIND:
                job = event.kind.partition(":")[2]
        return Alert(record.seq, record.at, kind, _WORD[kind], job, text, line, about)


def _end(state: QueueState) -> str:
    counts = ", ".join(f"{count} {status.value}" for status, count in sorted(state.tallies.shown.items()) if count)
    took = "" if state.started is None or state.finished is None else f" in {duration(state.finished - state.started)}"
    return f"the run has finished{took}: {counts or 'no jobs'}"


def holds(state: QueueState, alert: Alert) -> bool:
    """Whether what an alert tells of is still so; what only happened once does not hold."""
    job = None if alert.job is None or alert.job not in state.order_of else state.job(alert.job)
    if alert.kind == "stuck":
        return job is not None and job.status is Status.STUCK
    if alert.kind == alerts.UNHEALTHY:
        return job is not None and job.attempt is not None and alert.about in job.attempt.flags
    if alert.kind == "quarantine":
        return alert.about in state.cards.quarantined
    return bool(alert.about) and alert.about in state.machine.conditions


def payload(sending: Sequence[Sending], source: Source, now: float) -> dict[str, Any]:
    """What a command and a plain webhook get. `id` and `n` are the same where something is sent once more."""
    rows = [_row(one, source) for one in sending]
    if len(rows) == 1:
        return rows[0]
    title = f"{len(rows)} alerts of {source.run_id}"
    return {
        **_origin(source),
        "id": f"{rows[0]['id']}-{sending[-1].alert.seq}",
        "n": min(one.n for one in sending),
        "at": iso(now),
        "kind": "several",
        "text": title,
        "helps": f"wavequeue status --run {source.run_id}",
        "alerts": rows,
    }


def _origin(source: Source) -> dict[str, Any]:
    return {"run_id": source.run_id, "project": source.project, "host": source.host}


def _row(one: Sending, source: Source) -> dict[str, Any]:
    alert = one.alert
    return {
        **_origin(source),
        "id": f"{source.run_id}/{alert.seq}",
        "n": one.n,
        "at": iso(alert.at),
        "kind": alert.kind,
        "on": alert.on,
        "job": alert.job,
        "text": one_line(alert.text, _TEXT),
        "line": None if alert.line is None else one_line(alert.line, _LINE),
        "helps": _helps(alert, source),
    }


def _helps(alert: Alert, source: Source) -> str:
    """The command that helps."""
    run = f"--run {source.run_id}"
    if alert.kind == FINISHED:
        return f"wavequeue pull {source.run_id}" if source.away else f"wavequeue report {run}"
    if alert.kind == activity.KIND and alert.job is not None:
        return f"wavequeue attach {alert.job} {run}"
    if alert.kind in ("quarantine", "max_cost", "deadline"):
        return f"wavequeue resume {run}"
    if alert.job is None:
        return f"wavequeue status {run}"
    return f"wavequeue why {alert.job} {run}" if alert.on == "stuck" else f"wavequeue logs {alert.job} {run} -n 50"


def text(sending: Sequence[Sending], source: Source, now: float) -> str:
    """A message for people."""
    where = f"wavequeue {source.run_id} on {source.host}"
    if len(sending) == 1:
        return "\n".join([f"{where}: {_head(sending[0], now)}", *_body(sending[0], source)])
    lines = [f"{where}: {len(sending)} alerts"]
    lines += [f"{_head(one, now)}: {one_line(one.alert.text, 200)}" for one in sending[:_SHOWN]]
    if len(sending) > _SHOWN:
        lines.append(f"and {len(sending) - _SHOWN} more")
    return "\n".join([*lines, f"next: wavequeue status --run {source.run_id}"])


def _head(one: Sending, now: float) -> str:
    alert = one.alert
    again = "" if one.n == 1 else f" (still, after {duration(now - alert.at)})"
    return f"{alert.kind if alert.job is None else f'job {alert.job}: {alert.kind}'}{again}"


def _body(one: Sending, source: Source) -> list[str]:
    alert = one.alert
    lines = [one_line(alert.text, _TEXT)]
    if alert.line and alert.line not in alert.text:
        lines.append(f"log: {one_line(alert.line, _LINE)}")
    return [*lines, f"next: {_helps(alert, source)}"]
