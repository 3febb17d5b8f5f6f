"""Decide whether a rented machine is kept, stopped or destroyed, by its own manager and without a person. Pure.

Running jobs are never interrupted for it. Jobs that are left, or need a person, stop the machine and keep its disk.
Where no job is left and the results were pulled, it is destroyed, if the run says so. Otherwise the results come first;
where they are not pulled in time, the machine is stopped, with them on its disk. Nothing is destroyed that is not safe
elsewhere, and no instance but the one that this machine identifies itself as.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Union

from queue_manager.core import events as ev
from queue_manager.core.machine import MachineReading
from queue_manager.core.manifest import Manifest, moment
from queue_manager.core.model import QueueState
from queue_manager.core.status import Status
from queue_manager.core.times import iso
from queue_manager.core.turn import Turn

WAIT = 3600.0
"""Seconds to wait for a pull of the results, where `idle_after` does not say; then the machine is stopped."""
GRACE = 300.0
"""Seconds that running jobs get to finish when a limit is reached; their cost is part of the limit."""
PUSH = 600.0
"""Seconds for which `results_to` is tried after a limit was reached."""
DAY = 86400.0


@dataclass(frozen=True)
class Keep:
    """Keep the machine."""

    reason: str


@dataclass(frozen=True)
class SyncFirst:
    """End it once its results were pulled."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """Stop it: the GPUs are no longer billed, the disk is."""

    reason: str


@dataclass(frozen=True)
class Destroy:
    """Destroy it, with everything on it."""

    reason: str


Decision = Union[Keep, SyncFirst, Stop, Destroy]


def plan_of(decision: Decision | None) -> str | None:
    """Return the journal's name for an end of the machine; None for other decisions."""
    return "stop" if isinstance(decision, Stop) else "destroy" if isinstance(decision, Destroy) else None


class Facts(NamedTuple):
    """The facts for the decision. `live`: jobs, or `on_complete`, are running. `idle_since`: when the last of them
    ended, or a person last made a request. `person`: jobs that are stuck or blocked. `bound`: the limit that was
    reached, in words, and `bound_at` when; `booted_at`: when the machine booted. `busy`, `left`, `unsafe`: other runs
    on the machine. Times in epoch seconds."""

    when_done: str = "keep"
    idle_after: float | None = None
    results_to: bool = False
    finished: float | None = None
    live: bool = False
    idle_since: float = 0.0
    person: int = 0
    bound: str | None = None
    bound_at: float = 0.0
    booted_at: float = 0.0
    results_pulled: bool = False
    busy: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    unsafe: tuple[str, ...] = ()

    @property
    def safe(self) -> bool:
        """Whether nothing would be lost with the machine's disk."""
        return self.results_pulled and not self.unsafe


def decide(facts: Facts, now: float) -> Decision:
    """Decide about the machine now."""
    if facts.live:
        return Keep("its jobs are running")
    due = _due(facts, now)
    if due is None:
        return Keep("nothing requires it to be shut down yet")
    why, at = due
    if facts.busy:
        return Keep(f"run {facts.busy[0]} is active on this machine")
    if facts.bound is not None and facts.booted_at > facts.bound_at and now - facts.booted_at < _wait(facts):
        return Keep("the machine was started again: there is time to pull results or to resume the run")
    late = now - at >= _patience(facts)
    if facts.finished is None:
        if facts.results_to and not facts.results_pulled and not late:
            return SyncFirst(f"{why}; results_to has not copied the results away yet")
        return Stop(f"{why}; jobs are left, which can continue when it is started again")
    if not facts.safe:
        return Stop(f"{why}; {unsafe(facts)}") if late else SyncFirst(f"{why}; {unsafe(facts)}")
    work = _work(facts)
    if work is not None:
        return Stop(f"{why}; {work}")
    wanted = facts.when_done == "destroy" or (facts.idle_after is not None and now - facts.idle_since > DAY)
    return (Destroy if wanted else Stop)(f"{why}; all results have been pulled")


def unsafe(facts: Facts) -> str:
    """Say which results have not been pulled."""
    if not facts.results_pulled:
        return "its results have not been pulled yet: wavequeue pull"
    return f"the results of run {facts.unsafe[0]}, which also ran here, have not been pulled yet: wavequeue pull"


def _work(facts: Facts) -> str | None:
    """Say what the machine of a finished run may still be needed for; None for nothing."""
    if facts.left:
        return f"run {facts.left[0]}, which is also on this machine, has jobs left"
    if facts.person:
        return f"{facts.person} job{' needs' if facts.person == 1 else 's need'} a person"
    return None


def _due(facts: Facts, now: float) -> tuple[str, float] | None:
    """Say why the machine should end, and since when; None if nothing requires it."""
    if facts.bound is not None:
        return facts.bound, max(facts.bound_at, facts.idle_since)
    if facts.finished is not None and facts.when_done != "keep":
        return "the run has finished", max(facts.finished, facts.idle_since)
    if facts.idle_after is not None and now - facts.idle_since >= facts.idle_after:
        return f"no job ran for {_span(facts.idle_after)}", facts.idle_since + facts.idle_after
    return None


