"""The scripted climber against random search, each with the same number of nodes, through the real local queue.

The program trains on the demo's digits; the true accuracy of all settings is measured beforehand, over seeds that no
campaign uses. Run it with: python -m benchmarks.search [CAMPAIGNS]. It takes about half a minute for each campaign.
With --hosts 2, one campaign of the climber runs over two hosts on loopback instead.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skill.auto import store
from skill.auto.campaign import Campaign
from skill.auto.config import AgentSpec, Config, Launch, Limits, Noise, Objective
from skill.auto.layout import WorkDir
from skill.operations import auto_run
from tests.laptop import Laptop

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


def configuration(code: Path, anchor: str, number: int, *, climbs: bool) -> Config:
    """The configuration of one campaign."""
    more = ["--rng", str(number), *([] if climbs else ["--random"])]
    agent = AgentSpec((sys.executable, str(AGENT), "--choices", json.dumps(CHOICES), *more), analyze=False)
    command = _COMMAND.format(hidden="${hidden}", rate="${rate}", seed=f"$((${{seed}} + {100 * number}))")
    return Config(
        f"{'climb' if climbs else 'random'}-{number}", str(code), anchor, Objective("acc", "max"),
        {"acc": {"log": _ACCURACY.pattern}}, Launch(f"{sys.executable} {command}", FIRST), agent,
        noise=Noise(3, 3), limits=Limits(max_nodes=NODES), run={"max_parallel": 2, "launcher": "process"},
        job={"gpus": 0}, per_round=2,
    )  # fmt: skip


def campaign(root: Path, config: Config) -> Campaign:
    """Run one campaign to its end."""
    root.mkdir()
    store.begin(WorkDir(root), config)
    return auto_run.run_campaign(root)


def settings_of(found: Campaign) -> tuple[float, ...]:
    """The settings of its best node."""
    assert found.best is not None
    return tuple(float(found.best.settings[name]) for name in CHOICES)


def sign_test(won: int, lost: int) -> float:
    """How often as many wins, or more, come by chance (one-sided)."""
    return sum(math.comb(won + lost, k) for k in range(won, won + lost + 1)) / 2.0 ** (won + lost)


def over_hosts(root: Path, code: Path, anchor: str, count: int, known: Mapping[tuple[float, ...], float]) -> None:
    """Run one campaign of the climber over so many hosts on loopback, and print what came of it."""
    laptop = Laptop(root)
    try:
        names = [f"host-{number}" for number in range(1, count + 1)]
        for name in names:
            laptop.host(name, new=True)
        run = {"hosts": names, "max_parallel": 1, "launcher": "process"}
        config = replace(configuration(code, anchor, 0, climbs=True), run=run, per_round=count)
        begun = time.perf_counter()
        work = laptop.project / "campaign"
        work.mkdir()
        store.begin(WorkDir(work), config)
        _, err = laptop.call("auto", "run", str(work))
        took = time.perf_counter() - begun
    finally:
        laptop.close()
    found, _ = store.load(WorkDir(work))
    places = Counter(job.host for job in found.jobs)
    jobs = ", ".join(f"{number} on {name}" for name, number in sorted(places.items()))
    print(f"{len(found.nodes)} nodes in {took:.0f} s; jobs: {jobs}; {err.count('warning')} warnings")
    print(f"the best has {known[settings_of(found)]:.1f} %, the baseline {known[tuple(FIRST.values())]:.1f} %")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaigns", type=int, nargs="?", default=20)
    parser.add_argument("--hosts", type=int, help="run one campaign over so many hosts on loopback")
    given = parser.parse_args(arguments)
    count = given.campaigns
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
        if given.hosts:
            over_hosts(Path(made), code, anchor, given.hosts, known)
            return
        gone: dict[bool, list[float]] = {True: [], False: []}
        for number in range(count):
            for climbs, values in gone.items():
                root = Path(made) / f"{number}-{climbs}"
                config = configuration(code, anchor, number, climbs=climbs)
                values.append(known[settings_of(campaign(root, config))])
                shutil.rmtree(root)
            print(f"campaign {number}: climber {gone[True][-1]:.1f} %, random {gone[False][-1]:.1f} %", flush=True)
        for climbs, values in gone.items():
            name = "climber" if climbs else "random"
            print(f"{name}: mean {statistics.fmean(values):.2f} %, worst {min(values):.1f} %, of {top:.1f} %")
        pairs = list(zip(gone[True], gone[False], strict=True))
        won, lost = (sum((a > b) if wins else (a < b) for a, b in pairs) for wins in (True, False))
        print(f"the climber is better in {won}, worse in {lost} of {count}; by chance: p = {sign_test(won, lost):.2g}")


if __name__ == "__main__":
    main()
