"""Watching over a run: the line of nine fields, checks at the cadence against a clock that jumps, and STATUS.md."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.readings import Card
from queue_manager.core.times import iso
from skill.cli import main
from skill.operations import babysit
from skill.operations.babysit import CheckReport, Outcome, check_run, follow_run
from skill.reports import checks, status_file
from skill.runs import digest, local_manager
from skill.runs.directory import Run
from skill.runs.local import LocalRun
from tests.skill.story import RUN_ID, T0, Story, job, manifest

CARD = Card(0, "GPU-0", "H200", 143771, 18664, 97)
NAN = {"kind": "nan", "text": "the loss is nan", "line": "step 9 loss nan", "since": iso(T0)}


def new_story(root: Path = Path("/runs") / RUN_ID) -> Story:
    story = Story(manifest(job("a", gpus=1), job("b"), job("c")), root)
    return story.start("a", 0).start("b")


def seen(document: dict[str, Any], name: str, **fields: Any) -> checks.Check:
    row = next(row for row in document["jobs"] if row["id"] == name)
    row.update(fields)
    return checks.check(row, document, T0 + 60, T0 + 180, gone=False)


HEALTH = {"step": 120, "total": 5000, "rate": 1.9234, "eta_s": 2537.0, "loss": 0.31, "util": 96.6, "mem_mib": 18000}


def test_a_line_has_nine_fields_in_their_order() -> None:
    found = checks.line(seen(new_story().document(cards=(CARD,)), "a", health={**HEALTH, "flags": []}))
    assert found == "2026-01-01T10:01:00Z a:running 120/5000 1.923/s 97% 18000MiB loss=0.31 - 2026-01-01T10:03:00Z"
    assert len(found.split(" ")) == len(checks.FIELDS) == 9


def test_what_is_unknown_is_a_dash_and_never_guessed() -> None:
    assert checks.line(seen(new_story().document(), "b")) == (
        "2026-01-01T10:01:00Z b:running - - - - - - 2026-01-01T10:03:00Z"
    )


def test_the_use_of_its_gpus_is_reported_where_its_health_tells_none() -> None:
    found = seen(new_story().document(cards=(CARD,)), "a")
    assert (found.util, found.mem) == (97, 18664)


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"health": {"step": 7, "flags": []}}, " 7 "),
        ({"metrics": {"val_loss": 0.25, "acc": None}}, " val_loss=0.25 "),
        ({"metrics": {"a b\nc": 1.0}}, " a_b_c=1 "),
        ({"health": {"loss": None, "flags": [NAN]}}, " a:nan - - - - loss=nan "),
        ({"health": {"flags": [NAN, {**NAN, "kind": "stalled"}]}}, " a:nan+stalled "),
        ({"attempt": 3}, " attempt_3 "),
        ({"status": "failed_oom", "retry_at": iso(T0 + 90), "error": "x"}, " a:failed_oom - - - - - retries_at_10:01"),
        ({"status": "stuck", "error": "it has no words"}, " a:stuck - - - - - needs_a_person "),
        ({"status": "completed", "outcome": "stopped_early"}, " a:completed - - - - - stopped_early "),
    ],
)  # fmt: skip
def test_a_field_says(fields: dict[str, Any], part: str) -> None:
    text = checks.line(seen(new_story().document(), "a", **fields))
    assert part in text
    assert len(text.split(" ")) == 9


def test_what_completed_with_a_warning_is_told_as_an_alert() -> None:
    found = seen(new_story().document(), "a", status="completed", warning="nan: the loss is nan at step 9")
    assert found.alert
    assert found.flags == ("completed with a warning: nan: the loss is nan at step 9",)
    assert not seen(new_story().document(), "a", status="completed").alert


def test_a_host_that_is_away_is_another_state_than_a_job_that_failed() -> None:
    document = new_story().document()
    document["meta"]["hosts"] = [{"name": "gpu-a", "reachable": False}]
    assert seen(document, "a", host="gpu-a").state == "unreachable"
    row = next(row for row in document["jobs"] if row["id"] == "b")
    assert checks.check(row, document, T0, None, gone=True).state == "unwatched"


def test_the_metric_with_a_goal_comes_first() -> None:
    document = new_story().document()
    row = {**document["jobs"][0], "metrics": {"acc": 0.5, "val_loss": 0.25}}
    assert checks.check(row, document, T0, None, gone=False, goal="val_loss").eval == ("val_loss", 0.25)


def test_json_has_the_fields_as_numbers_and_no_nan() -> None:
    found = seen(new_story().document(), "a", health={**HEALTH, "loss": None, "flags": [NAN]})
    row = checks.row_json(found, ["step 9 loss nan"])
    assert json.loads(json.dumps(row, allow_nan=False)) == row
    assert (row["step"], row["gpu"], row["eval"]) == (120, 96.6, {"name": "loss", "value": None})
    assert (row["alert"], row["flags"], row["log"]) == (True, ["nan: the loss is nan"], ["step 9 loss nan"])
    assert found.eval is not None
    assert math.isnan(found.eval[1])


# -- against a clock that jumps ---------------------------------------------------------------------------------------


class Followed:
    """A run whose state follows from the time: `made` gives it. It is over at `end`."""

    busy = False
    alive = True

    def __init__(
        self, run: Run, clock: Callable[[], float], made: Callable[[float], dict[str, Any]], end: float
    ) -> None:
        self.run, self._clock, self._made, self._end = run, clock, made, end
        self.document = made(clock())
        self.digest = digest.digest(self.document)

    @property
    def over(self) -> bool:
        return self._clock() >= self._end

    def look(self, *, at_once: bool = False) -> bool:  # noqa: ARG002
        self.document = self._made(self._clock())
        if self.over:
            self.document["meta"]["manager"] = "finished"
        return True

    def tail(self, row: digest.Row) -> str:  # noqa: ARG002
        return ""

    def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[CheckReport], Outcome]]:
    """Follow a run of one job `a`, whose row is as `fields` says at each minute, up to a minute."""
    root = tmp_path / RUN_ID
    story = Story(manifest(job("a")), root).start("a")
    story.write()
    (root / "logs" / "a.log").write_text("step 8 loss 0.1\nstep 9 loss nan\n")
    launched = T0 + 3  # the event that the attempt has started is the fourth

    def follow(until: float, fields: Callable[[float], dict[str, Any]]) -> tuple[list[CheckReport], Outcome]:
        clock = Clock()
        clock.now = launched

        def made(now: float) -> dict[str, Any]:
            document = story.document()
            document["jobs"][0].update(fields((now - launched) / 60))
            return document

        run = Run(RUN_ID, story.paths)
        monkeypatch.setattr(LocalRun, "watch", lambda _: Followed(run, clock, made, launched + 60 * until))
        found = []
        following = follow_run(run, clock=clock, wait=clock.wait)
        while True:
            try:
                found.append(next(following))
            except StopIteration as end:
                return found, end.value

    return follow


def minutes(found: list[CheckReport]) -> list[float]:
    return [round((one.check.ts - T0 - 3) / 60, 2) for one in found]


def test_checks_of_a_healthy_job_come_at_the_cadence(
    followed: Callable[..., tuple[list[CheckReport], Outcome]],
) -> None:
    found, _ = followed(115, lambda _: {})
    assert minutes(found) == [0, 1, 3, 7, 15, 25, 35, 65, 110]
    assert all(one.log == () for one in found), "log lines come with an alert only"
    assert [one.check.next for one in found[:2]] == [T0 + 63, T0 + 183]


def test_a_fault_is_reported_at_once_with_its_lines_and_then_followed_closely(
    followed: Callable[..., tuple[list[CheckReport], Outcome]],
) -> None:
    found, _ = followed(20, lambda at: {"health": {"flags": [NAN]}} if 8 <= at < 14 else {})
    assert minutes(found) == [0, 1, 3, 7, 8, 10, 13, 14, 17]
    assert [one.check.alert for one in found] == [False] * 4 + [True] * 3 + [False] * 2
    assert found[4].log == ("step 8 loss 0.1", "step 9 loss nan")
    assert found[5].log == (), "said once"


def test_an_end_is_reported_at_once(followed: Callable[..., tuple[list[CheckReport], Outcome]]) -> None:
    ended = {"status": "stuck", "error": "exit code 1: ValueError: bad", "completed": iso(T0 + 300)}
    found, code = followed(6, lambda at: ended if at >= 5 else {})
    assert minutes(found) == [0, 1, 3, 5]
    assert (found[-1].check.state, found[-1].check.action, found[-1].check.next) == ("stuck", "needs_a_person", None)
    assert code == Outcome(over=True, finished=True, completed=False)


def test_another_attempt_begins_the_checks_anew(followed: Callable[..., tuple[list[CheckReport], Outcome]]) -> None:
    again = {"attempt": 2, "started": iso(T0 + 3 + 20 * 60)}
    found, _ = followed(26, lambda at: again if at >= 20 else {})
    assert minutes(found) == [0, 1, 3, 7, 15, 20, 21, 23]


# -- STATUS.md --------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    """A run whose manager lives, as far as anyone can tell: a runs, b has failed and waits for its retry."""
    root = tmp_path / "experiment_queue" / RUN_ID
    story = new_story(root)
    story.tell(ev.AttemptStopping("b", 1, "timeout")).end("b", "failed_other", error="ended by timeout", due=T0 + 3600)
    story.write()
    (root / "logs" / "b.log").write_text("step 1\nhanging\n")
    monkeypatch.setattr(local_manager, "is_alive", lambda _run: True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return story


def test_the_status_file_tells_of_machines_jobs_and_what_was_done(on_disk: Story) -> None:
    check_run(Run(RUN_ID, on_disk.paths), T0 + 60)
    text = (on_disk.paths.root / "STATUS.md").read_text()
    assert text.startswith(f"# {RUN_ID}\n")
    assert "- gpu-a: not rented\n" in text
    assert "- teardown policy: when done: keep\n" in text
    assert "  - command: `run a`\n" in text
    assert f"  - log: `{on_disk.paths.root}/logs/a.log`\n" in text
    assert "- out of memory: again after 2 min, 3 attempts at most\n" in text
    assert "| b | ended attempt 1: timeout | failed_other: ended by timeout |" in text
    assert text.endswith(f"{status_file.NOTES}\n")


def test_what_a_person_has_noted_is_kept(on_disk: Story) -> None:
    run, path = Run(RUN_ID, on_disk.paths), on_disk.paths.root / "STATUS.md"
    check_run(run, T0 + 60)
    path.write_text(path.read_text() + "\nask Ann about the data\n")
    check_run(run, T0 + 120)
    check_run(run, T0 + 180)
    text = path.read_text()
    assert text.endswith(f"{status_file.NOTES}\n\nask Ann about the data\n")
    assert "10:03:00" in text
    assert "10:01:00" not in text


def test_a_file_without_the_mark_is_a_persons_and_none_of_it_is_lost(on_disk: Story) -> None:
    path = on_disk.paths.root / "STATUS.md"
    path.write_text("my own page\n")
    check_run(Run(RUN_ID, on_disk.paths), T0 + 60)
    assert path.read_text().endswith(f"{status_file.NOTES}\n\nmy own page\n")


def test_a_retry_is_an_action_whose_effect_is_reported() -> None:
    story = new_story().end("b", "failed_oom", error="out of memory", due=T0).tell_retry("b").start("b").complete("c")
    rows = {row["id"]: row for row in story.document()["jobs"]}
    assert [(one.target, one.did, one.effect) for one in status_file.actions(story.records, rows)] == [
        ("b", "started attempt 2", "runs")
    ]
    story.end("b")
    assert status_file.actions(story.records, rows)[0].effect == "completed"


def test_kill_criteria_are_those_of_the_jobs() -> None:
    made = manifest(job("a", timeout=3600.0), job("b", timeout=3600.0), job("c", retries=2))
    assert status_file.kill_criteria(made)[0] == "timeout: 1 h (2 jobs), none (1 jobs)"
    assert "other failures: 0 retries (2 jobs), 2 retries (1 jobs)" in status_file.kill_criteria(made)
    assert "unhealthy: alert if its loss is NaN, or no new step for far longer than usual" in status_file.kill_criteria(
        made
    )


def test_what_counts_as_unhealthy_is_reported_in_words() -> None:
    policy = {
        "stall": 900.0, "low_util": {"below": 10, "for": 600.0}, "slow": 50, "then": "stop", "min_steps": 1000,
        "bounds": [{"metric": "val_loss", "above": 10}],
        "early_stop": {"metric": "val_loss", "patience": 5, "min_delta": 0.001},
    }  # fmt: skip
    story = status_file.kill_criteria(manifest(job("a", health=policy)))
    assert story[-3].split(", or ") == [
        "unhealthy: ended if its loss is NaN", "no new step for 15 min", "GPUs below 10 % for 10 min",
        "slower than 50 % of its usual rate", "val_loss above 10",
    ]  # fmt: skip
    assert story[-2:] == [
        "early stop: val_loss not better by 0.001 for 5 values in a row",
        "fewest steps: 1000",
    ]


# -- the verb ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("on_disk")
def test_once_as_json_for_agents(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["babysit", "--once", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["run_id", "over", "next", "counts", "problems", "status_file", "checks"]
    assert (found["run_id"], found["over"]) == (RUN_ID, False)
    assert [(row["job"], row["state"], row["alert"]) for row in found["checks"]] == [
        ("a", "running", False), ("b", "failed_other", True),
    ]  # fmt: skip
    assert found["checks"][1]["log"] == ["step 1", "hanging"]
    assert Path(found["status_file"]).is_file()


@pytest.mark.usefixtures("on_disk")
def test_once_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["babysit", "--once"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ts state step rate gpu mem eval action next_eta"
    assert " a:running " in lines[1]
    assert " b:failed_other " in lines[2]
    assert lines[3:6] == ["  ! ended by timeout", "  | step 1", "  | hanging"]


def test_of_a_run_that_is_over_the_exit_code_tells(on_disk: Story, capsys: pytest.CaptureFixture[str]) -> None:
    on_disk.write("finished")
    assert main.main(["babysit", "--once", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["over"] is True
    assert main.main(["babysit"]) == 3


@pytest.mark.usefixtures("on_disk")
def test_a_manager_that_has_died_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_manager, "is_alive", lambda _run: False)
    assert main.main(["babysit", "--once", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["checks"][0]["state"] == "unwatched"
    assert "has died" in found["problems"][0]


@pytest.mark.usefixtures("on_disk")
def test_json_is_for_one_look(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["babysit", "--json"]) == 2
    assert "add --once" in capsys.readouterr().err


def test_its_pace_is_far_below_the_shortest_check() -> None:
    assert babysit.PACE <= 10
