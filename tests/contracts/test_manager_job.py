"""What sbatch is told of a manager that is a job, and what squeue shows of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.readings import Unreadable
from queue_manager.slurm import manager_job
from queue_manager.slurm.as_job import AsJob
from queue_manager.slurm.manager_job import Row
from queue_manager.slurm.succession import Succession

NAME = "wq.run.0123.manager"


def manifest(*slurm: dict[str, Any] | None, **fields: Any) -> Manifest:
    jobs = tuple(JobSpec(f"j{n}", "true", "main", slurm=one) for n, one in enumerate(slurm))
    return Manifest("test", jobs, (Phase("main"),), **fields)


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (manifest(None, None), {}),
        (manifest({"partition": "gpu", "mem": "9G"}, {"partition": "gpu"}), {"partition": "gpu"}),
        (manifest({"partition": "gpu", "account": "lab"}, {"partition": "big", "account": "lab"}), {"account": "lab"}),
        (manifest({"qos": "high"}, None), {}),
        (
            manifest({"partition": "gpu", "account": "lab"}, slurm_manager={"partition": "cpu", "time": "1-0"}),
            {"partition": "cpu", "account": "lab", "time": "1-0"},
        ),
    ],
)
def test_it_asks_for_what_all_jobs_have_in_common(made: Manifest, wanted: dict[str, str]) -> None:
    assert manager_job.settings(made) == wanted


def test_one_waits_for_the_other_by_their_name_alone() -> None:
    argv = manager_job.submit({"partition": "cpu"}, NAME, Path("/run/slurm/manager.sh"), Path("/run/log"), 600)
    assert argv[0] == "sbatch"
    assert argv[-1] == "/run/slurm/manager.sh"
    wanted = (
        f"--job-name={NAME}", "--dependency=singleton", "--no-requeue", "--ntasks=1", "--signal=B:TERM@120",
        "--begin=now+600", "--partition=cpu", "--open-mode=append", "--output=/run/log",
    )  # fmt: skip
    assert set(wanted) <= set(argv)
    assert not any("after" in word for word in argv)


def test_squeue_is_read_by_id_and_name() -> None:
    text = (
        f"12|PENDING|Dependency||{NAME}\n9|RUNNING|None|n1|{NAME}\n13|RUNNING|None|n1|{NAME}2\n7_1|RUNNING|None|n1|x\n"
    )
    assert manager_job.rows(text, NAME) == [Row(9, "RUNNING", "None", "n1"), Row(12, "PENDING", "Dependency", "")]


@pytest.mark.parametrize(
    ("state", "goes_on", "has_ended"),
    [
        ("PENDING", True, False), ("RUNNING", True, False), ("COMPLETING", True, False), ("FAILED", False, True),
        ("TIMEOUT", False, True), ("CANCELLED", False, True), ("NODE_FAIL", False, False), ("NEW_ONE", True, False),
    ],
)  # fmt: skip
def test_a_manager_on_a_lost_node_may_live_on(state: str, goes_on: bool, has_ended: bool) -> None:
    row = Row(1, state, "None", "n1")
    assert (row.goes_on, row.has_ended) == (goes_on, has_ended)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([], None),
        ([Row(1, "FAILED", "None", "n1")], None),
        ([Row(1, "FAILED", "None", ""), Row(2, "PENDING", "Priority", "")], "waits in Slurm's queue (job 2: Priority)"),
        ([Row(2, "PENDING", "None", "")], "waits in Slurm's queue (job 2)"),
        ([Row(2, "CONFIGURING", "None", "n2")], "is being started by Slurm on n2 (job 2)"),
    ],
)  # fmt: skip
def test_where_the_next_one_is(found: list[Row], words: str | None) -> None:
    assert manager_job.words(found) == words


def test_managers_that_fail_as_they_begin_do_not_follow_each_other_without_end() -> None:
    assert manager_job.delay([0.0, 100.0, 200.0, 300.0, 400.0], 400.0) == 0
    assert manager_job.delay([0.0, 100.0, 200.0, 300.0, 400.0, 500.0], 500.0) == 600
    assert manager_job.delay([0.0, 100.0, 200.0, 300.0, 400.0, 500.0], 1000.0) == 0


class Slurm:
    """The manager jobs that there are."""

    def __init__(self, listed: Any) -> None:
        self.answer = listed
        self.submitted: list[int] = []
        self.cancelled: list[int] = []

    def listed(self) -> Any:
        return self.answer

    def submit(self, _manifest: Manifest, after_s: int) -> str | None:
        self.submitted.append(after_s)
        return None

    def cancel(self, but: int) -> None:
        self.cancelled.append(but)


ME, NEXT = Row(7, "RUNNING", "None", "n1"), Row(8, "PENDING", "Dependency", "")


@pytest.mark.parametrize(
    ("listed", "submitted"),
    [
        ([ME], [60]),
        ([], [60]),  # Slurm has forgotten it
        ([ME, NEXT], []),
        ([Row(6, "COMPLETED", "None", "n1"), ME], [60]),
        ([ME, Row(9, "RUNNING", "None", "n2")], []),  # it waits for the lock
        (Unreadable("squeue: time-out"), []),
    ],
)
def test_one_more_is_queued_where_none_is(listed: Any, submitted: list[int]) -> None:
    slurm = Slurm(listed)
    made = Succession(slurm, manifest(None), 7, lambda: 60)  # type: ignore[arg-type]
    made.begin()
    assert slurm.submitted == submitted
    made.close(cancel=False)
    assert slurm.cancelled == []
    made.close(cancel=True)
    assert slurm.cancelled == [7]


def test_slurms_word_on_a_manager_is_by_its_id(tmp_path: Path) -> None:
    slurm = Slurm([Row(6, "FAILED", "None", "n1"), Row(7, "NODE_FAIL", "None", "n1"), Row(8, "RUNNING", "None", "n2")])
    mine = AsJob(RunPaths.of(tmp_path), 8, slurm, None)  # type: ignore[arg-type]
    assert [mine.has_ended({"job": job}) for job in (6, 7, 8, 9)] == [True, False, False, False]
    assert not mine.has_ended({"pid": 6})
    slurm.answer = Unreadable("squeue: time-out")
    assert not mine.has_ended({"job": 6})


def test_its_script_becomes_the_manager() -> None:
    text = manager_job.script([sys.executable, "-m", "queue_manager", "--manifest", "/a b/m.json"])
    last = text.splitlines()[-1]
    assert last == f"exec {sys.executable} -m queue_manager --manifest '/a b/m.json' --as-slurm-job"
    assert text.startswith("#!/bin/bash\n")
