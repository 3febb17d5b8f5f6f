"""Waiting for a run: until it ends, until something new goes wrong, or for a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skill.cli import main
from skill.common.errors import DONE, FAILED, PERSON, PROBLEM, TIMEOUT
from skill.operations import wait_run
from skill.operations.wait_run import ENDED
from skill.runs import digest
from skill.runs.digest import Digest, Row
from skill.runs.directory import Document, Run
from tests.skill.story import Story, job, manifest

Step = Callable[[], object]


class FollowedRun:
    """A followed run of which a step is told at each look. `clock`: one second for each look."""

    busy = False

    def __init__(self, story: Story, *steps: Step) -> None:
        self.run = Run.at(Path("/runs/x"))
        self._story, self._steps = story, list(steps)
        self.now, self.alive, self.manager = 0.0, True, "running"
        self.document: Document = story.document()
        self.digest: Digest = digest.digest(self.document)
        self.flags: list[dict[str, Any]] = []
        self.conditions: list[dict[str, Any]] = []

    @property
    def over(self) -> bool:
        return self.manager != "running" or not self.alive

    def look(self, *, at_once: bool = False) -> bool:
        if not at_once and self._steps:
            self._steps.pop(0)()
        self.now += 1.0
        self.document = self._story.document(self.manager)
        self.document["meta"]["conditions"] = list(self.conditions)
        for row in self.document["jobs"]:
            if row["status"] == "running":
                row["health"] = {"flags": self.flags}
        return True

    def tail(self, row: Row) -> str:
        return str(row["id"])

    def close(self) -> None:
        pass

    def end(self) -> None:
        self.manager = "finished"

    def wait(self, timeout: float | None = None) -> wait_run.Waited:
        return wait_run.wait(self, timeout, lambda: self.now, lambda _seconds: None)


def story() -> Story:
    return Story(manifest(job("a"), job("b"), job("c")))


def test_it_waits_for_the_end() -> None:
    made = story()
    followed = FollowedRun(made, lambda: made.complete("a"), lambda: made.complete("b", "c"))
    followed._steps.append(followed.end)
    assert followed.wait().why == ENDED


def test_it_returns_when_a_job_is_stuck_that_was_not_before() -> None:
    made = story().start("a").end("a", "stuck", error="boom")
    followed = FollowedRun(made, lambda: made.complete("b"), lambda: made.start("c").end("c", "stuck", error="bang"))
    found = followed.wait(100)
    assert found.why == wait_run.PROBLEM
    assert found.new == ("c is stuck: bang",)
    assert found.problems == ("a is stuck: boom", "c is stuck: bang")


def test_it_returns_when_a_running_job_gets_a_flag() -> None:
    followed = FollowedRun(story().start("a"), lambda: None)
    followed._steps.append(
        lambda: followed.flags.append({"kind": "nan", "text": "loss is NaN", "line": 3, "since": None})
    )
    assert followed.wait(100).new == ("a: loss is NaN",)


def test_what_was_wrong_and_is_again_is_new() -> None:
    followed = FollowedRun(story().start("a"))
    followed.flags.append({"kind": "stalled", "text": "no step", "line": 1, "since": None})
    flag = followed.flags[0]
    followed._steps += [followed.flags.clear, lambda: followed.flags.append(flag)]
    assert followed.wait(100).new == ("a: no step",)


AWAY = {
    "kind": "unreachable", "host": "gpu-a", "text": "gpu-a: unreachable", "since": "2026-01-01T00:00:00.000Z"
}  # fmt: skip
FULL = {"kind": "disk", "text": "5 GiB free are wanted", "since": "2026-01-01T00:00:00.000Z"}


@pytest.mark.parametrize("condition", [AWAY, FULL], ids=["away", "full"])
def test_a_condition_ends_it_once_it_has_stood(condition: dict[str, Any]) -> None:
    followed = FollowedRun(story().start("a"), lambda: None, lambda: followed.conditions.append(condition))
    found = followed.wait(1000)
    assert (found.why, len(found.new)) == (wait_run.PROBLEM, 1)
    assert wait_run.LASTING <= followed.now < wait_run.LASTING + 10


def test_a_condition_that_passes_by_itself_does_not_end_it() -> None:
    followed = FollowedRun(story().start("a"))
    for _ in range(3):  # each time anew
        followed._steps += [lambda: followed.conditions.append(AWAY), *[lambda: None] * 20, followed.conditions.clear]
    followed._steps.append(followed.end)
    assert followed.wait(1000).why == ENDED


def test_a_limit_of_an_engine_is_no_reason_to_stop_waiting() -> None:
    text = "Slurm takes no more jobs of this run at a time (AssocMaxSubmitJobLimit)"
    limit = {"kind": "slurm_limit", "text": text, "since": "2026-01-01T00:00:00.000Z"}
    followed = FollowedRun(story().start("a"), lambda: followed.conditions.append(limit), *[lambda: None] * 60)
    followed._steps.append(followed.end)
    assert followed.wait(1000).why == ENDED


def test_a_condition_that_stands_when_the_time_is_over_is_told_for_the_next_time_it_is_old() -> None:
    followed = FollowedRun(story().start("a"), lambda: followed.conditions.append(FULL))
    found = followed.wait(10)
    assert (found.why, len(found.new)) == (wait_run.PROBLEM, 1)
    again = followed.wait(10)
    assert (again.why, again.new, len(again.problems)) == (wait_run.TIMEOUT, (), 1)


def test_it_returns_when_the_time_is_over_or_the_manager_has_died() -> None:
    found = FollowedRun(story().start("a")).wait(5)
    assert (found.why, found.new) == (wait_run.TIMEOUT, ())
    followed = FollowedRun(story().start("a"), lambda: None)
    followed._steps.append(lambda: setattr(followed, "alive", False))
    assert followed.wait(100).why == ENDED


@pytest.mark.parametrize(
    ("why", "manager", "stuck", "code"),
    [
        (ENDED, "finished", False, DONE),
        (ENDED, "finished", True, PERSON),
        (ENDED, "running", False, FAILED),
        (wait_run.PROBLEM, "running", True, PROBLEM),
        (wait_run.TIMEOUT, "running", False, TIMEOUT),
    ],
)
def test_exit_codes_tell_how_it_ended(
    why: str,
    manager: str,
    stuck: bool,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = Story(manifest(job("a")), tmp_path / "r")
    made.start("a").end("a", "stuck" if stuck else "completed", error="boom" if stuck else None)
    made.write()
    found = wait_run.Waited(why, made.document(manager), manager == "running", ("x",), ("x",))
    monkeypatch.setattr(wait_run, "wait_run", lambda run, timeout: found if timeout == 540 else pytest.fail(str(run)))
    assert main.main(["wait", "--run", str(tmp_path / "r"), "--timeout", "9m"]) == code
    assert "new: x" in capsys.readouterr().out
    assert main.main(["wait", "--run", str(tmp_path / "r"), "--timeout", "9m", "--json"]) == code
    assert f'"exit_code": {code}' in capsys.readouterr().out
