"""One document of many hosts."""

from __future__ import annotations

import copy
import io
import json
import time
from typing import Any

import pytest
from rich.console import Console

from queue_manager.core.manifest import Manifest, Phase
from queue_manager.core.overview import MOST_PENDING, overview
from queue_manager.core.readings import Card
from queue_manager.core.state_format import FORMAT
from skill.runs import digest
from skill.runs.assignment import LOST, PLANNED, SUBMITTED, Assigned, Part, part_manifest
from skill.runs.directory import Document, parse_state
from skill.runs.merge import Look, merge
from skill.runs.state_schema import fault
from skill.terminal import frame
from tests.skill.story import RUN_ID, T0, Story, job, manifest

WHOLE = manifest(
    job("t1", "teach"),
    job("t2", "teach", gpus=1),
    job("s1", "learn", depends_on=("t1",)),
    job("s2", "learn", depends_on=("t2",), gpus=1),
    job("s3", "learn", depends_on=("t2",), gpus=1),
    phases=(Phase("teach"), Phase("learn", ("teach",), ("N",))),
)
A = Part("gpu-a", ("t1", "s1"), SUBMITTED, cwd="wavequeue/demo", pid=4711)
B = Part("gpu-b", ("t2", "s2", "s3"), SUBMITTED, cwd="wavequeue/demo")
CARD = Card(0, "GPU-0", "NVIDIA H100", 81920, 3)
NOW = T0 + 60


def assigned(*parts: Part) -> Assigned:
    return Assigned(
        RUN_ID,
        "demo",
        "sha",
        "2026-01-01T10:00:00.000Z",
        "/home/me",
        parts or (A, B),
        {"gpu-a": "2026-01-01T10:00:30.000Z"},
    )


def story_of(part: Part, made: Manifest = WHOLE) -> Story:
    return Story(part_manifest(made, part, RUN_ID))


def both(**b: Any) -> Document:
    """gpu-a has completed t1 and runs s1; gpu-b runs t2. `b` changes the look at gpu-b."""
    at_a = Look("gpu-a", story_of(A).complete("t1").start("s1").document(), NOW - 1, True)
    at_b = Look("gpu-b", story_of(B).start("t2", 0).document(cards=(CARD,)), NOW - 5, True)
    return merge(assigned(), WHOLE, [at_b._replace(**b), at_a], NOW)


def test_counts_phases_jobs_and_cards_of_all_hosts_are_one_document() -> None:
    document = both()
    assert [(row["id"], row["host"], row["status"]) for row in document["jobs"]] == [
        ("t1", "gpu-a", "completed"),
        ("t2", "gpu-b", "running"),
        ("s1", "gpu-a", "running"),
        ("s2", "gpu-b", "pending"),
        ("s3", "gpu-b", "pending"),
    ]
    assert document["counts"] == {"completed": 1, "pending": 2, "running": 2}
    assert [(row["name"], row["status"], row["jobs"], row["counts"]) for row in document["phases"]] == [
        ("teach", "running", 2, {"completed": 1, "running": 1}),
        ("learn", "running", 3, {"pending": 2, "running": 1}),
    ]
    assert [(row["host"], row["index"], row["jobs"]) for row in document["gpus"]] == [("gpu-b", 0, ["t2"])]
    meta = document["meta"]
    assert (meta["manager"], meta["run_id"], meta["conditions"]) == ("running", RUN_ID, [])
    assert (meta["started"], meta["updated"]) == ("2026-01-01T10:00:00.000Z", "2026-01-01T10:00:59.000Z")
    assert [(row["name"], row["manager"], row["age_s"], row["reachable"], row["jobs"]) for row in meta["hosts"]] == [
        ("gpu-a", "running", 1.0, True, 2),
        ("gpu-b", "running", 5.0, True, 3),
    ]
    assert [row["last_pull"] for row in meta["hosts"]] == ["2026-01-01T10:00:30.000Z", None]