def _patience(facts: Facts) -> float:
    """Return the seconds from then on in which the results may be pulled before the machine is stopped without that."""
    if facts.bound is not None:
        return PUSH if facts.results_to else 0.0
    push = WAIT if facts.results_to else 0.0
    if facts.finished is None or facts.when_done == "keep":
        return push
    return max(push, _wait(facts))


def _wait(facts: Facts) -> float:
    return WAIT if facts.idle_after is None else facts.idle_after


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


# -- one turn ---------------------------------------------------------------------------------------------------------


def guarded(manifest: Manifest) -> bool:
    """Return whether the run says anything about the end of its machine."""
    bounds = (manifest.idle_after, manifest.max_cost, manifest.deadline)
    return manifest.when_done != "keep" or any(bound is not None for bound in bounds)


def facts_of(state: QueueState, reading: MachineReading) -> Facts:
    """Return the facts from a run's state and the reading of its machine."""
    manifest, others = state.manifest, reading.others or ()
    return Facts(
        when_done=manifest.when_done,
        idle_after=manifest.idle_after,
        results_to=manifest.results_to is not None,
        finished=state.finished,
        live=bool(state.live) or reading.doing == "on_complete" or reading.others is None,
        idle_since=state.idle_since,
        person=sum(state.tallies.counts.get(status, 0) for status in (Status.STUCK, Status.BLOCKED)),
        bound=state.machine.bound.text if state.machine.bound else None,
        bound_at=state.machine.bound.at if state.machine.bound else 0.0,
        booted_at=state.machine.booted_at,
        results_pulled=max(reading.acknowledged, reading.pushed, state.pushed_seq) >= state.results_seq,
        busy=tuple(one.run_id for one in others if one.busy),
        left=tuple(one.run_id for one in others if one.left),
        unsafe=tuple(one.run_id for one in others if not one.safe),
    )


def waits(state: QueueState, reading: MachineReading | None) -> bool:
    """Return whether the manager of a finished run has to stay, because something may still end its machine."""
    manifest = state.manifest
    if not guarded(manifest) or (state.machine.teardown is not None and state.machine.teardown.done):
        return False
    if reading is None:
        return True
    watched = manifest.max_cost is not None and reading.price is not None and "max_cost" not in state.machine.lifted
    timed = manifest.idle_after is not None or (
        manifest.deadline is not None and "deadline" not in state.machine.lifted
    )
    return reading.rented and (manifest.when_done != "keep" or timed or watched or state.machine.bound is not None)


def deadline_at(state: QueueState) -> float | None:
    """Return the run's deadline, in epoch seconds."""
    deadline = state.manifest.deadline
    if deadline is None or state.started is None:
        return None
    return moment(deadline) if isinstance(deadline, str) else state.started + deadline


def step(turn: Turn) -> Decision | None:
    """Record the reading of the machine, and plan its end. Returns None where there is no reading, or its end is
    confirmed."""
    state, reading = turn.state, turn.seen.machine
    if reading is None:
        return None
    _record_reading(turn, reading)
    _reach_bounds(turn, reading)
    if state.machine.teardown is not None and state.machine.teardown.done:
        return None
    facts = facts_of(state, reading)
    decision = decide(facts, turn.now)
    plan = plan_of(decision)
    going = state.machine.teardown
    if going is not None:
        # A decision is kept unless a fact makes it wrong or allows the next step.
        off = f"run {facts.busy[0]} is active on this machine" if facts.busy else None
        if going.plan == "destroy" and not facts.safe:
            off = unsafe(facts)
        own = reading.own()
        if isinstance(own, str) or own != going.instance:
            off = own if isinstance(own, str) else f"this machine is instance {own}"
        if off is not None:
            turn.emit(ev.TeardownCalledOff(off))
            going = None
    if plan is not None and (going is None or (plan == "destroy" and going.plan == "stop")):
        own = reading.own()
        if isinstance(own, int):
            cost = None if reading.price is None else reading.price.cost(turn.now, state.machine.away)
            turn.emit(ev.TeardownStarting(plan, own, decision.reason, None if cost is None else round(cost, 4)))
    return decision


def _record_reading(turn: Turn, reading: MachineReading) -> None:
    state = turn.state
    if reading.completed is not None:
        turn.emit(ev.CompleteRan(reading.completed))
    if reading.pushed > state.pushed_seq:
        turn.emit(ev.ResultsPushed(reading.pushed))
    going = state.machine.teardown
    if going is not None and not going.done and reading.confirmed == going.plan:
        turn.emit(ev.TeardownConfirmed(going.plan, going.instance))


