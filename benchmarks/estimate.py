"""The simulation of a large run, by which `plan`, `submit` and a manager tell how long it takes."""

from __future__ import annotations

import time

from queue_manager.core.durations import Durations
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.readings import Card
from skill.planning.assign_jobs import Offer, all_on
from skill.planning.forecast import forecast

JOBS, CARDS, SECONDS = 10_000, 8, 5.0
HOST = Offer("host", tuple(Card(n, f"GPU-{n}", "GPU", 81_920, 3) for n in range(CARDS)), 64)


def _alone() -> Manifest:
    jobs = [JobSpec(f"j{n}", "train", "main", gpus=1, est_minutes=1 + n % 7) for n in range(JOBS)]
    return Manifest("alone", tuple(jobs), (Phase("main"),))


def _packed() -> Manifest:
    """Teachers, and students that share cards and wait for one teacher each."""
    few = JOBS // 5
    teachers = [JobSpec(f"t{n}", "train", "teachers", gpus=1, est_minutes=2) for n in range(few)]
    students = [
        JobSpec(f"s{n}", "distill", "students", gpus=1, gpu_mem_mib=9000, depends_on=(f"t{n % few}",), est_minutes=1)
        for n in range(JOBS - few)
    ]
    return Manifest("packed", (*teachers, *students), (Phase("teachers"), Phase("students", ("teachers",), ("n",))))


def main() -> None:
    """Print the table."""
    print("\nestimates")
    for name, made in (("alone on a GPU", _alone()), ("packed, each after its teacher", _packed())):
        begin = time.process_time()
        found = forecast(made, [HOST], all_on(made, HOST), Durations(made.jobs))
        took = time.process_time() - begin
        assert found.seconds
        what = f"{JOBS:,} jobs on {CARDS} GPUs, {name}"
        print(f"  {what:<58} {took:8.2f} s of CPU (at most {SECONDS:g})", flush=True)


if __name__ == "__main__":
    main()
