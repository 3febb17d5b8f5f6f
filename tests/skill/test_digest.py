"""What people are told of a state document."""

from __future__ import annotations

import pytest

from queue_manager.core import events as ev
from queue_manager.core.readings import Card
from skill.common.errors import DONE, PERSON
from skill.runs import digest
from tests.skill.story import RUN_ID, T0, Story, job, manifest


def new_story() -> Story:
    return Story(manifest(job("a"), job("b"), job("c"), job("d", gpus=2)))


def test_the_headline_says_run_state_count_and_time() -> None:
    story = new_story().complete("a")
    assert digest.headline(story.document(), True, T0 + 65) == f"{RUN_ID}: running, 1 of 4 jobs completed, 1 min 05 s"
    story.tell(ev.Paused())
    assert ": paused, 1 of 4" in digest.headline(story.document(), True, T0)


def test_a_manager_that_has_died_is_reported_with_the_way_back_and_time_stands_still() -> None:
    document = new_story().complete("a").document()
    assert f"{RUN_ID}: its manager has died, 1 of 4 jobs completed, 5.0 s" == digest.headline(document, False, T0 + 999)
    (line,) = digest.problems(document, False)
    assert "process 4711" in line
    assert line.endswith(f"wavequeue resume --run {RUN_ID}")
    assert digest.problems(document, True) == []


def test_a_manager_on_slurm_is_named_with_its_machine() -> None:
    document = new_story().complete("a").document()
    document["meta"].update(launcher="slurm", host="n1", manager_on="n1")
    assert ": running (its manager is on n1), 1 of 4" in digest.headline(document, True, T0)
    assert ": its manager has died, 1 of 4" in digest.headline(document, False, T0)
    (line,) = digest.problems(document, False)
    assert line.startswith("the manager (process 4711 on n1) has died;")
    document["meta"]["pid"] = None  # none has begun yet
    (line,) = digest.problems(document, False)
    assert line.startswith("the manager has died;")


def test_a_finished_run_has_no_dead_manager() -> None:
    story = Story(manifest(job("a"))).complete("a").tell(ev.RunFinished())
    document = story.document("finished")
    assert digest.problems(document, False) == []
    assert ": finished, 1 of 1 jobs completed" in digest.headline(document, False, T0 + 999)


def test_what_hinders_is_reported_with_its_time() -> None:
    story = new_story().tell(ev.Paused(), ev.ConditionBegan("nvml", "NVML cannot be read: timeout"))
    lines = digest.problems(story.document("halted"), False)
    assert [line.split(":")[0] for line in lines] == [
        "the manager was halted; no job was running. Start it again",
        "paused",
        "NVML cannot be read",
    ]
    assert lines[2].endswith("(since 10:00:03Z)")


@pytest.mark.parametrize(
    ("count", "gone", "says"),
    [
        (0, None, "no job was running"),
        (3, None, "it is unknown whether its running jobs continue"),
        (3, 0, "running jobs continue"),
        (3, 2, "1 of 3 running jobs continue, the others have ended or were killed"),
        (3, 3, "its running jobs have ended or were killed"),
    ],
)
def test_of_the_jobs_of_a_dead_manager_only_what_was_seen_is_reported(count: int, gone: int | None, says: str) -> None:
    assert digest.left_running({digest.GONE: gone}, count) == says


def test_a_card_in_quarantine_hinders() -> None:
    story = new_story().tell(ev.CardQuarantined("GPU-0", "Xid 79"))
    lines = digest.problems(story.document(cards=(Card(0, "GPU-0", "A100", 40000, 3),)), True)
    assert lines == ["GPU 0: in quarantine: Xid 79"]