def _reach_bounds(turn: Turn, reading: MachineReading) -> None:
    """Begin to end the run where it has reached a limit, and end its jobs when their grace is over."""
    state, now = turn.state, turn.now
    if state.machine.bound is None:
        cost = None if reading.price is None else reading.price.cost(now + GRACE, state.machine.away)
        bound = state.manifest.max_cost
        if bound is not None and cost is not None and cost >= bound and "max_cost" not in state.machine.lifted:
            turn.emit(
                ev.BoundReached("max_cost", f"the machine has reached its cost limit of {_usd(bound)} (max_cost)")
            )
    if state.machine.bound is None:
        at = deadline_at(state)
        if at is not None and now >= at and "deadline" not in state.machine.lifted:
            turn.emit(ev.BoundReached("deadline", f"the deadline, {iso(at)}, has passed"))
    if state.machine.bound is not None and now - state.machine.bound.at >= GRACE:
        for order, attempt in list(state.live.items()):
            if attempt.stopping is None:
                turn.stop(state.jobs[order], attempt, "bound")


def conditions(turn: Turn, decision: Decision | None) -> dict[str, str]:
    """Return what blocks the end of the machine, or its supervision, by kind."""
    state, reading, manifest = turn.state, turn.seen.machine, turn.state.manifest
    assert reading is not None
    found: dict[str, str] = {}
    if manifest.max_cost is not None and reading.price is None:
        found["price"] = "max_cost cannot be enforced: no instance.json in the run's directory gives the price"
    if reading.push_fault is not None and isinstance(decision, SyncFirst):
        found["results_to"] = f"{reading.push_fault}; trying again"
    own, going = reading.own(), state.machine.teardown
    ends = manifest.when_done != "keep" or manifest.idle_after is not None or (state.machine.bound and reading.rented)
    if going is not None and not going.done and reading.fault is not None:
        word = "stopped" if going.plan == "stop" else "destroyed"
        found["teardown"] = (
            f"instance {going.instance} is not {word} yet and is still billed: {reading.fault}; trying again"
            f"; by hand: wavequeue vast {going.plan} {going.instance}"
        )
    elif isinstance(own, str) and ends:
        word = "be stopped or destroyed by its manager" if reading.rented else "be shut down, as the spec asks"
        found["teardown"] = f"the machine cannot {word}: {own}" + (
            "; shut it down by hand when the run is done" if reading.rented else ""
        )
    return found


# -- in words -----------------------------------------------------------------------------------------------


def row(
    state: QueueState, reading: MachineReading | None, decision: Decision | None, now: float
) -> dict[str, Any] | None:
    """Return what a snapshot's meta says about the end of the machine; None where the run says nothing about it."""
    if not guarded(state.manifest):
        return None
    going, price = state.machine.teardown, None if reading is None else reading.price
    cost = None if price is None else price.cost(now, state.machine.away)
    plan = going.plan if going else plan_of(decision) or ("sync" if isinstance(decision, SyncFirst) else "keep")
    own = None if reading is None else reading.own()
    return {
        "when_done": state.manifest.when_done,
        "plan": plan,
        "reason": going.reason if going else decision.reason if decision else None,
        "waits_for": decision.reason if isinstance(decision, SyncFirst) and going is None else None,
        "since": iso(going.at) if going else None,
        "confirmed": bool(going and going.done),
        "instance_id": own if isinstance(own, int) else None,
        "cost_usd": None if cost is None else round(cost, 4),
        "usd_per_hour": None if price is None else price.dph,
        "usd_per_day_stopped": None if price is None else round(price.storage_dph * 24, 4),
        "bound": state.machine.bound.text if state.machine.bound else None,
    }


def note(state: QueueState, reading: MachineReading) -> str:
    """Return teardown.md: what the manager is about to do to the machine. It is written before, since nothing can be
    written there afterwards."""
    going = state.machine.teardown
    assert going is not None
    word = "stops" if going.plan == "stop" else "destroys"
    price = reading.price
    cost = None if price is None else price.cost(going.at, state.machine.away)
    lines = [
        f"# Teardown of instance {going.instance}",
        "",
        f"The queue manager of run {state.run_id} {word} this machine automatically ({iso(going.at)}).",
        "",
        f"- Why: {going.reason}.",
        "- Cost so far: " + (f"about {_usd(cost)}." if cost is not None else "unknown."),
        "- Jobs: "
        + ", ".join(f"{count} {status.value}" for status, count in sorted(state.tallies.shown.items()))
        + ".",
    ]
    if going.plan == "stop":
        lines += [
            f"- {still_billed(price)}",
            f"- To continue: `wavequeue vast start {going.instance}`. Its jobs lose no attempt by this.",
            f"- To delete it, with everything on it: `wavequeue vast destroy {going.instance}`.",
        ]
    else:
        lines.append("- Billing ends once it is destroyed; its disk is deleted with it.")
    return "\n".join(lines) + "\n"


def still_billed(price: Any) -> str:
    """Say what a stopped machine still costs."""
    if price is None or not price.storage_dph:
        return "Its disk is billed until it is destroyed."
    return f"Its disk is billed until it is destroyed: {_usd(price.storage_dph * 24)} a day."


def _usd(amount: float) -> str:
    return f"${amount:.2f}"
