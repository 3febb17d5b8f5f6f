"""Jobs that run out of memory on a real Slurm cluster that limits it by control groups."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.core.manifest import OomRetry
from tests.e2e.runs import World
from tests.e2e.slurm_runs import job, on_slurm
from tests.slurm_cluster import SlurmCluster

ASKED = "echo $SLURM_MEM_PER_NODE/${SLURM_JOB_GPUS:-none} >> asked_$WAVEQUEUE_JOB_ID; "
NEEDS = "python3 -c \"x = b'x' * ({mib} << 20); open('{name}', 'w')\""
CUDA = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def world(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Slurm makes sockets there, whose paths may have 107 characters.
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm") / "c", limits_memory=True)
    try:
        cluster.up()
        made = World(tmp_path, cluster.environment)
        yield made
        made.close()
    finally:
        cluster.down()


def test_each_kind_of_memory_that_runs_out_gets_more_of_its_own(world: World) -> None:
    ladder = {"mem": "64M", "mem_max": "200M", "gres": "gpu:1", "oom": [{"gres": "gpu:2"}]}
    cuda = f'if [ "$WAVEQUEUE_ATTEMPT" = 1 ]; then echo "{CUDA}"; exit 1; fi; echo > cuda'
    run = on_slurm(
        world,
        job("host", ASKED + NEEDS.format(mib=80, name="host"), expected_output="host", slurm=ladder),
        job("cuda", ASKED + cuda, expected_output="cuda", slurm=ladder),
        job(
            "most", ASKED + NEEDS.format(mib=400, name="most"), expected_output="most", slurm={**ladder, "mem": "150M"}
        ),
        oom_retry=OomRetry(0.1, 9),
    )
    assert run.go() == 3, run.story()
    rows = run.jobs()

    def asked(name: str) -> list[tuple[str, int]]:
        lines = (world.root / f"work/asked_{name}").read_text().split()
        return [(mem, len(gpus.split(","))) for mem, gpus in (line.split("/") for line in lines)]

    assert asked("host") == [("64", 1), ("128", 1)]
    assert asked("cuda") == [("64", 1), ("64", 2)]
    assert asked("most") == [("150", 1), ("200", 1)]
    assert {name: (row["status"], row["host_ooms"], row["gpu_ooms"]) for name, row in rows.items()} == {
        "host": ("completed", 1, 0),
        "cuda": ("completed", 0, 1),
        "most": ("stuck", 2, 0),
    }
    assert rows["most"]["error"].startswith("out of host memory (it had mem 200M, and mem_max is 200M: write a larger")
    assert rows["most"]["memory"] == "host"
