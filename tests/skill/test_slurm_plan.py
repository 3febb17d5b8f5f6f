"""What a plan says of Slurm, by what a login node has told."""

from __future__ import annotations

from typing import Any

from queue_manager.core.durations import Durations, Earlier
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from skill.planning import engines, slurm_plan, slurm_preflight


def manifest(count: int, **fields: Any) -> Manifest:
    jobs = tuple(JobSpec(f"j{n}", "true", "main", **fields) for n in range(count))
    return engines.placed(Manifest("p", jobs, (Phase("main"),)), SLURM).manifest


def document(options: list[str], **fields: Any) -> dict[str, Any]:
    says = "Job 7 to start at 2026-11-29T17:15:01 using 1 processors on nodes n1 in partition high"
    start = {"options": options, "count": 1, "says": says, "max_time": 3600.0}
    slurm = {"version": "22.05.8", "fault": None, "refused": [], "untried": 0, "starts": [start], **fields}
    return {"slurm": slurm}


def test_jobs_are_cut_as_they_are_submitted() -> None:
    made = manifest(100, gpus=0, slurm={"time": 10, "bundle": 20})
    assert slurm_plan.rows(made, {}) == [
        {
            "phase": "main", "options": ["--time=200"], "jobs": 100, "tasks": 5, "arrays": 1, "bundle": 20,
            "starts": None,
        }
    ]  # fmt: skip
    (row,) = slurm_plan.rows(made, document(["--time=10"], max_array=10))
    assert (row["options"], row["bundle"], row["tasks"], row["arrays"]) == (["--time=60"], 6, 17, 2)
    assert slurm_plan.cells(row) == [
        "main", "100 jobs in 17 tasks of 2 arrays, 6 in turn in each", "--time=60", "starts 2026-11-29T17:15:01",
    ]  # fmt: skip


def test_jobs_that_share_an_allocation_are_no_tasks() -> None:
    (row,) = slurm_plan.rows(
        manifest(9, gpus=1, gpu_mem_mib=2000, slurm={"allocations": 2, "time": 9, "bundle": 5}), {}
    )
    assert (row["tasks"], row["allocations"], row["bundle"]) == (2, 2, 1)
    assert slurm_plan.cells(row)[1] == "9 jobs in 2 shared allocations"


def test_many_short_jobs_are_advised_to_be_bundled() -> None:
    short = Durations((), Earlier(phases={"main": (40.0, 3)}))
    unknown = Durations(())
    (words,) = slurm_plan.warnings(manifest(100), short)
    assert words.startswith("100 jobs of phase main take about 40.0 s each")
    assert "bundle: 20" in words
    assert slurm_plan.warnings(manifest(100, timeout=60.0), unknown) != []
    assert slurm_plan.warnings(manifest(99), short) == []
    assert slurm_plan.warnings(manifest(100), unknown) == []
    assert slurm_plan.warnings(manifest(100, slurm={"bundle": 2, "time": 1}), short) == []
    assert slurm_plan.warnings(manifest(100), Durations((), Earlier(phases={"main": (121.0, 3)}))) == []


def test_a_task_that_was_tried_counts_as_it_ended() -> None:
    task = {"state": "ran", "says": "", "node": "n1", "seconds": 1.5}
    found = slurm_preflight.check(document([], task=task))
    assert (found.short, found.faults, found.warnings) == ("Slurm 22.05.8; a task began on n1 after 1.5 s", (), ())
    found = slurm_preflight.check(document([], task={**task, "state": "failed", "says": "not shared"}))
    assert found.faults == ("the task that was tried failed: not shared",)
    found = slurm_preflight.check(document([], task={**task, "state": "waits", "says": "it waits"}))
    assert (found.faults, len(found.warnings)) == ((), 1)


def test_what_a_cluster_takes_at_a_time_is_said() -> None:
    assert slurm_preflight.check(document([], most_submitted=5, notes=["partition high is DOWN"])).warnings == (
        "partition high is DOWN",
    )
    start = {"options": [], "count": 6, "says": ""}
    (words,) = slurm_preflight.check(document([], most_submitted=5, starts=[start])).warnings
    assert words == "Slurm takes 5 jobs of yours at a time (MaxSubmitJobs); the others wait for their turn"
