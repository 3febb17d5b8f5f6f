"""What becomes of what a command left running: the rule as a table, and step by step on bare states."""

from __future__ import annotations

import pytest

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core import leftovers
from queue_manager.core.events import Event, Proc, Record, Work
from queue_manager.core.leftovers import END, FAIL, WAIT
from queue_manager.core.model import QueueState
from queue_manager.core.turn import Turn
from tests.core.states import manifest, spec

TRAIN, SLEEP, AGENT = ("train",), ("sleep",), ("ssh-agent",)
CLAIM = b.Claim(Proc(7, 70), Proc(6, 60), 1)
STARTING = ev.AttemptStarting("a", 1, 1, "wq.run.a.1", "boot")
STARTED = ev.AttemptStarted("a", 1, CLAIM.wrapper, CLAIM.leader, Proc(8, 80))


@pytest.mark.parametrize(
    ("expects", "code", "left", "fate", "who"),
    [
        (False, 0, b.Leftovers(TRAIN, SLEEP, AGENT), FAIL, TRAIN),
        (True, 0, b.Leftovers(TRAIN, SLEEP, AGENT), WAIT, TRAIN),
        (True, 0, b.Leftovers(TRAIN, output_there=True), WAIT, TRAIN),
        (False, 0, b.Leftovers((), SLEEP, AGENT), WAIT, SLEEP),
        (True, 0, b.Leftovers((), SLEEP, AGENT), WAIT, SLEEP),
        (True, 0, b.Leftovers((), SLEEP, AGENT, output_there=True), END, (*SLEEP, *AGENT)),
        (False, 0, b.Leftovers((), (), AGENT), END, AGENT),
        (True, 0, b.Leftovers((), (), AGENT), END, AGENT),
        (True, 1, b.Leftovers(TRAIN, SLEEP), END, (*TRAIN, *SLEEP)),
        (False, None, b.Leftovers(TRAIN), END, TRAIN),
    ],
)
def test_the_rule(expects: bool, code: int | None, left: b.Leftovers, fate: str, who: tuple[str, ...]) -> None:
    assert leftovers.decide(expects, code, left) == (fate, leftovers.words(who))


def found(fate: str, who: tuple[str, ...], more: str = "") -> ev.LeftoversFound:
    return ev.LeftoversFound("a", 1, fate, leftovers.words(who) + more)


STOPS = ev.AttemptStopping("a", 1, "leftovers")


@pytest.mark.parametrize(
    ("before", "left", "gone_for", "idle", "events"),
    [
        (None, b.Leftovers(TRAIN), 1.0, 0.0, []),
        (None, None, 5.0, 0.0, []),
        (None, None, 6.0, 0.0, [STOPS]),
        (None, b.Leftovers((), SLEEP), 3.0, 0.0, [found(WAIT, SLEEP)]),
        (None, b.Leftovers((), (), AGENT), 3.0, 0.0, [found(END, AGENT), STOPS]),
        (WAIT, b.Leftovers((), SLEEP), 599.0, 599.0, []),
        (WAIT, b.Leftovers(TRAIN), 9.0, 0.0, [found(FAIL, TRAIN)]),
        (WAIT, b.Leftovers((), (), AGENT), 9.0, 5.0, [found(END, AGENT), STOPS]),
        (WAIT, b.Leftovers((), SLEEP), 600.0, 600.0, [found(END, SLEEP, ", idle for 10 min"), STOPS]),
        (FAIL, b.Leftovers((), SLEEP), 600.0, 599.0, []),
        (FAIL, b.Leftovers((), (), AGENT), 600.0, 5.0, [STOPS]),
        (FAIL, b.Leftovers((), SLEEP), 600.0, 600.0, [STOPS]),
    ],
)
def test_each_look_goes_on_from_the_one_before(
    before: str | None, left: b.Leftovers | None, gone_for: float, idle: float, events: list[Event]
) -> None:
    state = QueueState(manifest(spec("a")))
    past: list[Event] = [STARTING, STARTED, *([] if before is None else [found(before, SLEEP)])]
    since = Work(gone_for - idle, 1.0, 2, 0, 0) if idle else None
    past += [] if since is None else [ev.AttemptIdle("a", 1, since)]
    for seq, event in enumerate(past, 1):
        state.apply(Record(seq, 0.0, event))
    turn = Turn(state, b.Seen("boot", 4), gone_for)
    seen = b.Evidence(CLAIM, leftovers=1, gone_for=gone_for, exit=b.ExitRecord(0, 2), idle=since, left=left)
    leftovers.follow(turn, state.jobs[0], state.live[0], seen)
    assert [record.event for record in turn.records] == events
