"""What a spec says of a manager that is a job of Slurm."""

from __future__ import annotations

from typing import Any

import pytest

from build_manifest import SpecErrors, build
from queue_manager.core import slurm_manager

SPEC = "project: p\nslurm: {partition: gpu, manager: %s}\njobs:\n- {id: a, cmd: a}\n- {id: b, cmd: b}\n"


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("90", 90), ("10:30", 10.5), ("1:30:00", 90), ("1-0", 1440), ("1-12:30", 2190), ("2-00:00:00", 2880),
        ("UNLIMITED", None), ("4h", None),
    ],
)  # fmt: skip
def test_times_as_sbatch_reads_them(text: str, minutes: float | None) -> None:
    assert slurm_manager.minutes(text) == minutes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "must be a mapping"),
        ({"gres": "gpu:1"}, "no key 'gres'; it has: partition, account"),
        ({"partition": []}, "slurm.manager.partition must be a word"),
        ({"mem": "2 GB"}, "slurm.manager.mem '2 GB' is not a size"),
        ({"extra": ["--signal=USR1"]}, "--signal=USR1, which wavequeue sets itself"),
        ({"extra": ["--array=1"]}, "--array=1, which wavequeue sets itself"),
        ({"time": "9:59"}, "is less than 10 minutes"),
        ({"time": 5}, "is less than 10 minutes"),
    ],
)
def test_faults(settings: Any, words: str) -> None:
    found = slurm_manager.fault(settings)
    assert found is not None
    assert words in found
    assert not slurm_manager.is_manager(settings)


def test_it_stands_at_the_top_and_reaches_no_job() -> None:
    made = build(SPEC % "{time: 1-00:00:00, extra: [--nice]}", "s.yaml").manifest
    assert made.slurm_manager == {"time": "1-00:00:00", "extra": ["--nice"]}
    assert [job.slurm for job in made.jobs] == [{"partition": "gpu"}] * 2
    assert build(SPEC.replace(", manager: %s", ""), "s.yaml").manifest.slurm_manager is None


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (SPEC % "cpu", "manager of slurm must be a mapping"),
        (SPEC % "{time: 5}", "slurm.manager.time '5' is less than 10 minutes"),
        (SPEC % "{gres: 'gpu:1'}", "unknown key 'gres' in manager of slurm"),
        ("project: p\njobs:\n- {id: a, cmd: a, slurm: {manager: {time: 60}}}\n", "unknown key 'manager' in slurm"),
    ],
)  # fmt: skip
def test_a_fault_in_a_spec_is_named_with_its_place(spec: str, words: str) -> None:
    with pytest.raises(SpecErrors, match=words):
        build(spec, "s.yaml")
