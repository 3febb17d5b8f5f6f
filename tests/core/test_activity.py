"""What running attempts do, and which of them wait for an answer on their terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queue_manager.core import activity
from queue_manager.core import events as ev
from queue_manager.core.boundary import Doing, Seen
from queue_manager.core.snapshot import job_row
from queue_manager.core.tick import tick
from tests.core.states import FOREVER, spec, turns, until, world
from tests.core.test_published import situation
from tests.fakes import START, FakeHost, FakeManager, with_plans

CHOICE = "is waiting for input on its terminal: 'wandb: Enter your choice:'"
ASKING = Doing(START, START - 60, 0.0, True, "wandb: Enter your choice:", True)


@pytest.mark.parametrize(
    ("doing", "words"),
    [
        (ASKING, CHOICE),
        (replace(ASKING, reads=None), CHOICE.replace("is waiting", "seems to be waiting")),
        (replace(ASKING, reads=False), None),
        (replace(ASKING, cpu=None), None),
        (replace(ASKING, cpu=0.04), CHOICE),
        (replace(ASKING, cpu=0.9), None),
        (replace(ASKING, reads=None, cpu=0.04), None),
        (replace(ASKING, line="Continue?", is_open=False), "is waiting for input on its terminal: 'Continue?'"),
        (replace(ASKING, reads=None, line="Continue?", is_open=False), None),
        (replace(ASKING, line=""), "is waiting for input on its terminal"),
        (replace(ASKING, reads=None, line=""), None),
        (replace(ASKING, line="x" * 500), f"is waiting for input on its terminal: '{'x' * 79}…'"),
        (replace(ASKING, line="a\x1b[2Jb?"), "is waiting for input on its terminal: 'a\\\\x1b[2Jb?'"),
    ],
)
def test_what_waits_for_an_answer(doing: Doing, words: str | None) -> None:
    assert activity.question(doing) == words


@pytest.mark.parametrize(
    ("line", "asks"),
    [
        ("Enter your choice:", True),
        ("(Pdb)", True),
        ("ipdb>", True),
        ("(gdb)", True),
        (">>>", True),
        ("In [1]:", True),
        ("Overwrite? [y/N]", True),
        ("Are you sure (yes/no/[fingerprint])?", True),
        ("Password for 'https://me@github.com':", True),
        ("Enter passphrase for key '/home/me/.ssh/id_ed25519' (empty for no passphrase)", True),
        ("Press any key to continue . . .", True),
        ("--More--", True),
        ("Proceed ([y]/n)?", True),
        ("Epoch 3:  45%|####5     | 45/100 [00:12<00:15,  3.6it/s]", False),
        ("loss 0.123", False),
        ("Loading checkpoint shards...", False),
        ("Downloading model.safetensors (4.2 GB)", False),
        ("", False),
    ],
)
def test_words_are_a_question_only_where_nothing_else_says_so(line: str, asks: bool) -> None:
    guess = Doing(START, START - 60, 0.0, None, line, True)
    assert (activity.question(guess) is not None) is asks
    assert activity.may_wait(replace(guess, cpu=None)) is asks


@pytest.mark.parametrize(
    ("log", "words", "is_open"),
    [
        ("a\r\nEnter your choice: ", "Enter your choice:", True),
        ("a\r\nContinue?\r\n", "Continue?", False),
        ("a\n 10%|#  |\r 20%|## |", "20%|## |", True),
        ("\x1b[1m\x1b[32mName\x1b[0m: \x1b[K", "Name:", True),
        ("a\n   \r\n\n", "a", False),
        ("", "", False),
    ],
)
def test_the_last_words_of_a_log(log: str, words: str, is_open: bool) -> None:
    assert activity.last_words(log) == (words, is_open)


def _running() -> tuple[FakeHost, FakeManager]:
    host, manager = world(spec("a"), spec("b"))
    host.plan_of = with_plans({}, FOREVER)
    until(host, manager, "a", "running")
    turns(host, manager, 3)
    return host, manager


def _conditions(manager: FakeManager, now: float, **seen: object) -> list[ev.Event]:
    """The events about conditions of a turn in which nothing but `seen` was looked at."""
    records = tick(manager.state, Seen(manager.host.boot, 4, **seen), now).records  # type: ignore[arg-type]
    return [record.event for record in records]


def test_a_job_that_waits_for_an_answer_is_a_condition_until_it_does_not() -> None:
    host, manager = _running()
    text = f"job a {CHOICE}; answer it: wavequeue attach a; or end it: wavequeue cancel a"
    doing = {0: ASKING, 1: Doing(START)}
    assert _conditions(manager, host.now, doing=doing) == [ev.ConditionBegan("prompt:a", text)]
    assert _conditions(manager, host.now, doing=doing) == []
    assert _conditions(manager, host.now) == []  # nobody looked
    assert _conditions(manager, host.now, doing={0: replace(ASKING, cpu=1.0)}) == [ev.ConditionEnded("prompt:a")]


def test_the_condition_ends_with_the_attempt_though_nobody_looks() -> None:
    host, manager = _running()
    _conditions(manager, host.now, doing={0: ASKING})
    host.finish(next(attempt for attempt in host.running() if attempt.job == "a"))
    for _ in range(20):
        manager.turn()
        host.advance(1.0)
        if "prompt:a" not in manager.state.machine.conditions:
            break
    assert manager.state.job("a").attempt is None
    assert manager.state.machine.conditions == {}


def test_what_a_job_does_stands_in_its_row_while_it_runs() -> None:
    _, manager = _running()
    job = manager.state.job("a")
    doing = Doing(START, START - 12 * 60, 0.004)
    shown = situation(manager)._replace(doing={0: doing})
    row = job_row(manager.state, job, shown)
    assert (row["last_output"], row["silent_s"]) == ("2025-12-31T23:48:00.000Z", 720.0)
    assert (row["cpu"], row["asks"]) == (0.4, None)
    row = job_row(manager.state, job, situation(manager))
    assert [row[name] for name in ("last_output", "silent_s", "cpu", "asks")] == [None] * 4
    row = job_row(manager.state, job, shown._replace(doing={0: ASKING}))
    assert row["asks"] == CHOICE
