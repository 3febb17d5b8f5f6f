"""Why a job is where it is."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.manifest import Phase
from queue_manager.core.overview import overview
from queue_manager.core.readings import Card
from skill.reports import explain as why
from skill.runs.assignment import SUBMITTED, Assigned, Part, part_manifest
from skill.runs.dependencies import Dependencies
from skill.runs.merge import Look, merge
from tests.skill.story import RUN_ID, T0, Story, job, manifest


def explain(story: Story, name: str, log: list[str] | None = None, manager: str = "running") -> dict[str, Any]:
    tries = why.attempts(story.records, name)
    return why.explain(story.document(manager), Dependencies(story.manifest), name, tries, log or [], story.at)


def chain() -> Story:
    """Two teachers; students with their own; a last job after all students."""
    jobs = [job("t1", "teachers"), job("t2", "teachers")]
    jobs += [job(f"s{seed}_{t}", "students", depends_on=(t,)) for t in ("t1", "t2") for seed in range(6)]
    jobs += [job("last", "last")]
    phases = (Phase("teachers"), Phase("students", ("teachers",), ("t",)), Phase("last", ("students",)))
    return Story(manifest(*jobs, phases=phases))


def test_a_job_that_waits_shows_what_for_and_the_root() -> None:
    found = explain(chain().start("t1"), "s0_t1")
    assert found["status"] == "pending"
    assert found["waits_for"] == ["t1: running for 1.0 s, attempt 1"]
    assert [root["id"] for root in found["roots"]] == ["t1"]


def test_roots_are_found_through_phases_and_those_that_need_a_person_come_first() -> None:
    story = chain().start("t1").start("t2").end("t2", "stuck", error="broke")
    story.tell(*(ev.JobBlocked(f"s{seed}_t2", "t2", "depends on t2, which is stuck") for seed in range(6)))
    story.tell(ev.JobBlocked("last", "t2", "depends on t2, which is stuck"))
    found = explain(story, "last")
    assert [root["id"] for root in found["roots"]] == ["t2", "t1"]
    assert found["waits_for"][0] == "phase students: 0 of 12 completed"
    assert found["waits_for"][1].startswith("  s0_t2: blocked: depends on t2")
    assert found["waits_for"][2] == "    t2: stuck after 1 attempt: broke"
    assert "  and 8 more" in found["waits_for"]
    assert found["next"] == [f"look into t2: wavequeue why t2 --run {RUN_ID}, then wavequeue retry t2 --run {RUN_ID}"]


def test_a_time_limit_of_slurm_is_answered_with_what_to_write() -> None:
    error = "Slurm ended it at its time limit; last line: step 85/200"
    story = Story(manifest(job("a"), launcher="slurm")).start("a").end("a", "stuck", failure="timeout", error=error)
    assert "requeue_on_timeout" in explain(story, "a")["next"][0]


@pytest.mark.parametrize(
    ("launcher", "error", "hint"),
    [
        ("slurm", "out of host memory (exit code 137 (SIGKILL)): oom_kill event", "with Slurm by slurm.mem"),
        ("slurm", "out of GPU memory (exit code 1): CUDA out of memory", "give it a larger GPU"),
        ("screen", "out of host memory (exit code 1): MemoryError", "let fewer jobs run at a time (max_parallel)"),
    ],
)
def test_what_to_do_depends_on_which_memory_ran_out(launcher: str, error: str, hint: str) -> None:
    story = Story(manifest(job("a"), launcher=launcher)).start("a").end("a", "stuck", failure="oom", error=error)
    assert hint in explain(story, "a")["next"][0]


def test_a_job_that_waits_in_slurms_queue_says_so_and_has_no_terminal() -> None:
    story = Story(manifest(job("a"), launcher="slurm")).submit("a")
    story.queued = {0: "waits in Slurm's queue (pending: Resources)"}
    found = explain(story, "a")
    assert found["because"] == "queued for 1.0 s, attempt 1: waits in Slurm's queue (pending: Resources)"
    assert found["next"] == ["it starts when Slurm gives it room; what Slurm expects: squeue --me --start"]
    assert [(row["status"], row["started"]) for row in found["attempts"]] == [("queued", None)]
    story.begin("a", "n1", 0, 2, ago=0.5)
    found = explain(story, "a")
    assert found["because"] == "running for 1.5 s on n1 GPUs 0,2, attempt 1"
    assert found["next"] == [
        f"follow its log: wavequeue logs a -f --run {RUN_ID}",
        f"open a shell beside it: wavequeue attach a --run {RUN_ID}",
    ]
    assert [(row["status"], row["node"], row["cards"]) for row in found["attempts"]] == [("running", "n1", [0, 2])]


def test_what_is_completed_is_no_root() -> None:
    story = chain().complete("t1", "t2", *(f"s{seed}_t1" for seed in range(6)))
    found = explain(story, "last")
    assert {root["id"] for root in found["roots"]} == {f"s{seed}_t2" for seed in range(6)}
    assert "6 of 12 completed" in found["waits_for"][0]


def test_the_tree_of_a_large_run_stays_readable() -> None:
    jobs = [job(f"j{n}", depends_on=(f"j{n - 1}",) if n else ()) for n in range(3000)]
    found = explain(Story(manifest(*jobs)), "j2999")
    assert len(found["waits_for"]) <= why.MAX_LINES + 1
    assert [root["id"] for root in found["roots"]] == ["j0"]


def test_groups_are_named_with_their_count() -> None:
    jobs = [job("a"), job("b"), job("s", depends_on=("t[N=1]",))]
    found = explain(Story(manifest(*jobs, groups={"t[N=1]": ("a", "b")})).complete("a"), "s")
    assert found["waits_for"][0] == "group t[N=1]: 1 of 2 completed"
    assert found["waits_for"][1].startswith("  b: pending: waits for")


def test_a_stuck_job_tells_its_attempts_and_the_lines_of_its_log() -> None:
    story = Story(manifest(job("a", gpus=1)))
    error = "out of memory (exit code 1): torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    story.start("a", 0).end("a", "failed_oom", error=error, failure="oom", due=story.at).tell_retry("a")
    story.start("a", 1).end("a", "stuck", error=error, failure="oom")
    log = [*(f"epoch {n}" for n in range(50)), error.partition("): ")[2], *(f"teardown {n}" for n in range(50))]
    found = explain(story, "a", log)
    assert [(row["attempt"], row["status"], row["cards"], row["seconds"]) for row in found["attempts"]] == [
        (1, "failed_oom", [0], 1.0),
        (2, "stuck", [1], 1.0),
    ]
    assert found["because"] == f"stuck after 2 attempts: {error}"
    assert log[50] in found["log"]
    assert {"epoch 49", "teardown 0"} <= set(found["log"])
    assert len(found["log"]) == 12
    assert "needs more memory" in found["next"][0]
    assert found["next"][-1] == f"then retry it: wavequeue retry a --run {RUN_ID}"
    text = "\n".join(why.lines(found))
    assert "  2  10:00:" in text
    assert text.count(error) == 1
    assert "failed_oom after 1.0 s: the same error\n" in text
    assert f"  | {log[50]}" in text


def test_a_retry_by_a_person_keeps_the_history() -> None:
    story = Story(manifest(job("a"))).start("a").end("a", "stuck", error="one").tell(ev.JobRetried("a"))
    story.start("a").end("a", "stuck", error="two")
    found = explain(story, "a")
    assert [row["error"] for row in found["attempts"]] == ["one", "two"]
    assert found["because"] == "stuck after 1 attempt: two"
    assert [line.partition("stuck after 1.0 s")[2] for line in why.lines(found)[3:5]] == [": one", ""]


def test_what_a_person_cancelled_is_reported_once() -> None:
    story = Story(manifest(job("a"))).tell(ev.JobCancelled("a"))
    assert explain(story, "a")["because"] == "cancelled by a person"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("exit code 1; last line: the end", ["line 88", "the end"]),
        ("exit code 1; last line: line 50", ["line 42", "line 53"]),
        ("exit code 1: line 50", ["line 42", "line 53"]),
        ("out of memory (exit code 1): torch: line 50", ["line 42", "line 53"]),
        ("", ["line 88", "the end"]),
        ("words that the log does not hold; last line: nowhere", ["line 88", "the end"]),
    ],
)
def test_the_excerpt_is_around_what_the_error_quotes(error: str, expected: list[str]) -> None:
    lines = [*(f"line {n}" for n in range(99)), "", "the end", ""]
    found = why.excerpt(lines, error)
    assert [found[0], found[-1]] == expected
    assert len(found) == 12
    assert why.excerpt(["one"], error) == ["one"]
    assert why.excerpt([], error) == []


@pytest.mark.parametrize(
    ("story", "manager", "next_step"),
    [
        (lambda s: s.start("a"), "running", f"follow its log: wavequeue logs a -f --run {RUN_ID}"),
        (lambda s: s.tell(ev.Paused()), "running", f"resume the run: wavequeue resume --run {RUN_ID}"),
        (lambda s: s, "halted", f"start the manager again: wavequeue resume --run {RUN_ID}"),
        (lambda s: s.tell(ev.JobCancelled("a")), "running", f"to run it anyway: wavequeue retry a --run {RUN_ID}"),
        (
            lambda s: s.start("a").end("a", "failed_other", error="x", due=s.at),
            "running",
            f"it is retried automatically; to retry it now: wavequeue retry a --run {RUN_ID}",
        ),
        (
            lambda s: s.start("a").end("a", warning="exit code 1"),
            "running",
            f"read its log: wavequeue logs a --run {RUN_ID}",
        ),
    ],
)
def test_there_is_a_next_step(story: Any, manager: str, next_step: str) -> None:
    assert explain(story(Story(manifest(job("a")))), "a", manager=manager)["next"][0] == next_step


def test_a_pipe_whose_reader_ended_first_is_explained() -> None:
    story = (
        Story(manifest(job("a")))
        .start("a")
        .end("a", "stuck", failure="exit_code", exit_code=141, error="exit code 141")
    )
    assert explain(story, "a")["next"][0].startswith("the next command in a pipe, such as head, ended first; write")


def test_a_completed_job_needs_nothing() -> None:
    found = explain(Story(manifest(job("a"))).complete("a"), "a", ["all good"])
    assert found["because"] == "completed after 1.0 s with exit code 0"
    assert found["log"] == ["all good"]
    assert found["next"] == []
    assert why.lines(found)[0] == "a: completed after 1.0 s with exit code 0"


# -- on hosts ---------------------------------------------------------------------------------------------------------

TIED = manifest(job("t"), job("s", depends_on=("t",)), job("u", depends_on=("s",)))
A, B = Part("gpu-a", ("t",), SUBMITTED, cwd="code"), Part("gpu-b", ("s", "u"), SUBMITTED, cwd="code")
MARK = "waits for .wavequeue/carried/x"


def host_story(part: Part, made: Any = TIED) -> Story:
    return Story(part_manifest(made, part, RUN_ID))


def on_hosts(name: str, *looks: Look, made: Any = TIED, parts: tuple[Part, ...] = (A, B)) -> dict[str, Any]:
    there = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", parts)
    document = merge(there, made, looks, T0 + 60)
    return why.explain(document, Dependencies(made), name, [], [], T0 + 60)


def held(story: Story) -> Story:
    """The host found that what s waits for has not been brought."""
    return story.tell(ev.JobHeld("s", MARK))


def test_a_job_that_waits_for_one_of_another_host_is_explained_down_to_that_one() -> None:
    at_a = host_story(A).start("t").end("t", "stuck", error="broke")
    looks = Look("gpu-a", at_a.document(), T0 + 60, True), Look("gpu-b", held(host_story(B)).document(), T0 + 60, True)
    found = on_hosts("u", *looks)
    assert found["waits_for"][1] == "  t on gpu-a: stuck after 1 attempt: broke"
    assert found["roots"] == [
        {"id": "t", "host": "gpu-a", "status": "stuck", "because": "stuck after 1 attempt: broke"}
    ]
    assert found["next"] == [f"look into t: wavequeue why t --run {RUN_ID}, then wavequeue retry t --run {RUN_ID}"]
    text = why.lines(found)
    assert text[0].startswith("u on gpu-b: pending: ")
    assert "root cause: t (stuck on gpu-a)" in text


def test_what_has_to_be_brought_from_another_host_is_reported_with_the_command() -> None:
    looks = [
        Look("gpu-a", host_story(A).complete("t").document("finished"), T0 + 60, False),
        Look("gpu-b", held(host_story(B)).document(), T0 + 60, True),
    ]
    pull = f"copy what other hosts wrote: wavequeue pull --run {RUN_ID}"
    one, after = on_hosts("s", *looks), on_hosts("u", *looks)
    assert one["waits_for"] == ["job t: completed; copied from its host by a pull"]
    assert one["next"] == after["next"] == [pull]
    assert after["waits_for"][1] == "  job t: completed; copied from its host by a pull"
    assert [root["id"] for root in after["roots"]] == ["s"]


def test_a_host_that_is_away_is_reported_with_the_age_of_what_is_known() -> None:
    looks = [
        Look("gpu-a", host_story(A).start("t").document(), T0, reason="no route"),
        Look("gpu-b", held(host_story(B)).document(), T0 + 60, True),
    ]
    found = on_hosts("s", *looks)
    (reasons,) = found["unknown"]
    assert reasons.startswith("gpu-a: unreachable, so its state is unknown: no route; the status shown is 1 m")
    assert f"! {reasons}" in why.lines(found)
    assert found["next"] == ["check gpu-a: wavequeue hosts check gpu-a"]
    assert [root["status"] for root in found["roots"]] == ["running"]


def test_a_job_whose_host_was_never_read_in_full_is_not_known_and_no_fault() -> None:
    made = manifest(*(job(f"t{n}") for n in range(200)), job("s", depends_on=("t150",)))
    parts = Part("gpu-a", tuple(f"t{n}" for n in range(200)), SUBMITTED), Part("gpu-b", ("s",), SUBMITTED)
    looks = [
        Look("gpu-a", overview(host_story(parts[0], made).document()), T0, reason="no route"),
        Look("gpu-b", held(host_story(parts[1], made)).document(), T0 + 60, True),
    ]
    found = on_hosts("s", *looks, made=made, parts=parts)
    assert found["waits_for"] == ["t150: pending: its state on its host is unknown now"]
    assert on_hosts("t150", *looks, made=made, parts=parts)["status"] == "pending"


def test_a_manager_that_died_on_the_host_of_a_job_is_started_again() -> None:
    looks = [
        Look("gpu-a", host_story(A).document(), T0 + 60, False),
        Look("gpu-b", host_story(B).document(), T0 + 60, True),
    ]
    assert on_hosts("t", *looks)["next"] == [f"start the manager again: wavequeue resume --run {RUN_ID}"]


def test_a_job_that_waits_for_cards_shows_who_holds_each() -> None:
    story = Story(manifest(job("a", gpus=1), job("b", gpus=1), job("c", gpus=1, gpu_mem_mib=9000), job("d")))
    story.start("a", 0)
    cards = (
        Card(0, "GPU-0", "A100", 40000, 20000),
        Card(1, "GPU-1", "A100", 10000, 700),
        Card(2, "GPU-2", "A100", 9, 0),
    )
    document = story.document(cards=cards)

    def reasons(name: str) -> list[str]:
        found = why.explain(document, Dependencies(story.manifest), name, [], [], story.at)
        assert not found["cards"] or "the GPUs" in why.lines(found)
        return list(found["cards"])

    used = "held by a process outside wavequeue: 700 MiB used, threshold 500 (gpu_free_threshold_mib)"
    free = "GPU 2: free; it will be assigned at the next check, by priority"
    assert reasons("b") == ["GPU 0: assigned to a", f"GPU 1: {used}", free]
    assert reasons("c") == [
        "GPU 0: 0 of 40000 MiB are available, and 9000 are needed: assigned to a",
        "GPU 1: free; it will be assigned at the next check, by priority",
        "GPU 2: 9 of 9 MiB are available, and 9000 are needed",
    ]
    assert reasons("d") == reasons("a") == []
    for row in document["gpus"]:
        del row["holder"], row["room_mib"]  # as older managers write it
    assert reasons("b") == []


def test_a_job_that_waits_for_a_model_of_gpu_shows_which_are_others() -> None:
    story = Story(manifest(job("a", gpus=1), job("b", gpus=1, gpu_model=("A10", "L4"))))
    story.start("a", 0)
    cards = (Card(0, "GPU-0", "NVIDIA L4", 40000, 20000), Card(1, "GPU-1", "NVIDIA A100", 40000, 3))
    found = why.explain(story.document(cards=cards), Dependencies(story.manifest), "b", [], [], story.at)
    assert found["because"] == "pending: waits for a GPU (A10 or L4) to be free"
    other = "GPU 1: of another model than A10 or L4, which is needed"
    assert found["cards"] == ["GPU 0: assigned to a", other]


def test_a_job_without_cards_shows_none() -> None:
    story = Story(manifest(job("cpu"), job("card", gpus=1)))
    for name, cards in (("cpu", ()), ("card", (0,))):
        story.start(name, *cards).end(name, "stuck", failure="oom", error="out of memory: Killed")
    document = story.document()
    steps = {
        name: why.explain(document, Dependencies(story.manifest), name, [], [], story.at)["next"][0]
        for name in ("cpu", "card")
    }
    assert "GPU" not in steps["cpu"]
    assert "GPU" in steps["card"]


def test_attempts_in_different_environments_name_them() -> None:
    recorded = Story(manifest(job("a", retries=2)))
    recorded.start("a").end("a", "failed_other", failure="crash", environment="uv.lock sha256:1a").tell_retry("a")
    recorded.start("a").end("a", "stuck", failure="crash", environment="uv.lock sha256:1a")
    assert "environment" not in "\n".join(why.lines(explain(recorded, "a")))
    recorded.tell(ev.JobRetried("a")).start("a").end("a", environment="uv.lock sha256:2b")
    text = "\n".join(why.lines(explain(recorded, "a")))
    assert text.count("(environment uv.lock sha256:1a)") == 2
    assert "(environment uv.lock sha256:2b)" in text
