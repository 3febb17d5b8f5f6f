"""What the slurm settings of a spec ask of sbatch."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import slurm_needs

LADDER = {"gres": "gpu:1", "mem": "8G", "mem_max": "20G", "oom": [{"gres": "gpu:a100:1"}, {"constraint": "gpu80"}]}


@pytest.mark.parametrize(
    ("settings", "ooms", "timeout", "wanted"),
    [
        ({}, (), None, ()),
        ({"partition": "gpu", "account": "lab"}, (), None, ("--partition=gpu", "--account=lab")),
        ({"cpus": 8, "mem": "16G"}, (), None, ("--mem=16G", "--cpus-per-task=8")),
        ({"cpus": 8, "allocations": 2}, (), None, ("--cpus-per-task=8",)),
        ({"extra": ["--exclusive", "--nice=100"]}, (), None, ("--exclusive", "--nice=100")),
        # Our own timeout ends the job before Slurm does: 600 + 10 + 120 seconds, in whole minutes.
        ({}, (), 600.0, ("--time=13",)),
        ({"time": "1:00:00"}, (), 600.0, ("--time=1:00:00",)),
        (LADDER, (), None, ("--mem=8G", "--gres=gpu:1")),
        # A host's memory that ran out doubles `mem`, and a GPU's takes an entry of `oom`.
        (LADDER, (1, 0), None, ("--mem=16384M", "--gres=gpu:1")),
        (LADDER, (0, 1), None, ("--mem=8G", "--gres=gpu:a100:1")),
        (LADDER, (1, 2), None, ("--mem=16384M", "--gres=gpu:a100:1", "--constraint=gpu80")),
        (LADDER, (7, 7), None, ("--mem=20480M", "--gres=gpu:a100:1", "--constraint=gpu80")),
        ({"mem": "30G", "mem_max": "20G"}, (1, 0), None, ("--mem=30720M",)),
    ],
)  # fmt: skip
def test_options(
    settings: dict[str, Any], ooms: tuple[int, ...], timeout: float | None, wanted: tuple[str, ...]
) -> None:
    assert slurm_needs.options(settings, slurm_needs.Ooms(*ooms), timeout, 10.0) == wanted


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ([], "must be a mapping"),
        ({"partitoin": "gpu"}, "no key 'partitoin'"),
        ({"partition": ["a"]}, "slurm.partition must be a word"),
        ({"partition": " "}, "slurm.partition must be a word"),
        ({"mem": "16 GB"}, "slurm.mem '16 GB' is not a size"),
        ({"cpus": 0}, "at least 1"),
        ({"allocations": "2"}, "slurm.allocations must be a whole number"),
        ({"oom": [{"allocations": 2}]}, "no key 'allocations'"),
        ({"extra": "--exclusive"}, "must be a list"),
        ({"extra": ["exclusive"]}, "must be a list"),
        ({"extra": ["--array=0-3"]}, "--array=0-3, which wavequeue sets itself"),
        ({"extra": ["-J", "--nice"]}, "-J, which wavequeue sets itself"),
        ({"oom": {"gres": "gpu:2"}}, "must be a list"),
        ({"oom": [{"oom": []}]}, "no key 'oom'"),
        ({"oom": [{"mem": "lots"}]}, "slurm.oom: slurm.mem 'lots'"),
        ({"bundle": 0}, "slurm.bundle must be a whole number of at least 1"),
        ({"oom": [{"bundle": 2}]}, "no key 'bundle'"),
    ],
)
def test_faults(settings: Any, words: str) -> None:
    found = slurm_needs.fault(settings)
    assert found is not None
    assert words in found
    assert not slurm_needs.is_slurm(settings)


def test_right_settings_have_no_fault() -> None:
    assert slurm_needs.fault({**LADDER, "cpus": 2, "extra": ["--nice=3"], "time": 30}) is None


def test_a_bundle_needs_the_time_of_its_jobs() -> None:
    for settings, timeout in (
        ({"bundle": 5, "time": 3}, None),
        ({"bundle": 5}, 60.0),
        ({"bundle": 1}, None),
        ({}, None),
    ):
        assert slurm_needs.bundle_fault(settings, timeout) is None
    assert "slurm.bundle needs a time" in (slurm_needs.bundle_fault({"bundle": 5}, None) or "")


def test_a_time_that_sbatch_would_refuse_is_named() -> None:
    assert slurm_needs.time_fault("04:00:00") is None
    assert slurm_needs.time_fault("4h") == (
        "slurm.time '4h' is not a time as sbatch reads it; write hours as 04:00:00, or minutes"
    )
    assert slurm_needs.is_slurm({"time": "4h"}), "manifests of earlier versions have it"