def test_it_has_all_that_the_document_of_one_host_has() -> None:
    one = story_of(A).complete("t1").document()
    document = both(document=None)
    assert set(document) == set(one)
    assert set(document["meta"]) == {*one["meta"], "hosts"}
    for row in document["jobs"]:
        assert set(row) == {*one["jobs"][0], "host"}
    for row in document["phases"]:
        assert set(row) == set(one["phases"][0])
    assert parse_state(json.dumps(document).encode()) == document


def test_jobs_of_a_host_that_was_never_read_are_pending_and_say_so() -> None:
    document = both(document=None, at=None, alive=None, reason="connection refused")
    rows = [row for row in document["jobs"] if row["host"] == "gpu-b"]
    assert [(row["id"], row["status"], row["waiting"]) for row in rows] == [
        (name, "pending", "host gpu-b has not been read yet") for name in ("t2", "s2", "s3")
    ]
    host = document["meta"]["hosts"][1]
    assert (host["manager"], host["age_s"], host["reachable"], host["reason"]) == (
        None,
        None,
        False,
        "connection refused",
    )
    assert document["counts"] == {"completed": 1, "pending": 3, "running": 1}


def test_an_unreachable_host_keeps_its_last_state_and_its_age_is_reported() -> None:
    document = both(reason="no route to host", alive=None, at=NOW - 300)
    assert document["meta"]["manager"] == "running"
    assert document["jobs"][1]["status"] == "running"
    (line,) = digest.problems(document, True)
    assert line.startswith("gpu-b: unreachable, so its state is unknown: no route to host; the status shown is 5 min")


def test_a_manager_that_died_beside_one_that_lives_is_reported() -> None:
    document = both(alive=False)
    assert (document["meta"]["manager"], document["meta"]["hosts"][1]["manager"]) == ("running", "died")
    (line,) = digest.problems(document, True)
    what = "the manager (process 4711) has died; it is unknown whether its running jobs continue"
    assert line.startswith(f"gpu-b: {what}. Start it again: wavequeue resume")


MANAGERS = {
    "running": ("running", True),
    "unreachable": ("running", None),
    "died": ("running", False),
    "halted": ("halted", False),
    "finished": ("finished", False),
}


@pytest.mark.parametrize(
    ("a", "b", "whole"),
    [
        ("running", "running", "running"),
        ("running", "died", "running"),
        ("unreachable", "died", "running"),
        ("finished", "running", "running"),
        ("finished", "unreachable", "running"),
        ("finished", "finished", "finished"),
        ("finished", "died", "halted"),
        ("halted", "died", "halted"),
        ("halted", "finished", "halted"),
    ],
)
def test_the_run_goes_on_as_long_as_one_host_may_and_ends_when_all_have(a: str, b: str, whole: str) -> None:
    looks = []
    for part, state in ((A, a), (B, b)):
        manager, alive = MANAGERS[state]
        looks.append(Look(part.host, story_of(part).document(manager), NOW, alive))
    assert merge(assigned(), WHOLE, looks, NOW)["meta"]["manager"] == whole


@pytest.mark.parametrize(
    ("state", "alive", "whole"),
    [(SUBMITTED, None, "running"), (SUBMITTED, False, "halted"), (PLANNED, None, "halted"), (PLANNED, True, "running")],
)
def test_a_host_that_was_never_read_may_be_at_work_if_it_was_given_its_jobs(
    state: str, alive: bool | None, whole: str
) -> None:
    document = merge(assigned(A._replace(state=state)), WHOLE, [Look("gpu-a", None, None, alive)], NOW)
    assert document["meta"]["manager"] == whole


