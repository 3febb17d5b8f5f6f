"""Jobs whose ladder asks for another host: which go, what they take along, and that they come nearer to the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Phase
from queue_manager.core.recover_policy import Rung, ladder, to_json
from queue_manager.core.requests import Answer, Request
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
from skill.operations import recover_elsewhere, rescue
from skill.planning.rescue_plan import noted
from skill.runs import assignment, remote_requests
from skill.runs.access import Outcome
from skill.runs.assignment import LOST, SUBMITTED, Assigned, Part
from skill.runs.directory import Run
from skill.runs.merge import Look, merge
from skill.runs.remote import RemoteRun
from skill.runs.requests import Asked
from tests.skill.killer import FORK, Killer
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
    found = moved(BEFORE, A, failing(BEFORE, A, (0, 1)), "gpu-b")
    run = Run(RUN_ID, RunPaths.of(tmp_path))
    assignment.write(run, found)
    assert assignment.read(run) == found


# -- killed in between ------------------------------------------------------------------------------------------------

WAITING = manifest(
    job("t1", "teach", recover=to_json((Rung("other_host"),))),
    job("t2", "teach"),
    job("s1", "learn", depends_on=("t1",)),
    phases=(Phase("teach"), Phase("learn")),
)


class Hosts:
    """Hosts of which gpu-a has failed with t1, and gpu-b takes what it is sent: a folder is its inbox. Every message
    is a step of `step`, before it arrives and after."""

    def __init__(self, run: Run, inbox: Path, step: Callable[[], None] = lambda: None) -> None:
        self.run, self.inbox, self.manifest, self._step = run, inbox, WAITING, step
        self.refresh()

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def refresh(self) -> None:
        found = assignment.read(self.run)
        assert found is not None
        self.assigned = found

    def look(self, *, full: bool = False) -> dict[str, Any]:
        assert full
        return self.document()

    def document(self) -> dict[str, Any]:
        story = Story(assignment.part_manifest(WAITING, A._replace(jobs=("t1", "t2", "s1")), RUN_ID)).start("t1")
        story.tell(ev.RecoveryChosen("t1", 1, "oom", 0, "a rung", "out of memory"))
        story.end("t1", "stuck", failure="oom", error="out of memory", due=story.at)
        story.tell(ev.JobBlocked("s1", "t1", "depends on t1, which is stuck"))
        return merge(self.assigned, WAITING, [Look("gpu-a", story.document("finished"), T0), Look("gpu-b", None)], T0)

    def ask(self, requests: dict[str, Request]) -> list[Outcome]:
        found = []
        for name, request in requests.items():
            self._step()
            (self.inbox / request.id).write_text(" ".join(spec.id for spec in request.specs))
            self._step()
            found.append(Outcome(name, Asked(Answer(request.id, True, ""), True), False, ()))
        return found


def moving(monkeypatch: pytest.MonkeyPatch, there: Hosts) -> None:
    """Let `move` find these hosts; that gpu-b can take the jobs is not what is asked here."""

    def at(_run: Run) -> Hosts:
        there.refresh()
        return there

    def shared(made: rescue.Plan, *_more: object) -> rescue.Plan:
        return made._replace(shares={"gpu-b": made.moving.moved})

    monkeypatch.setattr(RemoteRun, "at", at)
    monkeypatch.setattr(rescue, "takers", lambda *_arguments: [Host(Worker("gpu-b"), Path("none"), 1)])
    monkeypatch.setattr(rescue, "shared", shared)
    monkeypatch.setattr(remote_requests, "ask", lambda there, _document, requests, **_more: there.ask(requests))


def move(run: Run) -> recover_elsewhere.Moves:
    return recover_elsewhere.move(run, (), None, lambda _made: None, lambda _text: None)


def _until(killer: Killer, monkeypatch: pytest.MonkeyPatch, run: Run, inbox: Path) -> None:
    killer.watch_writes()
    moving(monkeypatch, Hosts(run, inbox, killer.step))
    move(run)


def test_killed_at_any_step_a_move_by_the_ladder_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command, or the next check of babysit, ends what was begun; and the host gets nothing twice."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)
    at = 0
    while True:
        at += 1
        run, inbox = Run(RUN_ID, RunPaths.of(tmp_path / f"{at}")), tmp_path / f"inbox-{at}"
        inbox.mkdir()
        run.root.mkdir()
        assignment.write(run, BEFORE._replace(parts=(A._replace(jobs=("t1", "t2", "s1")), B)))
        process = FORK.Process(target=_until, args=(Killer(at), monkeypatch, run, inbox))
        process.start()
        process.join(60)
        moving(monkeypatch, Hosts(run, inbox))
        move(run)
        found = assignment.read(run)
        assert found is not None
        a, b = found.part("gpu-a"), found.part("gpu-b")
        assert (a.state, a.own(), b.own(), b.rungs) == (SUBMITTED, ("t2",), ("t1", "s1"), {"t1": 0})
        assert [batch.sent for batch in b.batches] == [True]
        assert [file.read_text() for file in inbox.iterdir()] == ["t1 s1"]
        assert move(run).plans == (), "nothing is left to do"
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert at > 6, "it was killed before, between and after what it writes and sends"
