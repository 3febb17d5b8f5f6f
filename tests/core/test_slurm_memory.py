"""The two kinds of memory that a job on Slurm can run out of, and what follows of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core import slurm_memory
from queue_manager.core.launchers import SLURM
from queue_manager.core.manifest import OomRetry
from queue_manager.core.memory import Memory, of_line
from queue_manager.core.model import Job, QueueState
from queue_manager.core.slurm_needs import Ooms, options
from tests.core.states import ONCE, run_to_end, spec, world
from tests.fakes import Plan, with_plans

LADDER: dict[str, Any] = {"mem": "8G", "mem_max": "20G", "gres": "gpu:1", "oom": [{"gres": "gpu:a100:1"}]}
CUDA = Plan(1.0, 1, output=False, log=b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n")
KILLED = Plan(1.0, 137, output=False, log=b"slurmstepd: error: Detected 1 oom-kill event(s) in StepId=3.batch\n")


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", Memory.GPU),
        ("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes", Memory.GPU),
        ("MemoryError: std::bad_alloc: out_of_memory: CUDA error at: device_memory_resource.hpp", Memory.GPU),
        ("CUBLAS_STATUS_ALLOC_FAILED", Memory.GPU),
        ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=3.batch", Memory.HOST),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=3.batch. Some of the step tasks", Memory.HOST),
        ("slurmstepd: error: Job 3 exceeded memory limit (300 > 200), being killed", Memory.HOST),
        ("srun: error: n1: task 0: Out Of Memory", Memory.HOST),
        ("Out of memory: Killed process 12 (python)", Memory.HOST),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 5. GiB", Memory.HOST),
        ("MemoryError", Memory.HOST),
        ("[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory", Memory.HOST),
        ("OSError: [Errno 12] Cannot allocate memory", Memory.HOST),
        ("java.lang.OutOfMemoryError: Java heap space", Memory.HOST),
        ("out of host memory (exit code 1): MemoryError; last line: CUDA", Memory.HOST),
    ],
)
def test_which_memory_a_line_speaks_of(line: str, memory: Memory) -> None:
    assert of_line(line) is memory


def test_a_job_without_a_gpu_runs_out_of_the_hosts() -> None:
    assert of_line("RuntimeError: out of memory", has_gpu=False) is Memory.HOST
    assert of_line("RuntimeError: out of memory") is Memory.GPU


@pytest.mark.parametrize(
    ("settings", "memory", "ooms", "is_last", "says", "is_final"),
    [
        (LADDER, Memory.HOST, (0, 0), False, "the next attempt asks for mem 16384M", False),
        (LADDER, Memory.HOST, (1, 1), False, "the next attempt asks for mem 20480M", False),
        (LADDER, Memory.HOST, (0, 0), True, "oom_retry.max_attempts is reached", False),
        (LADDER, Memory.HOST, (2, 0), False, "it had mem 20480M, and mem_max is 20G: write a larger mem_max", True),
        ({"mem": "8G", "mem_max": "4G"}, Memory.HOST, (0, 0), False, "it had mem 8G, and mem_max is 4G", True),
        ({"mem": "8G"}, Memory.HOST, (0, 0), False, "slurm has no mem_max, so that mem is not doubled", False),
        ({}, Memory.HOST, (0, 0), False, "slurm has no mem and mem_max", False),
        (LADDER, Memory.GPU, (0, 0), False, "the next attempt asks for gres gpu:a100:1", False),
        (LADDER, Memory.GPU, (2, 0), False, "the next attempt asks for gres gpu:a100:1", False),
        (LADDER, Memory.GPU, (0, 0), True, "oom_retry.max_attempts is reached", False),
        (LADDER, Memory.GPU, (0, 1), False, "all entries of slurm.oom were taken: add one", False),
        ({}, Memory.GPU, (0, 0), False, "write slurm: {oom: [{gres: 'gpu:a100:1'}]}", False),
    ],
)
def test_what_follows_is_told(
    settings: dict[str, Any], memory: Memory, ooms: tuple[int, int], is_last: bool, says: str, is_final: bool
) -> None:
    found = slurm_memory.after(settings, memory, Ooms(*ooms), is_last)
    assert says in found.says
    assert found.is_final is is_final


def on_slurm(*plans: Plan, most: int = 9) -> Job:
    """How a job ended that did this in its attempts."""
    job = spec("a", gpus=0, slurm=LADDER)
    host, manager = world(job, launcher=SLURM, oom_retry=OomRetry(0.0, most))
    host.plan_of = with_plans({"a": list(plans)})
    run_to_end(host, manager)
    return manager.state.job("a")


def test_each_kind_is_counted_and_asks_for_its_own() -> None:
    job = on_slurm(CUDA, KILLED, ONCE)
    assert (job.status.value, job.oom_attempts, job.host_ooms, job.gpu_ooms) == ("completed", 2, 1, 1)
    assert options(LADDER, Ooms(job.host_ooms, job.gpu_ooms)) == ("--mem=16384M", "--gres=gpu:a100:1")


def test_at_mem_max_another_attempt_would_end_as_the_last_did() -> None:
    job = on_slurm(KILLED, CUDA, KILLED, KILLED, ONCE)
    assert (job.status.value, job.n, job.host_ooms, job.memory) == ("stuck", 4, 3, "host")
    assert job.error == (
        "out of host memory (it had mem 20480M, and mem_max is 20G: write a larger mem_max, or make the job smaller) "
        "(exit code 137 (SIGKILL)): slurmstepd: error: Detected 1 oom-kill event(s) in StepId=3.batch"
    )


def test_on_a_host_nothing_is_said_of_slurm() -> None:
    host, manager = world(spec("a", slurm=LADDER), oom_retry=OomRetry(0.0, 1))
    host.plan_of = with_plans({"a": [KILLED]})
    run_to_end(host, manager)
    assert (manager.state.job("a").error or "").startswith("out of host memory (exit code 137 (SIGKILL)): slurmstepd")


def test_an_oom_of_an_earlier_version_counts_as_both() -> None:
    """Its journal does not say which it was, and the attempt after it was asked for with more of both."""
    job = spec("a", gpus=0, slurm=LADDER)
    _, manager = world(job, launcher=SLURM)
    state = QueueState(manager.manifest)
    old = ev.AttemptEnded("a", 1, "failed_oom", "oom", 1, "out of memory", due=1.0)
    events: tuple[ev.Event, ...] = ev.AttemptStarting("a", 1, 1, "wq.a", "boot"), old
    for n, event in enumerate(events, 1):
        state.apply(ev.Record(n, 1.0, ev.decode(ev.encode(ev.Record(n, 1.0, event))).event))
    after = state.job("a")
    assert (after.oom_attempts, after.host_ooms, after.gpu_ooms, after.memory) == (1, 1, 1, None)
    assert '"memory"' not in ev.encode(ev.Record(1, 1.0, old))
    assert '"memory":"gpu"' in ev.encode(ev.Record(1, 1.0, replace(old, memory="gpu")))