def test_a_lost_host_does_not_keep_the_run_from_its_end_and_moved_jobs_show_where_they_are_now() -> None:
    lost = A._replace(jobs=("t1", "s1"), state=LOST, moved=("s1",))
    heir = B._replace(jobs=(*B.jobs, "s1"))
    left = story_of(A).complete("t1").start("s1").document()
    done = story_of(B._replace(jobs=(*B.jobs, "s1"))).complete("t2", "s2", "s3", "s1").document("finished")
    for document in (left, overview(left)):
        merged = merge(
            assigned(lost, heir),
            WHOLE,
            [Look("gpu-a", document, NOW - 900, None, "gone"), Look("gpu-b", done, NOW, False)],
            NOW,
        )
        assert merged["counts"] == {"completed": 5}
        assert [row["host"] for row in merged["jobs"] if row["id"] == "s1"] == ["gpu-b"]
        assert merged["meta"]["manager"] == "finished"
        assert digest.problems(merged, False) == []
        assert sum(row["jobs"] for row in merged["phases"]) == 5


def test_overviews_merge_into_an_overview_with_the_counts_of_all_jobs() -> None:
    jobs = [job(f"{host}{n:03}") for n in range(100) for host in "ab"]
    made = manifest(*jobs)
    parts = [Part(f"gpu-{host}", tuple(one.id for one in jobs if one.id[0] == host), SUBMITTED) for host in "ab"]
    stories = [story_of(part, made).complete(*part.jobs[:20]).start(part.jobs[20]) for part in parts]
    full = [Look(part.host, one.document(), NOW, True) for part, one in zip(parts, stories, strict=True)]
    short = [look._replace(document=overview(look.document or {})) for look in full]
    want, got = merge(assigned(*parts), made, full, NOW), merge(assigned(*parts), made, short, NOW)
    assert got["counts"] == want["counts"] == {"completed": 40, "pending": 158, "running": 2}
    assert (got["phases"], got["meta"]["hosts"]) == (want["phases"], want["meta"]["hosts"])
    assert (got["overview"], got["jobs_total"], "overview" in want) == (True, 200, False)
    assert [row["id"] for row in got["jobs"]] == [f"{host}{n:03}" for n in range(71) for host in "ab"]
    unread = merge(assigned(*parts), made, [short[0], Look("gpu-b", None)], NOW)
    assert unread["counts"] == {"completed": 20, "pending": 179, "running": 1}
    assert sum(row["host"] == "gpu-b" for row in unread["jobs"]) == MOST_PENDING


def test_a_job_added_on_a_host_is_shown_and_one_of_another_host_is_not_believed() -> None:
    more = manifest(*WHOLE.jobs, job("new", "late"), phases=(*WHOLE.phases, Phase("late")))
    claims = story_of(A._replace(jobs=("t1", "s1", "s2", "new")), more).complete("t1", "new").document()
    document = merge(
        assigned(), WHOLE, [Look("gpu-a", claims, NOW, True), Look("gpu-b", story_of(B).document(), NOW, True)], NOW
    )
    where = [(row["id"], row["host"]) for row in document["jobs"]]
    assert where == [
        ("t1", "gpu-a"), ("t2", "gpu-b"), ("s1", "gpu-a"), ("s2", "gpu-b"), ("s3", "gpu-b"), ("new", "gpu-a"),
    ]  # fmt: skip
    assert document["phases"][-1]["name"] == "late"


def test_a_job_that_waits_for_another_host_says_for_what() -> None:
    split = (A._replace(jobs=("t1", "s1", "t2")), B._replace(jobs=("s2", "s3")))
    document = story_of(split[1]).document()
    mark = part_manifest(WHOLE, split[1], RUN_ID).jobs[0].preconditions[0].path
    document["jobs"][0]["waiting"] = f"waits for a precondition: there is no {mark}"
    merged = merge(assigned(*split), WHOLE, [Look("gpu-b", document, NOW, True)], NOW)
    (row,) = [row for row in merged["jobs"] if row["id"] == "s2"]
    assert (row["waiting"], row["depends_on"]) == ("waits for outputs of other hosts: job t2", ["t2"])


