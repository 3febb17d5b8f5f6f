"""Jobs with `gpu_mem_mib` on a real Slurm cluster: they share allocations, and no GPU's memory is ever overrun."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from queue_manager.core.manifest import JobSpec, Phase
from queue_manager.core.requests import Request
from tests import nvml
from tests.e2e.runs import Run, World, wait_for
from tests.e2e.slurm_runs import UNTIL_GO, job, on_slurm, ran
from tests.nvml import Standin
from tests.slurm_cluster import SlurmCluster

NEED = 3072
"""MiB of each job."""
TOTAL = 20000
"""MiB of each GPU: room for six of them."""


@pytest.fixture
def world(tmp_path: Path, cluster: SlurmCluster) -> Iterator[World]:
    standin = Standin(tmp_path, nvml.cards(4, TOTAL))
    made = World(tmp_path, {**cluster.environment, **standin.env})
    yield made
    made.close()
    cluster.clear()


def small(name: str, cmd: str = "true", allocations: int = 2, mib: int = NEED, **fields: object) -> JobSpec:
    """A job that takes as much memory of its GPU as it says, or dies. All allocations are on one node, so that they
    have GPUs of their own: both nodes are this machine."""
    slurm = {"gres": "gpu:1", "extra": ["--nodelist=n1"], "allocations": allocations}
    return job(name, f"{nvml.alloc(mib)}; {cmd}", slurm=slurm, gpu_mem_mib=mib, **fields)


def running(run: Run) -> list[str]:
    return [name for name, row in run.jobs().items() if row["status"] == "running" and row["pid"]]


def pilots(run: Run) -> list[psutil.Process]:
    """The pilots of a run that live."""
    words = ["--run", str(run.directory)]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if any(line[at : at + 2] == words for at in range(len(line))):
            found.append(process)
    return found


def test_twelve_jobs_share_two_gpus_in_two_allocations(world: World, cluster: SlurmCluster) -> None:
    run = on_slurm(world, *(small(f"j{n}", f"echo $CUDA_VISIBLE_DEVICES ${{GPU}}; {UNTIL_GO}") for n in range(13)))
    run.start()
    wait_for(lambda: len(running(run)) == 12, say="twelve to run")
    assert len(cluster.call("squeue", "-h", "-r").splitlines()) == 2
    words = "waits for GPU memory in its allocation on n1"
    wait_for(lambda: words in [row["waiting"] for row in run.jobs().values() if not row["pid"]], say=words)
    rows = [row for row in run.jobs().values() if row["pid"]]
    assert Counter((row["node"], *row["gpus"]) for row in rows) == {("n1", 0): 6, ("n1", 1): 6}
    (world.root / "work/go").touch()
    assert run.finish() == 0, run.story()
    assert set(ran(run).values()) == {1}
    assert {row["attempts"] for row in run.jobs().values()} == {1}
    gpus = [run.log(name).split()[0] for name in run.jobs()]
    assert sorted(set(gpus)) == ["0", "1"]
    assert all(6 <= gpus.count(gpu) <= 7 for gpu in "01")
    assert all(len(set(run.log(name).split()[:2])) == 1 for name in run.jobs())
    cluster.until(lambda: not cluster.call("squeue", "-h").strip(), "pilots end with the run")
    assert not pilots(run)


def test_a_killed_pilot_and_a_killed_manager_lose_nothing_and_run_nothing_twice(
    world: World, cluster: SlurmCluster
) -> None:
    run = on_slurm(world, *(small(f"j{n}", UNTIL_GO) for n in range(14)))
    run.start()
    wait_for(lambda: len(running(run)) == 12, say="twelve to run")
    run.kill()
    os.kill(pilots(run)[0].pid, signal.SIGKILL)
    cluster.until(lambda: len(pilots(run)) == 1, "one pilot is left")
    run.start()
    wait_for(lambda: len(pilots(run)) == 2, say="another pilot")
    wait_for(lambda: len(running(run)) == 12, say="twelve to run again")
    (world.root / "work/go").touch()
    assert run.finish() == 0, run.story()
    rows = run.jobs()
    assert set(ran(run).values()) == {1}, "no attempt ran twice"
    assert {row["attempts"] for row in rows.values()} == {1}, "it cost none"
    assert sorted(row["attempt"] for row in rows.values()) == [1] * 8 + [2] * 6
    assert len(ran(run)) == 20


def test_what_is_cancelled_or_takes_too_long_ends_alone(world: World) -> None:
    """Six have room. Of those that wait one is cancelled before it begins, and one runs past its timeout."""
    deaf = "trap 'echo asked >> asked' TERM; while :; do sleep 0.05; done"
    jobs = [small(f"j{n}", UNTIL_GO, 1) for n in range(6)]
    others = (
        small("slow", deaf, 1, timeout=0.5, grace=0.3),
        small("never", "true", 1),
        small("huge", "true", 1, 30_000),
    )
    run = on_slurm(world, *jobs, *others)
    run.start()
    wait_for(lambda: len(running(run)) == 6, say="six to run")
    assert run.ask(Request("cancel-1", "cancel", ("j1", "never"))).ok
    run.wait_status("never", "cancelled")
    run.wait_status("j1", "cancelled")
    run.wait_status("slow", "stuck")
    assert (world.root / "work/asked").read_text() == "asked\n"
    assert "stopped by its timeout after 0.5 s" in run.jobs()["slow"]["error"]
    assert "needs 30000 MiB on 1 GPU; the largest GPU has 20000 MiB" in run.jobs()["huge"]["error"]
    assert len(running(run)) == 5
    (world.root / "work/go").touch()
    assert run.finish() == 3
    assert set(ran(run).values()) == {1}
    assert not {"never 1", "huge 1"} & set(ran(run))


def test_a_pause_and_the_loss_of_an_allocation_cost_nothing(world: World, cluster: SlurmCluster) -> None:
    """Students go on where their teacher ran. Then the allocation is taken away while the run is paused."""
    students = [small(f"s{n}", UNTIL_GO, 1, phase="learn") for n in range(3)]
    phases = (Phase("main"), Phase("learn", ("main",)))
    run = on_slurm(world, small("t", "true", 1), *students, phases=phases)
    run.start()
    wait_for(lambda: len(running(run)) == 3, say="the students to run")
    assert len(list((run.directory / "slurm/batches").iterdir())) == 1
    assert run.ask(Request("pause-1", "pause")).ok
    assert run.ask(Request("cancel-1", "cancel", ("s0",))).ok
    run.wait_status("s0", "cancelled")
    assert run.ask(Request("retry-1", "retry", ("s0",))).ok
    cluster.call("scancel", cluster.call("squeue", "-h", "-o", "%A").strip())
    wait_for(lambda: list(run.statuses().values()).count("pending") == 3, say="the students to wait")
    cluster.until(lambda: not cluster.call("squeue", "-h").strip(), "the allocation has ended")
    assert len(ran(run)) == 4
    (world.root / "work/go").touch()
    assert run.ask(Request("resume-1", "resume")).ok
    assert run.finish() == 0, run.story()
    assert ran(run) == {f"{name} {n}": 1 for name, n in (("t", 1), *((f"s{k}", n) for k in range(3) for n in (1, 2)))}
    assert {row["attempts"] for row in run.jobs().values()} == {1}
