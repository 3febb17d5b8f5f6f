"""The decision: `tick(state, seen, now)` returns what has happened and what to do. Pure.

It reads no clock, file, process or GPU, and changes the state only by applying the events that it returns; the caller
makes these durable before it carries out the actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from queue_manager.core import activity, apply_requests, attempt_progress, health_rules, schedule, teardown
from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.launchers import CANNOT_START
from queue_manager.core.model import Need, QueueState
from queue_manager.core.readings import Cards, Unreadable
from queue_manager.core.requests import Answer
from queue_manager.core.teardown import Decision
from queue_manager.core.turn import Turn

STREAK = 3
"""Number of different jobs failing in a row on one GPU that put it in quarantine, while another GPU serves well."""


class Tick(NamedTuple):
    """The result of a turn. `ask`: jobs whose preconditions have to be checked before they can be placed. `impossible`:
    needs that these GPUs can never meet, in words. `machine`: the decision about the machine, where it was read."""

    records: list[Record]
    actions: list[b.Action]
    ask: tuple[int, ...]
    impossible: Mapping[Need, str]
    machine: Decision | None = None


def tick(state: QueueState, seen: b.Seen, now: float) -> Tick:
    """Decide one turn. `now` in epoch seconds, never less than before. Raises InvalidTransition: an internal error."""
    turn = Turn(state, seen, now)
    code(turn)
    requests(turn)
    for order, evidence in seen.attempts.items():
        if order in state.live:
            attempt_progress.follow(turn, state.jobs[order], state.live[order], evidence)
    for order, found in seen.metrics.items():
        if order in state.unread:
            turn.emit(ev.MetricsRead(state.jobs[order].spec.id, found.metrics, found.errors))
    health_rules.decide(turn)
    timers(turn)
    quarantine(turn)
    preconditions(turn)
    schedule.place(turn)
    schedule.give_up(turn)
    machine = teardown.step(turn)
    conditions(turn, machine)
    if state.tallies.all_final and not (state.live or state.unread) and state.finished is None:
        turn.emit(ev.RunFinished())
    return Tick(turn.records, turn.actions, tuple(turn.ask), turn.impossible, machine)


def wants_cards(state: QueueState) -> bool:
    """Return whether a ready job waits for a GPU, or for the memory of the previous wave."""
    needs = state.ready.needs()
    barrier = state.manifest.wave == "barrier" and bool(needs) and bool(state.cards.wave_cards)
    return not state.paused and state.machine.closed is None and (barrier or any(need.gpus for need in needs))


def overdue(state: QueueState, now: float) -> set[int]:
    """Return running attempts that reached their timeout and were not asked to end."""
    return {
        order
        for order, attempt in state.live.items()
        if attempt.started is not None
        and attempt.stopping is None
        and (timeout := state.jobs[order].spec.timeout) is not None
        and now >= attempt.started + timeout
    }


def next_timer(state: QueueState, after: float = 0.0) -> float | None:
    """Return when a timer is due (epoch seconds); None if none is.

    `after`: the time of the last turn. Timers that were due by then have been handled, and wait for something else now.
    """
    times = [
        attempt.started + timeout
        for order, attempt in state.live.items()
        if (timeout := state.jobs[order].spec.timeout) and attempt.started is not None and attempt.stopping is None
    ]
    times += [at for at in (state.ready.next_due(), state.machine.launch_retry_at) if at is not None]
    return min((time for time in times if time > after), default=None)


def requests(turn: Turn) -> None:
    """Carry out requests of people, each once."""
    for request in turn.seen.requests:
        done = turn.state.requests.get(request.id)
        if done is None:
            done = apply_requests.carry_out(turn.state, request, turn)
            turn.emit(done)
        turn.actions.append(b.Reply(Answer(done.id, done.ok, done.text, done.jobs)))
    if any(isinstance(record.event, ev.JobRetried) for record in turn.records):
        turn.name_roots()


def code(turn: Turn) -> None:
    """Record which code the jobs use, where it has changed."""
    seen = turn.seen.code
    if seen is not None and seen.name != turn.state.code:
        turn.emit(ev.CodeSeen(seen.name, seen.since))


def timers(turn: Turn) -> None:
    for job in turn.state.ready.due_retries(turn.now):
        turn.emit(ev.RetryDue(job.spec.id))


def quarantine(turn: Turn) -> None:
    """Quarantine a GPU on which one job after the other fails while another GPU serves well."""
    for card, jobs in list(turn.state.cards.failures.items()):
        doubtful = {card, *turn.state.cards.failures, *turn.state.cards.quarantined}
        others = turn.state.cards.served - doubtful
        if len(jobs) >= STREAK and others and card not in turn.state.cards.quarantined:
            names = ", ".join(jobs[-STREAK:])
            turn.emit(ev.CardQuarantined(card, f"{len(jobs)} jobs failed on it one after the other: {names}"))


def preconditions(turn: Turn) -> None:
    """Record the results of checked preconditions of jobs that are held."""
    for order, checked in turn.seen.checked.items():
        job = turn.state.jobs[order]
        if order in turn.state.held and checked.unmet != job.held:
            turn.emit(ev.JobHeld(job.spec.id, checked.unmet))


def conditions(turn: Turn, machine: Decision | None = None) -> None:
    """Begin and end conditions that block the queue, as far as this turn looked."""
    seen, known = turn.seen, turn.state.machine.conditions
    wanted: dict[str, str] = {}
    if isinstance(seen.cards, Unreadable):
        wanted["nvml"] = f"NVML cannot be read: {seen.cards.reason}"
    elif seen.cards is not None:
        wanted.update({f"card:{sick.uuid}": f"GPU {sick.index}: {sick.reason}" for sick in seen.cards.sick})
    if isinstance(seen.foreign, Unreadable):
        wanted["leases"] = f"other runs' leases cannot be read: {seen.foreign.reason}"
    if seen.disk is not None:
        wanted["disk"] = seen.disk
    if seen.journal is not None:
        wanted["journal"] = seen.journal
    if turn.state.machine.launch_failures:
        prefix = f"{turn.state.manifest.launcher} cannot start: "
        error = turn.launch_error or known.get(CANNOT_START, ("no session starts", 0.0))[0]
        wanted[CANNOT_START] = prefix + error[len(prefix) if error.startswith(prefix) else 0 :]
    if seen.machine is not None:
        wanted.update(teardown.conditions(turn, machine))
    wanted.update(activity.conditions(turn.state, seen.doing or {}))
    if seen.admitted is not None:
        wanted.update(seen.admitted.conditions)
    for need, reason in turn.impossible.items():
        of = "".join(f":{model}" for model in need.models)
        wanted[f"need:{need.gpus}:{need.mib}{of}"] = reason
    for kind, text in wanted.items():
        if known.get(kind, ("",))[0] != text:
            turn.emit(ev.ConditionBegan(kind, text))
    unseen: tuple[str, ...] = () if isinstance(seen.cards, Cards) else ("leases", "card:", "need:")
    if seen.cards is None:
        unseen += ("nvml",)
    if seen.machine is None:
        unseen += ("price", "results_to", "teardown")
    if seen.doing is None:
        unseen += (f"{activity.KIND}:",)
    for kind in list(known):
        if kind not in wanted and (not kind.startswith(unseen) or activity.is_over(turn.state, kind)):
            turn.emit(ev.ConditionEnded(kind))
