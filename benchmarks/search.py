"""The scripted climber against random search, each with the same number of nodes, through the real local queue.

The program trains on the demo's digits; the true accuracy of all settings is measured beforehand, over seeds that no
campaign uses. Run it with: python -m benchmarks.search [CAMPAIGNS]. It takes about half a minute for each campaign.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from skill.auto import store
from skill.auto.config import AgentSpec, Config, Launch, Limits, Noise, Objective
from skill.auto.layout import WorkDir
from skill.operations import auto_run

ROOT = Path(__file__).resolve().parent.parent
AGENT = ROOT / "tests" / "auto" / "scripted_agent.py"
CHOICES: dict[str, list[float]] = {
    "hidden": [1, 2, 3, 4, 6, 8, 12, 16],
    "rate": [0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
}
FIRST: dict[str, float] = {"hidden": 4, "rate": 0.003}
NODES = 8
_TRUTH_SEEDS = range(9000, 9003)
_COMMAND = "train_teacher.py --epochs 1 --hidden {hidden} --rate {rate} --seed {seed} --out /dev/null"
_ACCURACY = re.compile(r"saved .*: ([0-9.]+)%")


def truth(code: Path) -> dict[tuple[float, ...], float]:
    """The mean accuracy of all settings."""
    found = {}
    for values in itertools.product(*CHOICES.values()):
        settings = dict(zip(CHOICES, values, strict=True))
        runs: list[float] = []
        for seed in _TRUTH_SEEDS:
            words = _COMMAND.format(**settings, seed=seed).split()
            done = subprocess.run([sys.executable, *words], cwd=code, capture_output=True, text=True, check=True)
            runs += map(float, _ACCURACY.findall(done.stdout))
        found[values] = statistics.fmean(runs)
    return found


def campaign(root: Path, code: Path, anchor: str, number: int, *, climbs: bool) -> tuple[float, ...]:
    """Run one campaign; the settings of its best node."""
    more = ["--rng", str(number), *([] if climbs else ["--random"])]
    agent = AgentSpec((sys.executable, str(AGENT), "--choices", json.dumps(CHOICES), *more), analyze=False)
    command = _COMMAND.format(hidden="${hidden}", rate="${rate}", seed=f"$((${{seed}} + {100 * number}))")
    config = Config(
        f"{'climb' if climbs else 'random'}-{number}", str(code), anchor, Objective("acc", "max"),
        {"acc": {"log": _ACCURACY.pattern}}, Launch(f"{sys.executable} {command}", FIRST), agent,
        noise=Noise(3, 3), limits=Limits(max_nodes=NODES), run={"max_parallel": 2, "launcher": "process"},
        job={"gpus": 0}, per_round=2,
    )  # fmt: skip
    work = WorkDir(root)
    root.mkdir()
    store.begin(work, config)
    best = auto_run.run_campaign(root).best
    assert best is not None
    return tuple(float(best.settings[name]) for name in CHOICES)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", type=int, nargs="?", default=20)
    count = parser.parse_args(arguments).campaigns
    with tempfile.TemporaryDirectory(prefix="wq-search-") as made:
        code = Path(made) / "code"
        code.mkdir()
        for name in ("digits.py", "digits.csv.gz", "mlp.py", "train_teacher.py"):
            shutil.copy(ROOT / "manifests" / "demo" / name, code)
        git = ["git", "-C", str(code), "-c", "user.name=a", "-c", "user.email=a@b"]
        for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "begin"]):
            subprocess.run([*git, *words], check=True)
        anchor = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        known = truth(code)
        top = max(known.values())
        first = known[tuple(FIRST.values())]
        print(f"{len(known)} settings; the best has {top:.1f} %, the baseline {first:.1f} %", flush=True)
        gone: dict[bool, list[float]] = {True: [], False: []}
        for number in range(count):
            for climbs, values in gone.items():
                root = Path(made) / f"{number}-{climbs}"
                values.append(known[campaign(root, code, anchor, number, climbs=climbs)])
                shutil.rmtree(root)
            print(f"campaign {number}: climber {gone[True][-1]:.1f} %, random {gone[False][-1]:.1f} %", flush=True)
        for climbs, values in gone.items():
            name = "climber" if climbs else "random"
            print(f"{name}: mean {statistics.fmean(values):.2f} %, worst {min(values):.1f} %, of {top:.1f} %")
        pairs = list(zip(gone[True], gone[False], strict=True))
        won, lost = (sum((a > b) if wins else (a < b) for a, b in pairs) for wins in (True, False))
        print(f"the climber is better in {won}, worse in {lost} of {count}")


if __name__ == "__main__":
    main()
