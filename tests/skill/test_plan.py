"""What a spec would run, as a document and for people."""

from __future__ import annotations

import re
from typing import Any

import pytest

from build_manifest import build
from queue_manager.core.manifest import Phase
from skill.planning import plan
from skill.planning.plan import Machine
from skill.runs.dependencies import Dependencies
from tests.skill.story import Story, job, manifest

TWO_CARDS = Machine("gpu-a", 8, (81920, 81920))
NO_CARD = Machine("laptop", 4, ())

SPEC = """
project: dllm_distill
max_parallel: 8
phases:
  - name: train_teachers
    grid: {N: [384, 512]}
    template:
      id: "teacher_N${N}"
      cmd: python train.py --n_hidden ${N}
      expected_output: "ckpt/teacher_N${N}.pt"
  - name: distill
    depends_on: train_teachers
    match: [N]
    grid:
      N: [384, 512]
      seed: [42, 200, 201]
    exclude: [{N: 512, seed: 201}]
    template:
      id: "s${seed}_N${N}"
      cmd: python distill.py --n_hidden ${N} --seed ${seed}
      gpu_mem_mib: 9000
      expected_output: "figures/distill_N${N}_seed${seed}.json"
"""


def test_teachers_and_students_are_planned_with_their_own_teacher() -> None:
    document = plan.plan(build(SPEC, "spec.yaml").manifest, TWO_CARDS, {}, ["a warning"])
    assert {row["id"]: row["depends_on"] for row in document["jobs"]} == {
        "teacher_N384": [],
        "teacher_N512": [],
        "s42_N384": ["teacher_N384"],
        "s200_N384": ["teacher_N384"],
        "s201_N384": ["teacher_N384"],
        "s42_N512": ["teacher_N512"],
        "s200_N512": ["teacher_N512"],
    }
    teachers, students = document["phases"]
    assert (teachers["jobs"], teachers["depends_on"], teachers["match"], teachers["at_once"]) == (2, [], [], 2)
    assert (students["jobs"], students["depends_on"], students["match"]) == (5, ["train_teachers"], ["N"])
    assert students["at_once"] == 5, "nine fit on each GPU, and there are five"
    assert students["gpu_mem_mib"] == [9000]
    assert document["totals"] == {
        "jobs": 7, "edges": 5, "resolved": True, "most_cards": 1, "at_once": 5, "seconds": None, "cost": None,
    }  # fmt: skip
    assert document["warnings"] == ["a warning"]


def test_a_phase_without_match_waits_for_every_job_of_the_other() -> None:
    made = manifest(job("t1", "a"), job("t2", "a"), job("s", "b"), phases=(Phase("a"), Phase("b", ("a",))))
    row = plan.plan(made, NO_CARD, {}, [])["jobs"][2]
    assert (row["waits_for"], row["depends_on"]) == (["a"], ["t1", "t2"])


def test_groups_are_resolved_and_nothing_is_named_twice() -> None:
    made = manifest(job("t1"), job("t2"), job("s", depends_on=("g", "t2")), groups={"g": ("t1", "t2")})
    row = plan.plan(made, NO_CARD, {}, [])["jobs"][2]
    assert (row["waits_for"], row["depends_on"]) == (["g", "t2"], ["t1", "t2"])


def test_too_many_pairs_are_named_by_their_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_EDGES", 5)
    jobs = [*(job(f"t{n}", "a") for n in range(3)), *(job(f"s{n}", "b") for n in range(2))]
    made = manifest(*jobs, phases=(Phase("a"), Phase("b", ("a",))))
    assert Dependencies(made).edges() == 6
    document = plan.plan(made, NO_CARD, {}, [])
    assert document["totals"]["resolved"] is False
    assert document["jobs"][4]["waits_for"] == ["a"]
    assert not any("depends_on" in row for row in document["jobs"])


@pytest.mark.parametrize(
    ("fields", "most", "machine", "at_once"),
    [
        ({"gpus": 0}, None, NO_CARD, 4),
        ({"gpus": 0}, 9, NO_CARD, 9),
        ({"gpus": 1}, None, TWO_CARDS, 2),
        ({"gpus": 2}, None, TWO_CARDS, 1),
        ({"gpus": 3}, None, TWO_CARDS, 0),
        ({"gpus": 1, "gpu_mem_mib": 20000}, None, TWO_CARDS, 8),
        ({"gpus": 1, "gpu_mem_mib": 20000}, 3, TWO_CARDS, 3),
        ({"gpus": 1}, 8, NO_CARD, 0),
    ],
)
def test_how_many_run_at_once(fields: dict[str, Any], most: int | None, machine: Machine, at_once: int) -> None:
    made = manifest(*(job(f"j{n}", **fields) for n in range(20)), max_parallel=most)
    assert plan.plan(made, machine, {}, [])["phases"][0]["at_once"] == at_once


def test_the_time_comes_from_what_earlier_runs_took() -> None:
    made = manifest(*(job(f"j{n}", "a") for n in range(8)), job("last", "b"))
    earlier = Story(made).complete("j0", "j1", "last").start("j2").end("j2", "stuck", error="broke")
    known = plan.history([earlier.document()])
    assert {phase: count for phase, (_, count) in known.items()} == {"a": 2, "b": 1}
    document = plan.plan(made, NO_CARD, {"a": (10.0, 2), "b": (5.0, 1)}, [])
    assert document["totals"]["seconds"] == 25.0, "eight at four a time, then one"
    text = "\n".join(line.plain for line in plan.lines(document, NO_CARD, 200))
    assert "how long: about 25.0 s, from 3 jobs of earlier runs" in text


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({}, "unknown: no run of this project yet"),
        ({"a": (1.0, 1)}, "unknown: no job of b has completed in an earlier run"),
        ({"a": (1.0, 1), "b": (1.0, 1)}, "unknown: this machine cannot run all phases"),
    ],
)
def test_a_time_that_is_not_known_is_not_made_up(known: dict[str, tuple[float, int]], says: str) -> None:
    made = manifest(job("x", "a"), job("y", "b", gpus=1))
    document = plan.plan(made, NO_CARD, known, [])
    assert document["totals"]["seconds"] is None
    assert f"how long: {says}" in [line.plain for line in plan.lines(document, NO_CARD, 200)]


def test_lines_tell_phases_jobs_machine_and_cost() -> None:
    document = plan.plan(build(SPEC, "spec.yaml").manifest, TWO_CARDS, {}, [])
    lines = [line.plain for line in plan.lines(document, TWO_CARDS, 200)]
    assert lines[0] == "dllm_distill: 7 jobs in 2 phases"
    assert re.search(r"distill +5  train_teachers with its N  1 x 9000 MiB +5 +5  unknown", "\n".join(lines))
    assert any("s42_N384" in line and "after teacher_N384" in line for line in lines)
    assert "where: this machine (gpu-a), 8 cores, 2 GPUs; jobs run in ." in lines
    assert lines[-1] == "cost: no price: this machine"
    assert all(line.cell_len <= 60 for line in plan.lines(document, TWO_CARDS, 60)[:-3])
