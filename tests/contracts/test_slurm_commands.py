"""What Slurm's commands answer, by words that Slurm 22.05 printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from queue_manager.slurm import commands
from queue_manager.slurm.commands import Listed, Refused

LISTING = """\
12|0|COMPLETED|None|n1|N/A|wq.toy.1
12|1|RUNNING|None|n2|2026-11-29T17:10:00|wq.toy.1
12|2|PENDING|Resources||2026-11-29T17:40:00|wq.toy.1
13|N/A|RUNNING|None|n1|N/A|somebody's
14|0|PENDING|Dependency||N/A|with|pipe
"""


POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
WAITS = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
"""Printed at MaxJobCount; after 120 seconds sbatch gives up."""


def test_a_listing() -> None:
    assert commands.listing(LISTING) == {
        ("wq.toy.1", 0): Listed(12, "COMPLETED", "None", "n1"),
        ("wq.toy.1", 1): Listed(12, "RUNNING", "None", "n2"),
        ("wq.toy.1", 2): Listed(12, "PENDING", "Resources", "", "2026-11-29T17:40:00"),
        ("with|pipe", 0): Listed(14, "PENDING", "Dependency", ""),
    }
    assert commands.listing("") == {}


def test_what_is_not_over_counts_where_a_task_is_listed_twice() -> None:
    """Slurm may have lost its state and have started a task again under another ID."""
    rows = ["12|0|NODE_FAIL|None|n1|N/A|wq.toy.1", "19|0|RUNNING|None|n2|N/A|wq.toy.1"]
    for lines in (rows, rows[::-1]):
        assert commands.listing("\n".join(lines))["wq.toy.1", 0].array == 19


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("17\n", 17), ("17;cluster\n", 17), ("", None), ("17", None), ("sbatch: hello\n", None)],
)
def test_an_id_counts_once_its_line_is_whole(text: str, wanted: int | None) -> None:
    assert commands.submitted(text) == wanted


@pytest.mark.parametrize(
    ("code", "words", "wanted"),
    [
        (0, "sbatch: warning: something", None),
        (1, "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Job violates accounting/QOS policy", Refused.LIMIT),
        (1, "sbatch: error: invalid partition specified: gup\nsbatch: error: Invalid partition", Refused.WRONG),
        (1, "sbatch: error: Batch job submission failed: Requested node configuration is not available", Refused.NEVER),
        (1, "sbatch: error: Batch job submission failed: Invalid job array specification", Refused.WRONG),
        (255, "sbatch: unrecognized option '--partitoin'", Refused.NEVER),
        (1, "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", None),
        (1, "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", None),
        (1, f"sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: {POLICY}", Refused.WRONG),
        (1, f"sbatch: error: Batch job submission failed: {POLICY}", Refused.LIMIT),
        (1, f"{WAITS}sbatch: error: Batch job submission failed: Resource temporarily unavailable\n", Refused.LIMIT),
        (1, "sbatch: error: Batch job submission failed: Resource temporarily unavailable", None),
        (1, f"{WAITS}sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n", None),
        (-9, WAITS, None),
        (1, "", None),
        (-9, "", None),
    ],
)  # fmt: skip
def test_only_a_clear_refusal_says_that_nothing_was_submitted(code: int, words: str, wanted: Refused | None) -> None:
    assert commands.refused(code, words) == wanted


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("sbatch: error: AssocMaxSubmitJobLimit", "AssocMaxSubmitJobLimit"),
        ("sbatch: error: AssocGrpSubmitJobsLimit", "AssocGrpSubmitJobsLimit"),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", "QOSMaxSubmitJobPerUserLimit"),
        ("sbatch: error: QOSMaxCpuPerUserLimit\n(job submit limit, user's size and/or time limits)", None),
        (f"{WAITS}sbatch: error: Batch job submission failed: Resource temporarily unavailable\n", "MaxJobCount"),
        ("sbatch: error: Invalid partition", None),
    ],
)
def test_the_name_of_a_limit(words: str, wanted: str | None) -> None:
    assert commands.limit(words) == wanted


CONFIG = """\
Configuration data as of 2026-11-29T16:00:00
JobCompParams           = (null)
MaxArraySize            = {array}
MaxJobCount             = 10000
MinJobAge               = 300 sec
SchedulerParameters     = {parameters}
"""


@pytest.mark.parametrize(
    ("array", "parameters", "wanted"),
    [
        (1001, "bf_interval=1", 1001),
        (4001, "batch_sched_delay=0,max_array_tasks=500,bf_interval=1", 500),
        (0, "(null)", 0),
    ],
)
def test_the_configuration_of_a_cluster(array: int, parameters: str, wanted: int) -> None:
    text = CONFIG.format(array=array, parameters=parameters)
    assert commands.configuration(text) == (wanted, 10_000, 300)
    assert commands.configuration("slurm_load_ctl_conf error") == (None, None, None)


def test_a_complaint_is_one_line() -> None:
    words = "sbatch: error: Invalid partition\nsbatch: error: Invalid partition\n\nsbatch: error: failed\n"
    assert commands.complaint(words) == "Invalid partition; failed"
    assert commands.complaint("") == "no reason given"


def test_a_batch_is_never_started_again_by_slurm() -> None:
    argv = commands.submit(["--gres=gpu:1"], "wq.toy.1", 8, Path("/run/slurm/batches/1"))
    assert "--no-requeue" in argv
    assert "--array=0-7" in argv
    assert argv[-2:] == ["--gres=gpu:1", "/run/slurm/batches/1/task.sh"]


def test_a_surrounding_job_does_not_leak() -> None:
    around = {"SLURM_JOB_ID": "3", "SBATCH_PARTITION": "x", "SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}
    assert commands.scrubbed(around) == {"SLURM_CONF": "/etc/slurm.conf", "HOME": "/h"}
