"""Jobs whose ladder asks for another host: which go, what they take along, and that they come nearer to the end."""

from __future__ import annotations

from typing import Any

from queue_manager.core import events as ev
from queue_manager.core.manifest import Phase
from queue_manager.core.recover_policy import Rung, ladder, to_json
from skill.operations import recover_elsewhere
from skill.planning.rescue_plan import noted
from skill.runs import assignment
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Part
from skill.runs.merge import Look, merge
from tests.skill.story import RUN_ID, T0, Story, job, manifest

RUNGS = (
    Rung("args", "train --bs 16", arg="bs", value="16", was="32"),
    Rung("other_host"),
    Rung("args", "train --bs 8", arg="bs", value="8", was="16"),
    Rung("other_host"),
)
MADE = manifest(
    job("t1", "teach", recover=to_json(RUNGS)),
    job("t2", "teach"),
    job("s1", "learn", depends_on=("t1",)),
    job("s2", "learn", depends_on=("t2",)),
    job("end", "last"),
    phases=(Phase("teach"), Phase("learn", ("teach",), match=("n",)), Phase("last", ("learn",))),
)
A = Part("gpu-a", ("t1", "t2", "s1", "s2", "end"), SUBMITTED, "w", "w/code", "1f")
B = Part("gpu-b", (), SUBMITTED, "w", "w/code", "2e")
BEFORE = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", (A, B))


def failing(found: Assigned, part: Part, steps: tuple[int, ...]) -> dict[str, Any]:
    """The run as it is read once t1 has taken these rungs of what its host knows of the ladder, and is stuck."""
    story = Story(assignment.part_manifest(MADE, part._replace(batches=()), RUN_ID)).start("t1")
    for n, rung in enumerate(steps, 1):
        story.tell(ev.RecoveryChosen("t1", n, "oom", rung, "a rung", "out of memory"))
        stuck = rung == steps[-1]
        story.end("t1", "stuck" if stuck else "failed_oom", failure="oom", error="out of memory", due=story.at)
        if not stuck:
            story.tell_retry("t1").start("t1")
    story.tell(*(ev.JobBlocked(name, "t1", "depends on t1, which is stuck") for name in ("s1", "end")))
    return merge(found, MADE, [Look(part.host, story.document("finished"), T0)], T0)


def moved(found: Assigned, part: Part, document: dict[str, Any], to: str) -> Assigned:
    rungs = recover_elsewhere.rungs(MADE, part, document["jobs"], ["t1"])
    statuses = {row["id"]: row["status"] for row in document["jobs"]}
    jobs = recover_elsewhere.with_waiters(MADE, part, ["t1"], statuses)
    return noted(found, part.host, jobs, {to: jobs}, {}, state=SUBMITTED, rungs=rungs)


def test_a_job_goes_with_those_that_wait_for_it_and_its_host_keeps_the_others() -> None:
    document = failing(BEFORE, A, (0, 1))
    assert recover_elsewhere.asking(document) == {"gpu-a": ["t1"]}
    found = moved(BEFORE, A, document, "gpu-b")
    a, b = found.part("gpu-a"), found.part("gpu-b")
    assert (a.state, a.own()) == (SUBMITTED, ("t2", "s2"))
    assert (b.own(), b.rungs) == (("t1", "s1", "end"), {"t1": 1})
    assert b.batches[0].id.startswith("recover-")


def test_it_takes_along_what_was_changed_and_the_rungs_that_are_left() -> None:
    found = moved(BEFORE, A, failing(BEFORE, A, (0, 1)), "gpu-b")
    request = assignment.batch_request(MADE, found.part("gpu-b"), 0, RUN_ID)
    sent = {spec.id: spec for spec in request.specs}
    assert sent["t1"].cmd == "train --bs 16"
    assert ladder(sent["t1"].recover) == RUNGS[2:]
    assert sent["s1"].cmd == MADE.jobs[2].cmd


def test_moved_again_it_has_come_further_and_nothing_is_left() -> None:
    c = Part("gpu-c", (), SUBMITTED, "w", "w/code", "3d")
    found = moved(BEFORE.with_part(c), A, failing(BEFORE, A, (0, 1)), "gpu-b")
    b = found.part("gpu-b")
    found = moved(found, b, failing(found, b, (0, 1)), "gpu-c")
    assert found.part("gpu-c").rungs == {"t1": 3}
    (spec,) = [one for one in assignment.batch_request(MADE, found.part("gpu-c"), 0, RUN_ID).specs if one.id == "t1"]
    assert (spec.cmd, spec.recover) == ("train --bs 8", None)


def test_a_host_that_is_given_up_hands_on_how_far_its_jobs_have_come() -> None:
    found = moved(BEFORE, A, failing(BEFORE, A, (0, 1)), "gpu-b")
    found = noted(found, "gpu-b", ("t1",), {"gpu-c": ("t1",)}, {"gpu-c": Part("gpu-c", ("t1",))})
    assert found.part("gpu-b").state == LOST
    assert found.part("gpu-c").rungs == {"t1": 1}
    assert assignment.part_manifest(MADE, found.part("gpu-c"), RUN_ID).jobs[0].cmd == "train --bs 16"


def test_what_completes_on_another_host_has_recovered() -> None:
    found = moved(BEFORE, A, failing(BEFORE, A, (0, 1)), "gpu-b")
    story = Story(assignment.part_manifest(MADE, B._replace(jobs=("t1", "s1", "end")), RUN_ID)).complete("t1", "s1")
    rows = {row["id"]: row for row in merge(found, MADE, [Look("gpu-b", story.document(), T0)], T0)["jobs"]}
    assert (rows["t1"]["outcome"], rows["s1"]["outcome"]) == ("recovered", None)


def test_how_far_a_job_has_come_is_kept_in_hosts_json(tmp_path: Any) -> None:
    from queue_manager.core.layout import RunPaths
    from skill.runs.directory import Run

    found = moved(BEFORE, A, failing(BEFORE, A, (0, 1)), "gpu-b")
    run = Run(RUN_ID, RunPaths.of(tmp_path))
    assignment.write(run, found)
    assert assignment.read(run) == found
