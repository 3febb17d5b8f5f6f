"""What is concluded about attempts that one task of Slurm runs in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.boundary import Evidence, Revoked
from queue_manager.core.manifest import JobSpec
from queue_manager.core.model import Attempt
from queue_manager.slurm import commands, stopping, wrapper
from queue_manager.slurm import watch as watching
from queue_manager.slurm.batches import Task
from tests.contracts.test_slurm_watch import SENT, Desk, listed


class Bundle(Desk):
    """The attempts of two jobs, which one task runs in turn."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root)
        self.signalled: list[tuple[Any, list[tuple[str, int]]]] = []
        monkeypatch.setattr(self.cluster, "tell", lambda make, tasks: self.signalled.append((make, list(tasks))))
        monkeypatch.setattr(self.cluster, "look", lambda: None)
        self.batch = self.store.make([[Task("one", 1, "tag"), Task("two", 1, "tag")]], self.now)
        self.other = self.run_dir.prepare_attempt("two", 1, "true", {})
        spec = JobSpec("two", "true", "main")
        self.watch.follow(
            1, spec, Attempt(ev.AttemptStarting("two", 1, 2, "wq.two", watching.BOOT), self.now), str(root)
        )
        self.watch.sent(self.batch)
        self.answer(SENT)
        self.claim()
        self.beat(ago=1.0)
        self.now = self.files.claim.stat().st_mtime + 1.0
        self.lists(listed("RUNNING"))

    @property
    def task(self) -> tuple[str, int]:
        return (self.batch.name, 0)

    def sees_both(self, after: float = 0.0) -> tuple[Evidence, Evidence]:
        self.now += after
        found = self.watch.observe([0, 1], self.now)
        return found[0], found[1]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    return Bundle(tmp_path / "run", monkeypatch)


def test_what_stands_behind_another_waits_for_its_turn(bundle: Bundle) -> None:
    one, two = bundle.sees_both(3600.0)
    assert (one.alive, two.claim, two.queued) == (True, None, "waits for its turn in a task that runs on n1")


def test_what_never_began_in_a_bundle_goes_back_without_cost(bundle: Bundle) -> None:
    assert bundle.sees_both()[1].queued is not None
    bundle.end(0)
    bundle.lists(listed("NODE_FAIL"))
    assert bundle.sees_both()[1].launch_error is None
    two = bundle.sees_both(watching.SETTLES + 1.0)[1]
    assert two.launch_error is not None
    assert two.inherited, "it is no failure to launch"
    bundle.run_dir.revoke("two", 1, {})
    two = bundle.sees_both()[1]
    assert (two.claim, two.inherited) == (Revoked(), True)


def test_a_bundle_of_which_nothing_began_failed_to_start(bundle: Bundle) -> None:
    bundle.files.claim.unlink()
    bundle.lists(listed("FAILED", "JobLaunchFailure"))
    bundle.sees_both()
    assert not any(one.inherited or one.launch_error is None for one in bundle.sees_both(watching.SETTLES + 1.0))


def test_one_of_a_bundle_is_ended_alone_and_its_task_once_it_does_not_hear(bundle: Bundle) -> None:
    bundle.sees_both()
    for kill, word in ((False, "TERM\n"), (True, "KILL\n")):
        bundle.watch.stop(0, kill)
        assert (bundle.files.root / "stop").read_text() == word
    bundle.now += stopping.SILENT * wrapper.BEAT + 1.0
    bundle.watch.stop(0, True)
    assert bundle.signalled == [*[(commands.ask_to_read, [bundle.task])] * 2, (commands.end, [bundle.task])]


def test_a_task_is_taken_out_of_the_queue_with_the_last_of_its_attempts(bundle: Bundle) -> None:
    bundle.watch.close_unclaimed(1)
    assert bundle.signalled == [], "the other one goes on"
    bundle.watch.close_unclaimed(0)
    assert bundle.signalled == [(commands.end, [bundle.task])]


def test_what_a_signal_ended_in_a_task_that_goes_on_was_not_ended_by_slurm(bundle: Bundle) -> None:
    bundle.sees_both()
    bundle.end(143)
    bundle.now = bundle.files.exit.stat().st_mtime + 1.0
    bundle.lists(listed("RUNNING"))
    assert bundle.sees_both()[0].alive is True, "Slurm may still be about to end it all"
    bundle.now += watching.SETTLES + 1.0
    bundle.lists(listed("RUNNING"))
    one = bundle.sees_both()[0]
    assert (one.alive, one.inherited) == (False, False)
    assert one.exit is not None


def test_one_whose_script_was_killed_is_gone_although_its_task_goes_on(bundle: Bundle) -> None:
    assert bundle.sees_both()[0].alive is True
    bundle.beat(ago=stopping.SILENT * wrapper.BEAT + 1.0)
    one = bundle.sees_both()[0]
    assert (one.alive, one.inherited) == (False, False)
    assert one.ended is not None


def test_a_task_of_several_attempts_is_held_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle.files.claim.unlink()
    bundle.lists(listed("PENDING"))
    monkeypatch.setattr(bundle.watch, "_is_paused", lambda: True)
    bundle.watch.over()
    assert (commands.hold, [bundle.task]) in bundle.signalled
