"""A sweep of 291 jobs on eight GPUs, run by the real core on a simulated machine: the same files, again and again.

Three teachers, and 288 students: three sizes, eight weights, four temperatures, three seeds. Some run out of memory
once, some fail for good, two are cancelled.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core import events as ev
from queue_manager.core import snapshot
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec, Manifest, Phase, encode
from queue_manager.core.model import QueueState
from queue_manager.core.requests import Request
from queue_manager.core.snapshot import Situation
from tests.core.states import run_to_end
from tests.fakes import FakeHost, FakeManager, Plan, with_plans

RUN_ID = "dllm_distill-20260101-000000"
SIZES, WEIGHTS, HEATS, SEEDS = (
    (384, 512, 1024),
    ("0.0", "0.1", "0.25", "0.5", "0.75", "1.0", "2.0", "4.0"),
    (1, 2, 4, 8),
    (42, 200, 201),
)
_OOM = b"torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
_BROKEN = b"""\
Traceback (most recent call last):
  File "distill.py", line 88, in <module>
ValueError: loss is nan at step 1200
"""
ENV = {"WANDB_MODE": "offline", "DATA_KEY": "a-value-that-is-secret"}
METRICS = {
    "val_loss": {"json": "out/${id}.json", "key": "eval.loss", "goal": "min"},
    "accuracy": {"json": "out/${id}.json", "key": "eval.accuracy", "goal": "max"},
}


class Sweep(NamedTuple):
    """The run's files lie below `paths`; `document` is what queue_state.json holds."""

    paths: RunPaths
    manifest: Manifest
    document: dict[str, Any]
    records: list[Record]


def jobs(seeds: Sequence[int] = SEEDS) -> list[JobSpec]:
    """The jobs, the teachers first."""
    made = [
        JobSpec(
            f"teacher_N{n}",
            f"python train.py --n_hidden {n}",
            "teachers",
            params={"N": str(n)},
            expected_output=f"ckpt/N{n}.pt",
        )
        for n in SIZES
    ]
    for n in SIZES:
        for weight in WEIGHTS:
            for heat in HEATS:
                for seed in seeds:
                    name = f"s{seed}_N{n}_lam{weight}_T{heat}"
                    options = f"--n_hidden {n} --lam {weight} --temperature {heat} --seed {seed}"
                    command = f"python distill.py {options} --out out/{name}.json"
                    params = {"N": str(n), "lam": weight, "T": str(heat), "seed": str(seed)}
                    made.append(JobSpec(
                        name, command, "distill", params=params, metrics=METRICS, expected_output=f"out/{name}.json",
                        env_from={"WANDB_API_KEY": ("WANDB_API_KEY",)}, retries=1,
                    ))  # fmt: skip
    return made


def build(root: Path, seeds: Sequence[int] = SEEDS) -> Sweep:
    """Run the sweep to its end, and put its files into `root`, which is there."""
    specs = jobs(seeds)
    phases = Phase("teachers"), Phase("distill", ("teachers",))
    manifest = Manifest("dllm_distill", tuple(specs), phases, cwd="/workspace/code", conda="dllm", env=ENV)
    chance = random.Random(291)
    plans: dict[str, Plan | list[Plan]] = {}
    for spec in specs:
        seconds = (
            (40 if spec.phase == "teachers" else 6 + 10 * float(spec.params["N"]) / 512)
            * 60
            * chance.uniform(0.85, 1.2)
        )
        plan = Plan(seconds=round(seconds, 1), mib=18_000)
        drawn = chance.random()
        if spec.phase == "teachers":
            plans[spec.id] = plan
        elif spec.params["N"] == "1024" and drawn < 0.2:
            plans[spec.id] = [Plan(seconds=round(chance.uniform(40, 200), 1), code=1, output=False, log=_OOM), plan]
        elif spec.params["lam"] == "4.0" and drawn < 0.2:
            plans[spec.id] = Plan(seconds=round(chance.uniform(200, 500), 1), code=1, output=False, log=_BROKEN)
        elif drawn > 0.985:
            plans[spec.id] = [
                Plan(seconds=round(chance.uniform(60, 300), 1), code=1, output=False, log=b"RuntimeError: cudnn\n"),
                plan,
            ]
        else:
            plans[spec.id] = plan
    host = FakeHost(cards=8, total=24_576)
    host.plan_of = with_plans(plans)
    manager = FakeManager(host, manifest, RUN_ID)
    host.inbox.append(Request("cancel-1", "cancel", tuple(spec.id for spec in specs[-4:-2])))
    run_to_end(host, manager, 20_000)
    return _write(root, manifest, manager.state, host)


def _write(root: Path, manifest: Manifest, state: QueueState, host: FakeHost) -> Sweep:
    paths = RunPaths.of(root)
    situation = Situation(
        host.read_cards(), {}, "finished", "/workspace/code", 5.0, None, lambda name: str(paths.log(name))
    )
    document = snapshot.head(state, situation, host.now)
    document["jobs"] = [snapshot.job_row(state, one, situation) for one in state.jobs]
    chance = random.Random(7)
    paths.log_dir.mkdir(parents=True, exist_ok=True)
    for row, spec in zip(document["jobs"], manifest.jobs, strict=True):
        row["code"] = "3f2c1ab"
        row["metrics"] = _metrics(spec, chance) if row["status"] == "completed" and spec.metrics else {}
        row["metric_errors"] = {}
        if row["attempt"]:
            paths.log(spec.id).write_text(_log(spec, row["status"], chance))
    for phase in document["phases"]:
        phase["codes"] = {"3f2c1ab": phase["jobs"]}
    document["meta"]["teardown"] = {
        "plan": "keep", "reason": None, "waits_for": None, "since": None, "confirmed": False, "instance_id": 7,
        "cost_usd": None, "usd_per_hour": 12.8, "usd_per_day_stopped": None, "bound": None,
    }  # fmt: skip
    paths.manifest.write_text(encode(manifest))
    paths.journal.write_text("".join(host.journal))
    text = json.dumps(document)
    paths.state.write_text(text)
    return Sweep(paths, manifest, json.loads(text), [ev.decode(line) for line in host.journal])


def _metrics(spec: JobSpec, chance: random.Random) -> dict[str, float]:
    n, weight, heat = (float(spec.params[name]) for name in ("N", "lam", "T"))
    best = (
        1.9
        - 0.25 * math.log2(n / 384)
        + 0.12 * (math.log1p(weight) - 0.55) ** 2 * 4
        + 0.03 * (math.log2(heat) - 1) ** 2
    )
    loss = best + chance.gauss(0, 0.025)
    return {"val_loss": round(loss, 4), "accuracy": round(1.05 - loss / 4.2 + chance.gauss(0, 0.004), 4)}


def _log(spec: JobSpec, status: str, chance: random.Random) -> str:
    if status == "stuck":
        return "step 1100/5000 loss=3.2\n" + _BROKEN.decode()
    floor = 2.6 - 0.3 * math.log2(float(spec.params["N"]) / 384)
    lines = [
        f"step {step}/5000 loss={floor + 4 * math.exp(-step / 700) + chance.gauss(0, 0.03):.4f}"
        for step in range(50, 5001, 50)
    ]
    return "loading the data\n" + "\n".join(lines) + "\nsaved\n"
