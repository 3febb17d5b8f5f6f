"""What each class of evidence about a live attempt leads to, on bare states."""

from __future__ import annotations

import pytest

from queue_manager.core import attempt_progress
from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.attempt_progress import BIRTH_GRACE, LAUNCH_GRACE, EvidenceClass, classify
from queue_manager.core.events import Event, Proc, Record
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Unreadable
from queue_manager.core.turn import Turn
from tests.core.states import manifest, spec

BOOT, WRAPPER, SCREEN, PROC = "boot", Proc(7, 70), Proc(6, 60), Proc(8, 80)
CLAIM = b.Claim(WRAPPER, SCREEN, 1)
SHUT = Unreadable("cut off")
RAN = b.Evidence(CLAIM, exit=b.ExitRecord(0, 2), ended=b.Ended(None))
STARTING = ev.AttemptStarting("a", 1, 1, "wq.run.a.1", BOOT)
STARTED = ev.AttemptStarted("a", 1, WRAPPER, SCREEN, PROC)
CANCEL = ev.AttemptStopping("a", 1, "cancelled")


def follow(happened: list[Event], seen: b.Evidence, now: float, boot: str = BOOT) -> tuple[list[Event], list[b.Action]]:
    """What is made of the evidence at `now`, when these events happened at 0."""
    state = QueueState(manifest(spec("a", timeout=50.0)))
    for seq, event in enumerate(happened, 1):
        state.apply(Record(seq, 0.0, event))
    turn = Turn(state, b.Seen(boot, 4), now)
    attempt_progress.follow(turn, state.jobs[0], state.live[0], seen)
    return [record.event for record in turn.records], turn.actions


@pytest.mark.parametrize(
    ("seen", "boot", "kind"),
    [
        (b.Evidence(None), "next", EvidenceClass.CUT_OFF),
        (b.Evidence(SHUT, SHUT), "next", EvidenceClass.CUT_OFF),
        (RAN, "next", EvidenceClass.GONE),
        (b.Evidence(SHUT), BOOT, EvidenceClass.UNKNOWN),
        (b.Evidence(b.Revoked()), BOOT, EvidenceClass.REVOKED),
        (b.Evidence(None), BOOT, EvidenceClass.UNCLAIMED),
        (b.Evidence(CLAIM, SHUT), BOOT, EvidenceClass.BEGUN),
        (b.Evidence(CLAIM, True), BOOT, EvidenceClass.RUNNING),
        (RAN, BOOT, EvidenceClass.GONE),
    ],
)
def test_evidence_is_of_one_class(seen: b.Evidence, boot: str, kind: EvidenceClass) -> None:
    state = QueueState(manifest(spec("a")))
    state.apply(Record(1, 0.0, STARTING))
    assert classify(state.live[0], seen, boot) is kind


@pytest.mark.parametrize(
    ("happened", "seen", "now", "events", "actions"),
    [
        ([], b.Evidence(SHUT, leader=True, gone_for=9.0), 1e6, [], []),
        ([], b.Evidence(None), LAUNCH_GRACE, [], []),
        ([], b.Evidence(None), LAUNCH_GRACE + 1, [], [b.Revoke(0)]),
        ([], b.Evidence(None, launch_error="no screen"), 1.0, [], [b.Revoke(0)]),
        ([CANCEL], b.Evidence(None), 1.0, [], [b.Revoke(0)]),
        ([], b.Evidence(CLAIM, True, True), BIRTH_GRACE - 1, [], []),
        ([], b.Evidence(CLAIM, True, True, proc=PROC), 1.0, [STARTED], []),
        ([CANCEL], b.Evidence(CLAIM, True, True, proc=PROC), 1.0, [STARTED], [b.Stop(0, kill=False)]),
        ([STARTED], b.Evidence(CLAIM, SHUT, True, gone_for=9.0), 1e6, [], []),
        ([STARTED], b.Evidence(CLAIM, True, True), 49.0, [], []),
        ([STARTED], b.Evidence(CLAIM, True, True), 50.0, [ev.AttemptStopping("a", 1, "timeout")], [b.Stop(0, False)]),
        ([STARTED, CANCEL], b.Evidence(CLAIM, True, True), 1e6, [], [b.Stop(0, kill=True)]),
        ([STARTED], b.Evidence(CLAIM, leader=True, gone_for=1.0), 1.0, [], []),
        ([STARTED], b.Evidence(CLAIM, leader=True, gone_for=2.0), 2.0, [], [b.QuitSession(0)]),
        ([STARTED], b.Evidence(CLAIM, leftovers=SHUT, gone_for=9.0), 9.0, [], []),
        ([STARTED], RAN, 9.0, [ev.AttemptEnded("a", 1, "completed", exit_code=0)], []),
    ],
)
def test_what_is_seen_of_an_attempt_gives_these_events_and_actions(
    happened: list[Event], seen: b.Evidence, now: float, events: list[Event], actions: list[b.Action]
) -> None:
    assert follow([STARTING, *happened], seen, now) == (events, actions)


@pytest.mark.parametrize(
    ("happened", "seen", "status", "failure"),
    [
        ([], b.Evidence(b.Revoked()), "pending", "not_launched"),
        ([], b.Evidence(b.Revoked(), inherited=True), "pending", "interrupted"),
        ([CANCEL], b.Evidence(b.Revoked()), "cancelled", None),
    ],
)
def test_an_attempt_that_was_taken_back_ends(
    happened: list[Event], seen: b.Evidence, status: str, failure: str | None
) -> None:
    (ended,), actions = follow([STARTING, *happened], seen, 1.0)
    assert isinstance(ended, ev.AttemptEnded)
    assert (ended.status, ended.failure, actions) == (status, failure, [])


def test_a_new_life_of_the_host_ends_what_ran_and_takes_back_what_had_not_begun() -> None:
    assert follow([STARTING], b.Evidence(None), 1.0, "next") == ([], [b.Revoke(0)])
    (ended,), _ = follow([STARTING, STARTED], b.Evidence(CLAIM, SHUT), 1.0, "next")
    assert isinstance(ended, ev.AttemptEnded)
    assert (ended.status, ended.failure, ended.charged) == ("pending", "interrupted", False)
