"""What a spec says that does not apply where Slurm places the jobs."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.launchers import SLURM
from skill.planning import engines
from skill.planning.engines import Class
from tests.skill.story import job, manifest


@pytest.mark.parametrize(
    ("slurm", "warns"),
    [
        (None, True),
        ({"partition": "gpu"}, True),
        ({"gres": "gpu:2"}, True),
        ({"gres": "gpu:a100:2"}, False),
        ({"constraint": "a100"}, False),
    ],
)
def test_a_model_of_gpu_is_said_to_slurm_in_its_own_words_or_a_warning_says_so(slurm: Any, warns: bool) -> None:
    made = engines.placed(manifest(job("a", gpus=1, gpu_model=("A100",), slurm=slurm)), SLURM)
    assert made.manifest.jobs[0].gpu_model == ()
    warning = (
        "gpu_model of 1 job does not apply with Slurm, which has names of its own for GPUs; say the same with slurm:"
    )
    assert [text.startswith(warning) for text in made.warnings] == ([True] if warns else [])


def test_on_hosts_a_model_of_gpu_stays() -> None:
    made = manifest(job("a", gpus=1, gpu_model=("A100",)))
    assert engines.placed(made, engines.HOSTS) == (made, ())


def test_jobs_that_say_what_memory_they_need_share_allocations() -> None:
    """Also with different timeouts: an allocation is asked for as long as the longest."""
    share: dict[str, Any] = {"gpus": 1, "gpu_mem_mib": 3000, "slurm": {"allocations": 2}}
    made = engines.placed(
        manifest(
            job("a", **share, timeout=600.0, grace=0.0),
            job("b", **share, timeout=60.0, grace=0.0),
            job("c", gpus=1, timeout=60.0, grace=0.0),
            job("d", gpus=2, gpu_mem_mib=3000),
        ),
        SLURM,
    )
    assert made.warnings == (
        "gpu_mem_mib of 1 job with several GPUs does not apply with Slurm: such a job gets its GPUs for itself",
    )
    assert [(one.gpus, one.gpu_mem_mib) for one in made.manifest.jobs] == [(0, 3000), (0, 3000), (0, None), (0, None)]
    assert engines.classes(made.manifest) == [
        Class("main", ("--time=12", "--gres=gpu:1"), ("a", "b"), allocations=2),
        Class("main", ("--time=3", "--gres=gpu:1"), ("c",)),
        Class("main", ("--gres=gpu:2",), ("d",)),
    ]


def test_a_job_without_an_end_may_share_with_others() -> None:
    share: dict[str, Any] = {"gpus": 1, "gpu_mem_mib": 3000}
    made = engines.placed(manifest(job("a", **share, timeout=600.0), job("b", **share)), SLURM).manifest
    assert engines.classes(made) == [Class("main", ("--gres=gpu:1",), ("a", "b"), allocations=1)]


def test_allocations_that_nobody_shares_are_said_to_mean_nothing() -> None:
    made = engines.placed(manifest(job("a", gpus=1, slurm={"allocations": 2})), SLURM)
    assert made.warnings == (
        "slurm: {allocations} does not apply: it is for jobs with gpu_mem_mib, which share allocations",
    )
