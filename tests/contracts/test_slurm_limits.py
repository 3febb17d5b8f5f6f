"""What a cluster's limits mean for jobs, and whether a task can claim an attempt, by what Slurm's commands say."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from queue_manager.remote import slurm_task
from queue_manager.slurm import limits, partitions

PARTITIONS = """\
PartitionName=main AllowGroups=ALL Default=YES DefaultTime=01:00:00 MaxTime=UNLIMITED State=UP TotalCPUs=16
PartitionName=high AllowGroups=ALL Default=NO DefaultTime=NONE MaxTime=01:00:00 State=DOWN TotalCPUs=16
PartitionName=week AllowGroups=ALL Default=NO DefaultTime=NONE MaxTime=7-00:00:00 State=UP TotalCPUs=16
"""
KNOWN = partitions.partitions(PARTITIONS)


def test_partitions() -> None:
    assert [(one.name, one.is_default, one.max_time, one.state) for one in KNOWN.values()] == [
        ("main", True, float("inf"), "UP"), ("high", False, 3600.0, "DOWN"), ("week", False, 604800.0, "UP"),
    ]  # fmt: skip
    assert KNOWN["main"].default_time == 3600.0
    assert partitions.partitions("nothing\n") == {}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ([], []), (["--partition=a,b"], ["a", "b"]), (["-p", "a"], ["a"]), (["-pa"], ["a"]),
        (["--partition", "a"], ["a"]), (["--partition=a", "-p", "b"], ["b"]),
    ],
)  # fmt: skip
def test_the_partitions_that_are_asked_for(options: list[str], named: list[str]) -> None:
    assert partitions.asked(options) == named


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--partition=high", "--time=61"], "a time limit of 01:01:00, and partition high allows 01:00:00 at most"),
        (["--partition=high", "--time=UNLIMITED"], "no time limit, and partition high"),
        (["--partition=high", "--time=60"], None),
        (["--partition=high,week", "--time=61"], None),
        (["--partition=high"], None),
        (["--time=30-0"], None),
        (["--partition=unknown", "--time=30-0"], None),
    ],
)
def test_a_job_that_would_wait_for_ever_is_named(options: list[str], words: str | None) -> None:
    found = limits.over_time(options, KNOWN)
    assert found is None if words is None else words in (found or "")


def test_other_limits() -> None:
    assert limits.closed([["--partition=high"], [], ["--partition=week,high"]], KNOWN) == [
        "partition high is DOWN: no job starts there now"
    ]
    text = "lab|20|100\nother||5\n"
    assert limits.most_jobs(text, "lab") == (20, 100)
    assert limits.most_jobs(text, None) == (20, 5)
    assert limits.most_jobs("", None) == (None, None)


class Slurm:
    """Commands of a Slurm that runs a submitted task here, or does not. `row`: what squeue then shows of it."""

    def __init__(self, row: str, runs: bool) -> None:
        self.row, self.runs = row, runs
        self.name, self.calls = "", list[str]()
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, argv: Sequence[str]) -> tuple[int | None, str, str]:
        self.calls.append(" ".join(argv))
        if argv[0] == "sbatch":
            words = dict(word.partition("=")[::2] for word in argv)
            self.name = words["--job-name"]
            if self.runs:
                variables = {"ARRAY_TASK_ID": "0", "JOB_ID": "7"}
                environment = {**{f"SLURM_{key}": value for key, value in variables.items()}, "PATH": "/bin:/usr/bin"}
                environment["SLURMD_NODENAME"] = "n1"
                self.process = subprocess.Popen(["bash", argv[-1]], cwd=words["--chdir"], env=environment)
            return 0, "7\n", ""
        return 0, self.row.replace("NAME", self.name), ""


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_task, "WAIT", 0.1)
    monkeypatch.setattr(slurm_task, "VISIBLE", 0.1)
    monkeypatch.setattr(slurm_task, "_EVERY", 0.01)


def test_a_task_claims_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = Slurm("7|0|RUNNING|None|n1|N/A|NAME\n", runs=True)
    monkeypatch.setattr(slurm_task, "WAIT", 20.0)
    found = slurm_task.try_task(tmp_path / "experiment_queue", ["--partition=a", "--gres=gpu:8", "--time=3"], slurm)
    assert slurm.process is not None
    slurm.process.wait(20)
    assert (found["state"], found["node"]) == ("ran", "n1")
    assert "--partition=a" in slurm.calls[0]
    assert "gpu:8" not in slurm.calls[0]
    assert "--time=1 " in slurm.calls[0]
    assert list(tmp_path.iterdir()) == []
    assert not any(call.startswith("scancel") for call in slurm.calls)


@pytest.mark.parametrize(
    ("row", "state", "words", "is_cancelled"),
    [
        ("7|0|PENDING|Resources||N/A|NAME\n", "waits", "still waits in Slurm's queue after 0.1 s (Resources)", True),
        ("7|0|RUNNING|None|n2|N/A|NAME\n", "failed", "node n2 could not claim an attempt", True),
        ("7|0|COMPLETED|None|n2|N/A|NAME\n", "failed", "the directory is not shared with the nodes", False),
        ("7|0|FAILED|JobLaunchFailure|n2|N/A|NAME\n", "failed", "FAILED, JobLaunchFailure", False),
        ("7|0|PENDING|Resources||N/A|other\n", "waits", "still waits", False),
    ],
)
def test_a_task_that_claims_nothing_is_named_and_taken_back(
    tmp_path: Path, row: str, state: str, words: str, is_cancelled: bool
) -> None:
    slurm = Slurm(row, runs=False)
    found = slurm_task.try_task(tmp_path, [], slurm)
    assert found["state"] == state
    assert words in found["says"]
    assert ("scancel --quiet 7_0" in slurm.calls) is is_cancelled
    assert list(tmp_path.iterdir()) == []