def test_the_digest_sorts_jobs_by_what_people_look_for() -> None:
    story = Story(manifest(*(job(name) for name in "abcdefg")))
    story.complete("a", "b").start("c").end("c", "stuck", error="broke").start("d").start("e")
    story.tell(ev.JobCancelled("f")).start("g").end("g", "failed_oom", error="oom", due=T0 + 99)
    found = digest.digest(story.document())
    assert [row["id"] for row in found.running] == ["d", "e"]
    assert [row["id"] for row in found.person] == ["c"]
    assert [row["id"] for row in found.cancelled] == ["f"]
    assert [row["id"] for row in found.retrying] == ["g"]
    assert [row["id"] for row in found.recent] == ["b", "a"]
    ids = [row["id"] for rows in found for row in rows]
    assert sorted(ids) == list("abcdefg"), "each job stands in one place"


def test_a_job_that_was_cancelled_long_after_it_failed_did_not_run_until_then() -> None:
    story = Story(manifest(job("a"))).start("a").end("a", "stuck", error="broke")
    story.at += 3600
    story.tell(ev.JobCancelled("a"))
    (row,) = story.document()["jobs"]
    assert digest.seconds(row, story.at) == 1.0
    assert row["completed"] == "2026-01-01T11:00:05.000Z"
    del row["attempt_ended"]  # as older managers write it
    assert digest.seconds(row, story.at) == 3602.0


def test_the_digest_of_a_large_run_stays_small() -> None:
    names = [f"j{n}" for n in range(500)]
    found = digest.digest(Story(manifest(*map(job, names))).complete(*names).document())
    assert len(found.recent) == 60


def test_changes_are_reported_once_a_line_each_in_order() -> None:
    story = new_story()
    before = digest.places(story.document())
    story.start("a").start("b").end("a").end("b", "stuck", error="broke").start("d", 0, 1)
    lines = digest.changes(before, story.document())
    assert lines == [
        "10:00:06Z completed    a  (3.0 s)",
        "10:00:07Z stuck        b  broke",
        "10:00:09Z running      d  GPUs 0,1",
    ]
    assert digest.changes(digest.places(story.document()), story.document()) == []


def test_a_retry_and_a_second_attempt_are_changes() -> None:
    story = new_story().start("a").end("a", "failed_oom", error="out of memory", due=T0 + 30)
    before = digest.places(story.document())
    story.tell_retry("a")
    (line,) = digest.changes(before, story.document())
    assert line.split()[1:] == ["pending", "a"]
    story.start("a")
    assert digest.changes(before, story.document())[0].endswith("running      a  attempt 2")


def test_jobs_that_were_added_are_reported_when_they_move_and_not_before() -> None:
    story = new_story()
    before = digest.places(story.document())
    story.tell(ev.JobsAdded((), {}, (job("new"), job("newer")))).start("new")
    assert [line.split()[1:] for line in digest.changes(before, story.document())] == [["running", "new"]]


@pytest.mark.parametrize(("bad", "code"), [(False, DONE), (True, PERSON)])
def test_the_exit_code_of_a_run_says_whether_a_person_is_needed(bad: bool, code: int) -> None:
    story = Story(manifest(job("a"), job("b"))).complete("a")
    story.tell(ev.JobCancelled("b")) if bad else story.complete("b")
    assert digest.exit_code(story.document("finished")) == code


def test_times_of_running_jobs_run_and_others_stand() -> None:
    story = new_story().start("a").complete("b")
    rows = {row["id"]: row for row in story.document()["jobs"]}
    assert digest.seconds(rows["a"], T0 + 100) == pytest.approx(97, abs=1)
    assert digest.seconds(rows["b"], T0 + 100) == digest.seconds(rows["b"], T0 + 900) == pytest.approx(2, abs=1)
    assert digest.seconds(rows["c"], T0) is None
    assert digest.took(rows["c"], T0) == ""


def test_an_attempt_that_was_cut_off_between_two_looks_is_no_change() -> None:
    story = new_story()
    before = digest.places(story.document())
    story.start("a").end("a", "pending", failure="interrupted", error="cut off", charged=False)
    assert digest.changes(before, story.document()) == []
