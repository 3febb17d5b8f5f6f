"""What is shown of the ladder: in `why`, `status`, `babysit`, STATUS.md, with the command that a job ran in the end."""

from __future__ import annotations

from typing import Any

from queue_manager.core import events as ev
from queue_manager.core.recover_policy import Rung, to_json
from skill.reports import cells, checks, explain, results_text, status_file
from skill.runs import recovery, state_schema
from skill.runs.dependencies import Dependencies
from skill.terminal import frame
from tests.skill.story import T0, Story, job, manifest
from tests.skill.test_frame import plain, scene

PIP = "run: pip install x"
RUNGS = (
    Rung("run", "pip install x"),
    Rung("args", "train --bs 16", arg="bs", value="16", was="32"),
    Rung("other_host"),
)


def climbed(steps: int, *, under_way: bool = False) -> Story:
    """A job that failed so often, and took a rung each time; `under_way`: its last attempt runs."""
    story = Story(manifest(job("a", recover=to_json(RUNGS), health={"then": "recover"}), job("b")))
    story.start("a")
    for n in range(1, steps + 1):
        rung = RUNGS[n - 1]
        action = ("run: pip install x", "bs 16 instead of 32", "another host")[n - 1]
        if n == 2:
            story.tell(ev.RecoveryRan("a", n, 1))
        story.tell(ev.RecoveryChosen("a", n, "killed", n - 1, action, "exit code 137"))
        stuck = rung.kind == "other_host"
        error = "exit code 137 (SIGKILL): killed from outside"
        story.end("a", "stuck" if stuck else "failed_other", error=error, failure="killed", due=story.at + 5)
        if not stuck and (n < steps or under_way):
            story.tell_retry("a").start("a")
    return story


def row(story: Story) -> dict[str, Any]:
    document = story.document()
    assert state_schema.fault(document) is None
    return dict(document["jobs"][0])


def why(story: Story) -> dict[str, Any]:
    tries = explain.attempts(story.records, "a")
    return explain.explain(story.document(), Dependencies(story.manifest), "a", tries, [], story.at)


def test_why_shows_each_step_with_its_effect_and_the_command_as_it_was_run() -> None:
    story = climbed(2, under_way=True).end("a", outcome="recovered", warning="recovered with bs 16 instead of 32")
    found = why(story)
    assert [one["recovery"] for one in found["attempts"]] == [None, "run: pip install x", "bs 16 instead of 32"]
    lines = explain.lines(found)
    at = lines.index("recover")
    effect = "its command failed with exit code 1; attempt 2 failed: killed"
    assert lines[at + 1 : at + 5] == [
        f"  10:00:04Z  killed in attempt 1: {PIP}; effect: {effect}",
        "  10:00:10Z  killed in attempt 2: bs 16 instead of 32; effect: attempt 3 completed",
        "  changed: bs 16 instead of 32",
        "  its command now: train --bs 16",
    ]
    assert recovery.spec_run(story.manifest.jobs[0], row(story)).cmd == "train --bs 16"
    assert recovery.spec_run(story.manifest.jobs[1], story.document()["jobs"][1]).cmd == "run b"


def test_status_shows_the_steps_newest_first() -> None:
    shown = plain(frame.frame(scene(climbed(2)), 160, None))
    at = shown.index("recovery")
    assert [line.split()[3:5] for line in shown[at + 1 : at + 3]] == [["bs", "16"], ["run:", "pip"]]
    assert shown[at + 1].endswith("not known yet")
    waits = shown[shown.index("waiting for a retry") + 1]
    assert waits.endswith(", recover: bs 16 instead of 32")


def test_babysit_names_the_step() -> None:
    def action(story: Story) -> str:
        found = checks.check(row(story), story.document(), T0, None, gone=False)
        return checks.line(found).split()[7]

    assert action(climbed(1)) == "run:_pip_install_x_at_10:00:10Z"
    assert action(climbed(2, under_way=True)) == "attempt_3:bs_16_instead_of_32"
    assert action(climbed(3)) == "needs_another_host"


def test_another_host_is_what_a_person_reads_to_do() -> None:
    assert why(climbed(3))["next"][0] == "submit the spec to a host that has more: wavequeue submit SPEC --host NAME"
    assert recovery.wants_host(row(climbed(3)))
    assert not recovery.wants_host(row(climbed(2)))


def test_the_status_file_has_each_step_once_with_its_effect() -> None:
    story = climbed(2, under_way=True)
    story.tell(ev.AttemptStopping("a", 3, "recover"))
    rows = {one["id"]: one for one in story.document()["jobs"]}
    before = status_file.actions(story.records, rows)
    story.end("a", "failed_other", error="stopped because it was unhealthy: nan", failure="nan", due=story.at)
    found = [(one.did, one.effect) for one in status_file.actions(story.records, rows)]
    assert found == [
        (
            f"recover: {PIP}, because attempt 1 failed (exit code 137); its command failed with exit code 1",
            "failed_other: exit code 137 (SIGKILL): killed from outside",
        ),
        (
            "recover: bs 16 instead of 32, because attempt 2 failed (exit code 137)",
            "failed_other: stopped because it was unhealthy: nan",
        ),
        ("ended attempt 3: unhealthy", "failed_other: stopped because it was unhealthy: nan"),
    ]
    assert [one.effect for one in before[1:]] == ["attempt 3 runs", "not ended yet"]


def test_the_status_file_tells_the_ladder() -> None:
    lines = status_file.kill_criteria(climbed(1).manifest)
    ladder = "run: pip install x, then bs 16 instead of 32, then another host"
    assert f"then recover: {ladder} (1 jobs), nothing (1 jobs)" in lines
    assert any("ended, and recovered if its loss is NaN" in line for line in lines)


def test_results_name_jobs_that_ran_with_other_settings_than_their_cell_says() -> None:
    story = climbed(2, under_way=True).end("a", outcome="recovered").complete("b")
    document = story.document()
    numbers = {"a": {"loss": 0.1}, "b": {"loss": 0.2}}
    made = cells.table(cells.join([cells.read(document, story.manifest, numbers, "run")]), {}, (), ())
    note = "! not run with the settings of its cell, see recover: a (bs 16 instead of 32)"
    assert results_text.notes(made)[-1] == note
