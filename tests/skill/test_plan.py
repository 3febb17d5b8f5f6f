"""What a spec would run, as a document and for people."""

from __future__ import annotations

import re
from typing import Any

import pytest

from build_manifest import build
from queue_manager.core.durations import Durations, Earlier
from queue_manager.core.manifest import Manifest, Phase
from skill.planning import plan
from skill.planning.assign_jobs import Offer, all_on
from skill.runs.dependencies import Dependencies
from tests.skill.story import job, manifest
from tests.skill.test_assign_jobs import offer

TWO_CARDS = offer("gpu-a", 81920, 81920, cores=8)
NO_CARD = offer("laptop")

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


def planned(made: Manifest, machine: Offer, earlier: Earlier | None = None, *warnings: str) -> dict[str, Any]:
    words = f"this machine ({machine.name}), {plan.host_words(made, machine)}"
    durations = Durations(made.jobs, earlier or Earlier())
    return plan.plan(made, plan.Place(words, (machine,), all_on(made, machine)), durations, warnings)


def test_teachers_and_students_are_planned_with_their_own_teacher() -> None:
    document = planned(build(SPEC, "spec.yaml").manifest, TWO_CARDS, None, "a warning")
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
        "jobs": 7, "edges": 5, "resolved": True, "most_cards": 1, "at_once": 5,
    }  # fmt: skip
    assert document["warnings"] == ["a warning"]


def test_a_phase_without_match_waits_for_every_job_of_the_other() -> None:
    made = manifest(job("t1", "a"), job("t2", "a"), job("s", "b"), phases=(Phase("a"), Phase("b", ("a",))))
    row = planned(made, NO_CARD)["jobs"][2]
    assert (row["waits_for"], row["depends_on"]) == (["a"], ["t1", "t2"])


def test_groups_are_resolved_and_nothing_is_named_twice() -> None:
    made = manifest(job("t1"), job("t2"), job("s", depends_on=("g", "t2")), groups={"g": ("t1", "t2")})
    row = planned(made, NO_CARD)["jobs"][2]
    assert (row["waits_for"], row["depends_on"]) == (["g", "t2"], ["t1", "t2"])


def test_too_many_pairs_are_named_by_their_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_EDGES", 5)
    jobs = [*(job(f"t{n}", "a") for n in range(3)), *(job(f"s{n}", "b") for n in range(2))]
    made = manifest(*jobs, phases=(Phase("a"), Phase("b", ("a",))))
    assert Dependencies(made).edges() == 6
    document = planned(made, NO_CARD)
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
def test_how_many_run_at_once(fields: dict[str, Any], most: int | None, machine: Offer, at_once: int) -> None:
    made = manifest(*(job(f"j{n}", **fields) for n in range(20)), max_parallel=most)
    assert planned(made, machine)["phases"][0]["at_once"] == at_once


def test_the_time_comes_from_what_earlier_runs_took() -> None:
    made = manifest(*(job(f"j{n}", "a") for n in range(8)), job("last", "b"))
    document = planned(made, NO_CARD, Earlier({}, {"a": (10.0, 2), "b": (5.0, 1)}))
    assert document["estimate"]["eta_s"] == 25.0, "four at a time: twice four of a, then one of b"
    text = "\n".join(line.plain for line in plan.lines(document, 200))
    assert "how long: about 25.0 s (from 2 completed jobs of a in earlier runs; 1 completed job of b in earlier" in text


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({}, "unknown: no job of b, a has completed yet, and est_minutes is not given"),
        ({"a": (1.0, 1)}, "unknown: no job of b has completed yet, and est_minutes is not given"),
        (
            {"a": (1.0, 1), "b": (1.0, 1)},
            "unknown: 1 job that can never run there (y: needs 1 GPU; this host has none)",
        ),
    ],
)  # fmt: skip
def test_a_time_that_is_not_known_is_not_made_up(known: dict[str, tuple[float, int]], says: str) -> None:
    made = manifest(job("y", "b", gpus=1), *([] if len(known) == 2 else [job("x", "a")]))
    document = planned(made, NO_CARD, Earlier({}, known))
    assert (document["estimate"]["eta_s"], document["estimate"]["cost_usd"]) == (None, None)
    assert f"how long: {says}" in [line.plain for line in plan.lines(document, 200)]


def test_lines_tell_phases_jobs_machine_and_cost() -> None:
    document = planned(build(SPEC, "spec.yaml").manifest, TWO_CARDS)
    lines = [line.plain for line in plan.lines(document, 200)]
    assert lines[0] == "dllm_distill: 7 jobs in 2 phases"
    assert re.search(r"distill +5  train_teachers with its N  1 x 9000 MiB +5 +5  unknown", "\n".join(lines))
    assert any("s42_N384" in line and "after teacher_N384" in line for line in lines)
    assert "where: this machine (gpu-a), 8 cores, 2 GPUs; jobs run in ." in lines
    assert lines[-1] == "cost: no price is known"
    assert all(line.cell_len <= 60 for line in plan.lines(document, 60)[:-3])