BROKEN: list[tuple[str, tuple[Any, ...], Any]] = [
    ("meta.pid: expected int | null, got str", ("meta", "pid"), "x"),
    ("meta.manager: invalid enum value 'gone'", ("meta", "manager"), "gone"),
    ("meta.updated: is not a time: yesterday", ("meta", "updated"), "yesterday"),
    ("phases: expected array, got null", ("phases",), None),
    ("phases[0].counts[...]: expected int >= 0", ("phases", 0, "counts"), {"completed": -1}),
    ("gpus[0].note: expected str, got int", ("gpus", 0, "note"), 3),
    ("jobs[0]: expected object, got int", ("jobs", 0), 7),
    ("jobs[0].status: invalid enum value 'won'", ("jobs", 0, "status"), "won"),
    (r"jobs[0].started: is not a time: \x1b[2J", ("jobs", 0, "started"), "\x1b[2J"),
    (
        "meta.teardown.cost_usd: expected float | null, got str",
        ("meta", "teardown"),
        {"plan": "stop", "cost_usd": "much"},
    ),
    ("meta.teardown: expected object | null, got array", ("meta", "teardown"), ["stop"]),
    ("jobs[0].started: is not a time: 2026-13-45T99:99:99Z", ("jobs", 0, "started"), "2026-13-45T99:99:99Z"),
    ("jobs[0].completed: is not a time: 2026-02-30T10:00:00Z", ("jobs", 0, "completed"), "2026-02-30T10:00:00Z"),
    ("gpus[0].used_mib: expected int | null, got str", ("gpus", 0, "used_mib"), "3"),
    ("jobs[0].exit_code: expected int <= 9007199254740992", ("jobs", 0, "exit_code"), 1 << 60),
    ("jobs[0].gpus[0]: expected int, got null", ("jobs", 0, "gpus"), [None]),
    ("jobs: expected array, got object", ("jobs",), {}),
    ("jobs_total is missing", ("overview",), True),
    ("jobs[0].id: expected str, got array", ("jobs", 0, "id"), ["t1"]),
]


@pytest.mark.parametrize(("words", "keys", "value"), BROKEN)
def test_what_is_no_state_is_not_believed(words: str, keys: tuple[Any, ...], value: Any) -> None:
    document = story_of(B).start("t2", 0).document(cards=(CARD,))
    assert fault(document) is None
    broken = copy.deepcopy(document)
    inner: Any = broken
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    assert fault(broken) == words
    merged = merge(assigned(), WHOLE, [Look("gpu-b", broken, NOW, True)], NOW)
    assert merged["meta"]["hosts"][1]["reason"] == f"what it sent is not a state of a run ({words})"
    assert merged["counts"] == {"pending": 5}


def test_every_view_of_one_host_shows_a_merged_document() -> None:
    document = both(reason="no route to host", alive=None)
    scene = frame.Scene(document, digest.digest(document), True, NOW, lambda _: "epoch 3")
    console = Console(width=120, record=True, file=io.StringIO())
    for line in [*frame.frame(scene, 120, None), *frame.jobs_table(document["jobs"], 120, NOW)]:
        console.print(line)
    text = console.export_text()
    assert "running, 1 of 5 jobs completed" in text
    assert "gpu-b: unreachable" in text


def test_80_000_jobs_of_8_hosts_merge_at_once() -> None:
    jobs = [job(f"j{n}") for n in range(80_000)]
    made = manifest(*jobs)
    parts = [Part(f"h{n}", tuple(one.id for one in jobs[n::8]), SUBMITTED) for n in range(8)]
    one = story_of(parts[0], made).document()
    looks = []
    for part in parts:
        rows = [{**row, "id": name} for row, name in zip(one["jobs"], part.jobs, strict=True)]
        looks.append(Look(part.host, {**one, "jobs": rows}, NOW, True))
    begin = time.process_time()
    document = merge(assigned(*parts), made, looks, NOW)
    took = time.process_time() - begin
    assert [row["id"] for row in document["jobs"]] == [one.id for one in jobs]
    assert took < 15, f"{took:.2f} s"
    assert document["meta"]["format"] == FORMAT
