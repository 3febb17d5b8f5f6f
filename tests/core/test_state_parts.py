"""The parts of a state, on bare states: what a few events make of cards, machine and numbers."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.events import Event, Proc, Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.model import Bound, InvalidTransition, QueueState, Settling, Teardown
from queue_manager.core.status import Status
from tests.core.states import check_indexes, manifest, spec

PROC = Proc(1, 1)


def after(*events: Event) -> QueueState:
    """A bare state of three jobs after some events, one a second."""
    state = QueueState(manifest(spec("a"), spec("b", gpu_mem_mib=4000), spec("c", gpus=0)))
    for seq, event in enumerate(events, 1):
        state.apply(Record(seq, float(seq), event))
    check_indexes(state)
    return state


def starts(job: str, *cards: str, n: int = 1, wave: int = 1, mib: int | None = None) -> Event:
    return ev.AttemptStarting(job, n, wave, f"wq.{job}.{n}", "boot", cards, tuple(range(len(cards))), mib)


def ends(job: str, status: str = "completed", failure: str | None = None, **fields: Any) -> Event:
    return ev.AttemptEnded(job, fields.pop("n", 1), status, failure, **fields)


def submits(job: str) -> Event:
    return ev.AttemptStarting(job, 1, 1, f"wq.{job}.1", SLURM)


FAILED = (starts("a", "G0"), ends("a", "stuck", "exit_code"))
RUNS_ONE = {Status.RUNNING: 1, Status.PENDING: 2}
UNLAUNCHED = (starts("a", "G0"), ends("a", "pending", "not_launched", charged=False))


@pytest.mark.parametrize(
    ("events", "what", "value"),
    [
        ((), "cards.holders", {}),
        ((starts("a", "G0", "G1", wave=3),), "cards.wave_cards", ("G0", "G1")),
        ((starts("a", "G0", wave=3), starts("b", "G1", wave=3)), "cards.wave_cards", ("G0", "G1")),
        ((starts("a", "G0"), starts("b", "G1", wave=2)), "cards.wave_cards", ("G1",)),
        ((starts("a", "G0"), ends("a", used_mib=(700,))), "cards.settling", {"G0": Settling(2.0, 700)}),
        ((starts("a", "G0"), ends("a"), starts("b", "G0")), "cards.settling", {}),
        (FAILED, "cards.failures", {"G0": ("a",)}),
        ((*FAILED, starts("b", "G0"), ends("b")), "cards.failures", {}),
        ((*FAILED, starts("b", "G0"), ends("b")), "cards.served", {"G0"}),
        ((starts("a", "G0"), ends("a", "failed_oom", "oom", due=9.0)), "cards.failures", {}),
        ((*FAILED, ev.CardQuarantined("G0", "bad")), "cards.quarantined", {"G0": "bad"}),
        ((*FAILED, ev.CardQuarantined("G0", "bad")), "cards.failures", {}),
        ((ev.CardQuarantined("G0", "bad"), ev.Resumed()), "cards.quarantined", {}),
        (UNLAUNCHED, "machine.launch_failures", 1),
        (UNLAUNCHED, "machine.launch_retry_at", 3.0),
        ((*UNLAUNCHED, starts("a", "G0", n=2), ev.AttemptStarted("a", 2, PROC, PROC)), "machine.launch_retry_at", None),
        ((ev.ConditionBegan("disk", "a"), ev.ConditionBegan("disk", "b")), "machine.conditions", {"disk": ("b", 1.0)}),
        ((ev.ConditionBegan("disk", "a"), ev.ConditionEnded("disk")), "machine.conditions", {}),
        ((ev.BoundReached("deadline", "late"),), "machine.bound", Bound("deadline", "late", 1.0)),
        ((ev.BoundReached("deadline", "late"), ev.Resumed()), "machine.lifted", {"deadline"}),
        ((ev.BoundReached("deadline", "late"), ev.Resumed()), "machine.closed", None),
        ((ev.TeardownStarting("stop", 7, "done"),), "machine.teardown", Teardown("stop", 7, "done", 1.0)),
        ((ev.TeardownStarting("stop", 7, "done"), starts("a", "G0")), "machine.teardown", None),
        ((ev.TeardownStarting("stop", 7, "done"), ev.ManagerStarted("h", 1, "boot")), "machine.teardown", None),
        ((ev.ManagerStarted("h", 1, "b", 5.0), ev.ManagerStarted("h", 2, "c", 7.0)), "machine.away", 12.0),
        ((starts("a", "G0"), ends("a")), "tallies.counts", {Status.COMPLETED: 1, Status.PENDING: 2}),
        ((starts("a", "G0"),), "tallies.card_jobs", 1),
        ((starts("c"),), "tallies.queued", 0),
        ((submits("a"), submits("c")), "tallies.shown", {Status.PENDING: 3}),
        ((submits("a"), ev.AttemptStarted("a", 1, PROC, PROC)), "tallies.shown", RUNS_ONE),
        ((submits("a"), submits("c"), ends("a", "pending", charged=False)), "tallies.queued", 1),
        ((submits("c"), ends("c", "cancelled")), "tallies.shown", {Status.PENDING: 2, Status.CANCELLED: 1}),
        ((starts("a", "G0"), ends("a", "failed_oom", "oom", due=9.0)), "tallies.card_jobs", 2),
    ],
)
def test_what_events_make_of_a_part_of_the_state(events: tuple[Event, ...], what: str, value: Any) -> None:
    assert attrgetter(what)(after(*events)) == value


def test_a_card_is_given_to_one_job_or_shared_by_promises() -> None:
    shared = starts("a", "G0", mib=100), starts("b", "G0", mib=4000)
    assert [one.job for one in after(*shared).cards.holders["G0"]] == ["a", "b"]
    for events in ((starts("a", "G0"), shared[1]), (shared[0], starts("b", "G0"))):
        with pytest.raises(InvalidTransition, match="'b' cannot start: GPU G0 is held by 'a'"):
            after(*events)


def test_the_code_that_jobs_ran_is_counted_by_phase() -> None:
    state = after(ev.CodeSeen("v1"), starts("a", "G0"), starts("c"), ev.CodeSeen("v2", 2.5))
    assert state.tallies.phases["main"].codes == {"v1": 1, "v2": 1}
    assert state.tallies.phases["main"].started == 2.0
