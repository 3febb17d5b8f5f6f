"""What a spec says that does not apply where Slurm places the jobs."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core.launchers import SLURM
from skill.planning import engines
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
    told = "gpu_model of 1 job does not apply with Slurm, which has names of its own for GPUs; say the same with slurm:"
    assert [text.startswith(told) for text in made.warnings] == ([True] if warns else [])


def test_on_hosts_a_model_of_gpu_stays() -> None:
    made = manifest(job("a", gpus=1, gpu_model=("A100",)))
    assert engines.placed(made, engines.HOSTS) == (made, ())
