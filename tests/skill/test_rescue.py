"""What becomes of a lost host's jobs, what the hosts that get them are sent, and when a host is silent for too long."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.manifest import Phase, graph_faults
from queue_manager.core.overview import overview
from skill.planning.assign_jobs import Offer
from skill.planning.rescue_plan import GAP, Moving, Silence, moving, noted, statuses, weighed
from skill.runs import assignment
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Batch, Part
from skill.runs.merge import Look, merge
from tests.skill.story import RUN_ID, T0, Story, job, manifest

MADE = manifest(
    job("t1", "teach", expected_output="t1.pt"),
    job("t2", "teach", expected_output="t2.pt"),
    job("note", "teach"),
    job("s1", "learn", depends_on=("t1",)),
    job("s2", "learn", depends_on=("teachers",)),
    job("end", "last"),
    phases=(Phase("teach"), Phase("learn", ("teach",), match=("n",)), Phase("last", ("learn",))),
    groups={"teachers": ("t1", "t2")},
)
A = Part("gpu-a", ("s1", "end"), SUBMITTED, "w", "w/code", "1f")
B = Part("gpu-b", ("t1", "t2", "note", "s2"), SUBMITTED, "w", "w/code", "2e")
BEFORE = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", (A, B))
AFTER = noted(BEFORE, "gpu-b", ("t2", "s2"), {"gpu-a": ("t2", "s2")}, {})


def test_only_what_is_missing_is_run_again() -> None:
    known = {"t1": "completed", "t2": "completed", "note": "completed", "s2": "running"}
    assert moving(MADE, B, known, {"t1"}) == Moving(("t2", "s2"), ("t2",), ("t1", "note"))
    assert moving(MADE, B, {}, {"t1"}).moved == B.jobs, "of what was never read nothing is concluded"
    assert moving(MADE, B, dict.fromkeys(B.jobs, "stuck"), ()).moved == B.jobs
    assert moving(MADE, B._replace(jobs=("added", "t1")), {}, ()) == Moving(("t1",), unknown=("added",))


def test_what_was_cancelled_stays_so_with_all_that_waits_for_it() -> None:
    known = {"t1": "completed", "t2": "cancelled", "s2": "blocked"}
    assert moving(MADE, B, known, {"t1"}) == Moving(("note",), (), ("t1",), ("t2", "s2"))


def test_the_newest_that_was_read_counts_and_what_completed_stays_completed() -> None:
    story = Story(assignment.part_manifest(MADE, B, RUN_ID))
    first = story.complete("note").start("t1").document()
    story.end("t1", "stuck").complete("t2")
    last = {"t1": "stuck", "t2": "completed", "note": "completed", "s2": "pending"}
    assert statuses(B, [story.document(), first]) == last
    short = overview(story.document())
    short["jobs"] = [row for row in short["jobs"] if row["status"] != "completed"]
    assert statuses(B, [short])["t2"] == "completed", "with all that waits told, what is left out has completed"
    short["counts"]["pending"] = 51
    assert "t2" not in statuses(B, [short])


def test_what_goes_where_is_noted_once_and_for_all() -> None:
    lost, taker = AFTER.part("gpu-b"), AFTER.part("gpu-a")
    assert (lost.state, lost.moved, lost.own()) == (LOST, ("t2", "s2"), ("t1", "note"))
    assert (taker.own(), taker.first()) == (("s1", "end", "t2", "s2"), ("s1", "end"))
    assert taker.batches == (Batch(taker.batches[0].id, ("t2", "s2")),)
    assert noted(BEFORE, "gpu-b", ("t2", "s2"), {"gpu-a": ("t2", "s2")}, {}) == AFTER
    fresh = noted(BEFORE, "gpu-b", ("t2",), {"gpu-c": ("t2",)}, {"gpu-c": Part("gpu-c", ("t2",))})
    assert fresh.host_of()["t2"] == "gpu-c"
    again = noted(AFTER.with_part(Part("gpu-c", ("x",))), "gpu-c", ("x",), {"gpu-a": ("x",)}, {})
    assert len({batch.id for batch in again.part("gpu-a").batches}) == 2


def test_a_batch_waits_for_what_is_elsewhere_by_marks_of_its_own() -> None:
    taker = AFTER.part("gpu-a")
    request = assignment.batch_request(MADE, taker, 0, RUN_ID)
    t2, s2 = request.specs
    assert (t2.id, t2.depends_on, t2.preconditions) == ("t2", (), ())
    (group,) = request.groups
    assert (s2.depends_on, request.groups[group]) == ((group,), ("t2",))
    assert group not in MADE.groups, "the host may know one of that name, with the jobs that it had"
    marks = {mark.path: mark.jobs for mark in assignment.marks(MADE, taker, RUN_ID)}
    (waits,) = s2.preconditions
    assert waits.type == "carried"
    assert marks.pop(waits.path or "") == ("t1",)
    # What its first jobs wait for they still wait for by the old marks, though some of it is here now.
    old = assignment.part_manifest(MADE, A, RUN_ID)
    assert {one.path for spec in old.jobs for one in spec.preconditions} == marks.keys()
    assert sorted(marks.values()) == [("s2",), ("t1",)]
    there = old._replace(jobs=(*old.jobs, *request.specs), groups={**old.groups, **request.groups})
    assert graph_faults(there.phases, there.groups, there.jobs) == []


@pytest.mark.parametrize("short", [False, True])
def test_a_moved_job_is_pending_until_its_new_host_has_it_and_the_run_goes_on(short: bool) -> None:
    story = Story(assignment.part_manifest(MADE, A, RUN_ID)).complete("s1", "end")

    def merged(assigned: Assigned, document: dict[str, Any]) -> dict[str, Any]:
        shown = overview(document) if short else document
        looks = [Look("gpu-a", shown, T0, alive=False), Look("gpu-b", None, reason="gone")]
        return merge(assigned, MADE, looks, T0)

    before = merged(AFTER, story.document("finished"))
    rows = {row["id"]: (row["host"], row["status"]) for row in before["jobs"]}
    assert (rows["t2"], rows["s2"]) == (("gpu-a", "pending"), ("gpu-a", "pending"))
    assert before["counts"] == {"completed": 2, "pending": 4}
    assert before["meta"]["manager"] == "halted", "nobody brings them by himself"
    (condition,) = before["meta"]["conditions"]
    assert "gpu-a: 2 jobs that were moved to it were not sent there yet" in condition["text"]
    host = before["meta"]["hosts"][1]
    assert (host["state"], host["moved"], host["jobs"]) == (LOST, 2, 2)
    taker = AFTER.part("gpu-a")
    sent = AFTER.with_part(taker._replace(batches=(taker.batches[0]._replace(sent=True),)))
    assert merged(sent, story.document("finished"))["meta"]["manager"] == "running", "what was read is of before"


def test_who_has_much_to_do_yet_gets_less() -> None:
    hosts = [{"name": "gpu-a", "counts": {"running": 10, "pending": 20, "completed": 99}}, {"name": "b", "counts": {}}]
    offers = weighed([Offer("gpu-a", speed=2.0), Offer("b"), Offer("new")], hosts, 10)
    assert [offer.speed for offer in offers] == [0.5, 1.0, 1.0]


def row(name: str, *, up: bool, state: str = SUBMITTED) -> dict[str, Any]:
    reason = None if up else "refused the connection"
    return {"name": name, "state": state, "reachable": up, "answered": False, "reason": reason}


def test_a_host_is_silent_only_while_another_answers() -> None:
    one = [row("a", up=True), row("b", up=False), row("c", up=False, state=LOST)]
    silence = Silence().next(one, 100.0).next(one, 130.0)
    assert silence.due(30.0) == ["b"]
    assert silence.due(31.0) == []
    assert silence.next([row("a", up=True), row("b", up=True)], 140.0).due(0.0) == []
    cut = [row("a", up=False), row("b", up=False), row("c", up=True, state=LOST)]
    back = silence.next(cut, 131.0).next(one, 132.0)
    assert back.due(1.0) == [], "our own network was cut: the time before counts no more"
    assert back.due(0.0) == ["b"]
    assert silence.next(one, 130.0 + GAP + 1).due(30.0) == [], "nobody has looked for a while"
