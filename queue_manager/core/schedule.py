"""Which ready jobs start now, on which cards; and which of those that are left never can."""

from __future__ import annotations

import heapq
from typing import NamedTuple

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import gpu_models, layout
from queue_manager.core.model import Job, Need
from queue_manager.core.placement import View, allowed, choose, impossible, views
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.core.turn import Turn

ASK_AT_ONCE = 64
"""Preconditions looked at in one turn."""


def place(turn: Turn) -> None:
    """Start what may start: ready jobs by priority, on cards that are free or have room."""
    state = turn.state
    heads = state.ready.heads()
    possible = {need for _, _, need in heads if _possible(turn, need)}
    if state.paused or state.machine.closed is not None or turn.seen.disk is not None:
        return
    barrier = state.manifest.wave == "barrier"
    if barrier and (state.live or not _wave_settled(turn)):
        return
    starts: list[tuple[Job, list[View]]] = []
    held: list[tuple[Job, str]] = []
    slots, cpu_slots = _slots(turn)
    cards = _cards(turn)
    queues = {need: state.ready.in_order(need) for need in possible}
    heads = [next(queue) for queue in queues.values()]
    heapq.heapify(heads)
    while heads and slots > 0:
        _, order, need = heapq.heappop(heads)
        if need.gpus == 0 and cpu_slots <= 0:
            continue
        job = state.jobs[order]
        chosen = _choose(turn, job, need, cards)
        if chosen is None:
            continue
        unmet = _unmet(turn, job)
        if unmet is None:
            starts.append((job, chosen))
        if isinstance(unmet, str):
            held.append((job, unmet))
        else:  # also while it is asked about: nothing behind it takes its place meanwhile
            slots -= 1
            cpu_slots -= need.gpus == 0
            for view in chosen:
                view.take(need.mib)
        following = next(queues[need], None)
        if following is not None:
            heapq.heappush(heads, following)
    for job, reason in held:
        turn.emit(ev.JobHeld(job.spec.id, reason))
    wave = state.cards.wave + 1
    for job, chosen in [] if barrier and turn.ask else starts:
        _start(turn, job, chosen, wave)


def _start(turn: Turn, job: Job, chosen: list[View], wave: int) -> None:
    n = job.n + 1
    turn.emit(
        ev.AttemptStarting(
            job.spec.id,
            n,
            wave,
            layout.session_name(turn.state.run_id, job.spec.id, n),
            turn.seen.boot,
            tuple(view.card.uuid for view in chosen),
            tuple(view.card.index for view in chosen),
            job.need.mib,
            tuple(view.base for view in chosen),
        )
    )
    turn.actions.append(b.Launch(job.order))


def _slots(turn: Turn) -> tuple[int, int]:
    """How many attempts may start, and how many of them without a card."""
    state = turn.state
    bound = state.manifest.max_parallel
    slots = len(state.jobs) if bound is None else bound - len(state.live)
    retry_at = state.machine.launch_retry_at
    if retry_at is not None:
        unclaimed = any(attempt.wrapper is None for attempt in state.live.values())
        slots = 0 if unclaimed or turn.now < retry_at else min(slots, 1)
    if turn.seen.admitted is not None:
        slots = min(slots, turn.seen.admitted.room)
    cpu_jobs = sum(not attempt.cards for attempt in state.live.values())
    return slots, (turn.seen.cores if bound is None else bound) - cpu_jobs


def _cards(turn: Turn) -> dict[str, View]:
    """The cards as this turn read them; none where they, or the leases of other runs, could not be read."""
    if not isinstance(turn.seen.cards, Cards) or isinstance(turn.seen.foreign, Unreadable):
        return {}
    return views(turn.state, turn.seen.cards.cards, turn.seen.foreign, turn.now)


def _existing(turn: Turn) -> list[Card] | None:
    """The cards there are for this run, None where this turn cannot tell: a sick card may come back."""
    seen = turn.seen.cards
    return None if not isinstance(seen, Cards) or seen.sick else allowed(turn.state, seen.cards)


def _possible(turn: Turn, need: Need) -> bool:
    existing = _existing(turn)
    reason = None if existing is None else impossible(need, existing, turn.state.manifest.gpus)
    if reason is None:
        return True
    if turn.state.cards.quarantined:
        reason += f" that {'is' if len(turn.state.cards.quarantined) == 1 else 'are'} not in quarantine"
    elif isinstance(turn.seen.cards, Cards) and turn.seen.cards.note:
        reason += f" ({turn.seen.cards.note})"
    turn.impossible[need] = reason
    return False


def _choose(turn: Turn, job: Job, need: Need, cards: dict[str, View]) -> list[View] | None:
    if need.gpus == 0:
        return []
    threshold = turn.state.manifest.gpu_free_threshold_mib
    chosen = choose(need, cards, threshold, job.oom_attempts > 0, job.last_cards)
    if chosen is None and need.mib is None:
        # Cards that are free, or will be, are kept for it: else jobs that share, or need fewer, pass it forever.
        waiting = [view for view in cards.values() if not view.own and not view.foreign]
        waiting = [view for view in waiting if need.gpus == 1 or not view.card.is_slice]
        waiting = [view for view in waiting if gpu_models.fits(need.models, view.card.name)]
        waiting.sort(key=lambda view: (not view.is_free(threshold), view.shared_by, view.card.index))
        for view in waiting[: need.gpus]:
            view.take(None)
    return chosen


class _Asked(NamedTuple):
    """Whether a job's preconditions hold is not known yet."""


def _unmet(turn: Turn, job: Job) -> str | _Asked | None:
    """The precondition of a job that does not hold; None where all are known to. Asks about them where it has to."""
    if not job.spec.preconditions:
        return None
    checked = turn.seen.checked.get(job.order)
    if checked is None:
        if len(turn.ask) < ASK_AT_ONCE:
            turn.ask.append(job.order)
        return _Asked()
    return checked.unmet


def _wave_settled(turn: Turn) -> bool:
    """Whether the cards of the last wave read below the threshold."""
    if not turn.state.cards.wave_cards:
        return True
    if not isinstance(turn.seen.cards, Cards):
        return False
    threshold = turn.state.manifest.gpu_free_threshold_mib
    used = {card.uuid: card.used_mib for card in turn.seen.cards.cards}
    waiting = [sick.uuid for sick in turn.seen.cards.sick]
    return all(used.get(card, 0) < threshold and card not in waiting for card in turn.state.cards.wave_cards)


def give_up(turn: Turn) -> None:
    """When nothing runs or will, say of each job that is left why it never can."""
    state = turn.state
    if state.paused or state.machine.closed is not None or state.live or turn.ask or turn.seen.disk is not None:
        return
    if state.ready.next_due() is not None:
        return
    needs = state.ready.needs()
    if not needs and not state.held:
        return
    if any(need not in turn.impossible for need in needs):
        return
    fresh = {order: seen for order, seen in turn.seen.checked.items() if seen.at > state.last_end}
    unsure = [order for order in state.held if order not in fresh]
    if unsure:
        turn.ask.extend(unsure[:ASK_AT_ONCE])
        return
    if any(fresh[order].awaited for order in state.held):
        return  # what comes from another host may let others go on, too
    for need in needs:
        for job in sorted(state.ready.jobs(need), key=lambda job: job.order):
            turn.emit(ev.JobStuck(job.spec.id, turn.impossible[need]))
            turn.spread(job)
    for order, reason in sorted(state.held.items()):
        job = state.jobs[order]
        turn.emit(ev.JobBlocked(job.spec.id, None, f"precondition does not hold: {reason}"))
        turn.spread(job)
