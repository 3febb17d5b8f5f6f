"""What becomes of a rented machine is said in words, from what its own manager wrote."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core import teardown
from queue_manager.core.machine import Instance, MachineReading
from queue_manager.core.teardown import decide, facts_of
from skill.reports.teardown_text import Line, lines
from skill.runs import digest
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Part
from skill.runs.directory import Document
from skill.runs.merge import Look, merge
from skill.runs.state_schema import fault
from skill.terminal import frame
from skill.terminal.frame import Scene
from tests.skill.story import RUN_ID, T0, Story, job, manifest

MADE = manifest(job("a"), when_done="destroy", max_cost=12.5)
READING = MachineReading(container=7, key=True, instance=Instance(7, dph=3600.0, storage_dph=0.01, since=T0), others=())


def described(story: Story, paths: MachineReading = READING) -> Document:
    """The document of the manager on the machine."""
    decision = decide(facts_of(story.state, paths), story.at)
    document = story.document("finished" if story.state.finished else "running")
    document["meta"]["teardown"] = teardown.row(story.state, paths, decision, story.at)
    assert fault(document) is None
    return document


def merged(document: Document | None, state: str = SUBMITTED, **look: Any) -> Document:
    parts = (Part("gpu-a", ("a",), state), Part("desk", (), SUBMITTED))
    assigned = Assigned(RUN_ID, "demo", "sha", "2026-01-01T10:00:00.000Z", "/home/me", parts)
    desk = Story(MADE).document()
    looks = [Look("gpu-a", document, T0, True, **look), Look("desk", desk, T0, True)]
    return merge(assigned, MADE, looks, T0 + 60)


def finished() -> Story:
    return Story(MADE).complete("a").tell(ev.RunFinished())


def test_a_machine_that_works_says_what_is_to_become_of_it_and_what_it_has_cost() -> None:
    story = Story(MADE).start("a")
    assert lines(merged(described(story))) == [
        Line("gpu-a", "keeps running, then when_done: destroy: its jobs are running", "$4.00 so far, $3600.00 an hour")
    ]
    story.tell(ev.BoundReached("max_cost", "the machine has reached its cost limit of $12.50 (max_cost)"))
    (line,) = lines(merged(described(story)))
    assert line.plan.endswith("its jobs are running; the machine has reached its cost limit of $12.50 (max_cost)")


def test_a_machine_that_has_finished_says_what_it_waits_for() -> None:
    (line,) = lines(merged(described(finished())))
    assert line.plan == (
        "waits, then when_done: destroy: the run has finished; its results have not been pulled yet: wavequeue pull"
    )


def test_the_end_of_a_machine_is_reported_when_it_begins_and_when_it_is_confirmed() -> None:
    story = finished()
    story.tell(ev.TeardownStarting("destroy", 7, "the run has finished; all results have been pulled", 6.0))
    (line,) = lines(merged(described(story)))
    assert line.plan == "is being destroyed: the run has finished; all results have been pulled"
    story.tell(ev.TeardownConfirmed("destroy", 7))
    (line,) = lines(merged(described(story)))
    assert (line.plan, line.cost) == ("destroyed and no longer billed", "$8.00 in all")
    story = finished()
    story.tell(ev.TeardownStarting("stop", 7, "no job ran for 20m", 6.0), ev.TeardownConfirmed("stop", 7))
    (line,) = lines(merged(described(story)))
    assert (line.plan, line.cost) == ("stopped; its disk is billed, $0.24 a day", "$8.00 until then")


def test_of_a_machine_that_cannot_be_read_it_is_reported_that_this_was_before() -> None:
    (line,) = lines(merged(described(finished()), reason="no route to host"))
    assert line.plan.startswith("when last read: waits")
    assert line.cost == "$6.00 by then, $3600.00 an hour"


def test_of_a_machine_that_was_to_be_kept_and_cannot_be_read_nothing_is_reported_to_go_on() -> None:
    (line,) = lines(merged(described(Story(MADE).start("a")), reason="no route to host"))
    assert line.plan == "unknown now; when last read, it was to be kept, then when_done: destroy"
    assert line.cost.endswith(" an hour")


def test_a_machine_that_was_given_up_may_still_be_billed() -> None:
    (line,) = lines(merged(described(finished()), LOST))
    assert line.plan == "given up; see whether it is still billed: wavequeue vast instances"
    assert line.cost.startswith("$6.00 by then")


def test_there_is_no_line_for_machines_that_cost_nothing() -> None:
    assert lines(merged(described(Story(MADE), MachineReading()))) == []
    assert lines(merged(None)) == []
    assert lines(Story(MADE).document()) == []


def test_a_price_that_is_not_known_and_a_manager_that_is_older_are_no_hindrance() -> None:
    document = described(Story(MADE).start("a"), replace(READING, instance=None))
    del document["meta"]["teardown"]["when_done"]
    assert lines(merged(document)) == [
        Line("gpu-a", "keeps running, then as the spec says: its jobs are running", "cost unknown")
    ]


def test_the_view_has_a_line_for_it_on_hosts_and_on_this_machine() -> None:
    alone = described(finished())
    for document, name in ((merged(alone), "gpu-a"), (alone, "gpu-a")):
        scene = Scene(document, digest.digest(document), True, T0 + 60, lambda _: "")
        shown = [line.plain for line in frame.frame(scene, 160, None)]
        assert shown[shown.index("rented") + 1].startswith(f" {name}  $6.00 so far, $3600.00 an hour  waits, then")
