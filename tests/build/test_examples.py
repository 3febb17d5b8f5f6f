"""The specs in `manifests/` build without a warning, give the jobs their comments promise, and fit the schema."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from build_manifest import build, read
from queue_manager.core.manifest import JobSpec, Manifest

MANIFESTS = Path(__file__).parents[2] / "manifests"
COUNTS = {"chain": 12, "cpu": 4, "demo": 8, "grid": 5, "jobs": 3, "phases": 7}


def _manifest(name: str) -> Manifest:
    return build(read(str(MANIFESTS / f"{name}.yaml")), f"{name}.yaml").manifest


def test_every_example_is_known() -> None:
    assert {path.stem for path in MANIFESTS.glob("*.yaml")} == set(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_an_example_builds(name: str) -> None:
    built = build(read(str(MANIFESTS / f"{name}.yaml")), f"{name}.yaml")
    assert built.warnings == []
    assert len(built.manifest.jobs) == COUNTS[name]


def test_phases_gives_two_teachers_and_five_students_that_wait_for_their_own() -> None:
    manifest = _manifest("phases")
    waits = {job.id: job.depends_on for job in manifest.jobs}
    assert waits == {
        "teacher_N384": (),
        "teacher_N512": (),
        "s42_N384": ("teacher_N384",),
        "s200_N384": ("teacher_N384",),
        "s201_N384": ("teacher_N384",),
        "s42_N512": ("teacher_N512",),
        "s200_N512": ("teacher_N512",),
    }
    assert manifest.gpus == (0, 1, 2, 3)
    assert all(job.gpu_mem_mib == (9000 if job.phase == "distill" else None) for job in manifest.jobs)
    # What a teacher makes is not asked of the teacher.
    assert [len(job.preconditions) for job in manifest.jobs] == [0, 0, 1, 1, 1, 1, 1]


def test_the_cpu_example_runs(tmp_path: Path) -> None:
    for job in _manifest("cpu").jobs:
        assert job.gpus == 0
        subprocess.run(["bash", "-c", job.cmd], cwd=tmp_path, check=True, timeout=150)
        assert job.expected_output is not None
        assert (tmp_path / job.expected_output).exists()
    assert (tmp_path / "wq_count_2000.txt").read_text().strip() == "2000"


def test_the_chain_example_shares_cards_by_the_size_of_the_model() -> None:
    jobs: dict[str, JobSpec] = {job.id: job for job in _manifest("chain").jobs}
    assert (jobs["pre_huge_64M"].gpus, jobs["pre_huge_64M"].gpu_mem_mib) == (2, 26000)
    assert jobs["eval_huge_code"].depends_on == ("pretrain[size=huge]",)
