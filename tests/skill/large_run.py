"""A run of many jobs in which there is something of everything, as files on this machine: for what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

from queue_manager.core import events as ev
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import JobSpec, Phase
from tests.skill.story import RUN_ID, Story, job, manifest

_SEEDS = 5
_METRICS = {"loss": {"json": "out.json", "key": "loss", "goal": "min"}, "acc": {"json": "out.json", "key": "acc"}}
_ERROR = "exit code 1; last line: ValueError: the shapes (32, 512) and (64, 512) of layer decoder.blocks.7 do not fit"
LOG = "".join(f"step {n}/5000 loss=0.{n:04d} lr=3e-4 grad_norm=1.2{n} tokens/s=18423\n" for n in range(400)) + (
    'Traceback (most recent call last):\n  File "train.py", line 88, in <module>\n'
    "ValueError: the shapes (32, 512) and (64, 512) of layer decoder.blocks.7 do not fit\n"
)


def specs(count: int) -> list[JobSpec]:
    """The jobs: students of many widths, five seeds each."""
    return [
        job(
            f"distill_lr3e-4_N{n // _SEEDS}_seed{n % _SEEDS}", "distill", metrics=_METRICS, gpus=1,
            params={"lr": "3e-4", "N": str(n // _SEEDS), "seed": str(n % _SEEDS)},
        )
        for n in range(count)
    ]  # fmt: skip


def write(place: Path, count: int) -> Story:
    """Have a run of so many jobs below `place`: one in ten has failed for good, and blocks another, eight run, half
    have ended."""
    jobs = specs(count)
    later = [
        job(f"eval_{one.id}", "eval", depends_on=(one.id,)) for one in jobs[: count // 10 * 3 : 3]
    ]  # fmt: skip
    made = manifest(
        *jobs[: count - len(later)], *later, phases=(Phase("distill"), Phase("eval", depends_on=("distill",)))
    )
    story = Story(made, place / LOCAL_RUNS / RUN_ID)
    for n, one in enumerate(jobs[: count // 2]):
        if n % 5 == 3:
            story.start(one.id, n % 4).end(one.id, "stuck", error=_ERROR)
        else:
            story.start(one.id, n % 4).end(one.id)
            story.tell(ev.MetricsRead(one.id, {"loss": 1.0 / (n + 1), "acc": n / 1e4}, {}))
    for n in range(8):
        story.start(jobs[count // 2 + n].id, n)
    paths = story.write()
    for one in jobs[: count // 2 + 8]:
        paths.log(one.id).write_text(LOG)
    document = json.loads(paths.state.read_text())
    assert len(document["jobs"]) == count
    return story
