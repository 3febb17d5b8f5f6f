"""An autoresearch campaign through the real queue, with a scripted agent: interrupted, killed, and resumed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from skill.auto import journal, store
from skill.auto.config import Config, Launch, Limits, Noise, Objective, Scope
from skill.auto.events import AskStarting, JobsSubmitted, ModelChosen, NodeJudged
from skill.auto.layout import WorkDir
from tests import forked
from tests.auto.world import SCRIPT, scripted
from tests.e2e.runs import World, lives, processes_of, wait_for
from tests.laptop import Laptop
from tests.nvml import Standin, StandinCard

TRAIN = """
import os, pathlib, sys, time
x, seed = float(sys.argv[1]), int(sys.argv[2])
with open(os.environ["RAN"], "a") as file:
    file.write(os.environ["WQ_NODE"] + " " + os.environ["WQ_SEED"] + "\\n")
while os.path.exists(os.environ["HOLD"]):
    time.sleep(0.02)
if os.environ.get("SPOILED_BY") == sys.argv[1]:
    pathlib.Path("prepare.py").write_text("easier")
print(f"score={-(x - 3) ** 2 + 0.001 * seed}")
"""


class Campaigned:
    """A campaign in a world, and what its jobs write down of themselves. While `hold` is there, no job ends."""

    def __init__(
        self, world: World | Laptop, *agent: str, env: dict[str, str] | None = None, gpus: int = 0, **changes: Any
    ) -> None:
        self.world, self.work = (
            world,
            WorkDir((world.project if isinstance(world, Laptop) else world.root) / "campaign"),
        )
        self.ran, self.hold, self.count = world.root / "ran", world.root / "hold", world.root / "count"
        self.work.root.mkdir()
        choices = json.dumps({"x": [0, 1, 2, 3, 4]})
        config = Config(
            "hill",
            str(world.root / "repo"),
            _repository(world.root / "repo"),
            Objective("score", "max"),
            {"score": {"log": r"score=(\S+)"}},
            Launch(f"{sys.executable} -S -E train.py ${{x}} ${{seed}}", {"x": 0}),
            scripted("--choices", choices, "--count", str(self.count), *agent),
            noise=Noise(3, 2),
            limits=Limits(max_nodes=4),
            run={"max_parallel": 4, "launcher": "process"},
            job={"gpus": gpus, "env": {"RAN": str(self.ran), "HOLD": str(self.hold), **(env or {})}},
            per_round=2,
            strict=True,
        )
        store.begin(self.work, replace(config, **changes))

    def start(self) -> forked.Forked:
        if isinstance(self.world, Laptop):
            return self.world.start("auto", "run", str(self.work.root))
        return forked.start("skill", ["auto", "run", str(self.work.root)], self.world.root, self.world.environment)

    def events(self) -> list[Any]:
        return [record.event for record in journal.read(self.work.journal)[0]]

    def jobs_that_ran(self) -> Counter[str]:
        return Counter(self.ran.read_text().splitlines()) if self.ran.exists() else Counter()


def _repository(root: Path) -> str:
    root.mkdir()
    (root / "train.py").write_text(TRAIN)
    (root / "prepare.py").write_text("harder")
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "begin"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def test_interrupted_and_killed_it_finds_the_best_and_runs_no_job_twice(world: World) -> None:
    campaign = Campaigned(world, "--misbehave", "hang", "--role", "plan", "--times", "1")

    loop = campaign.start()
    wait_for(campaign.count.exists, say="the agent to be asked")
    loop.send_signal(signal.SIGINT)
    _, err = loop.communicate(timeout=60)  # and not the 600 s that the agent sleeps
    assert loop.wait() == 130, err
    assert not [
        one for one in processes_of(world.home) if "sleep" in one.name() or "scripted" in " ".join(one.cmdline())
    ]

    campaign.hold.touch()
    loop = campaign.start()
    wait_for(lambda: sum(isinstance(one, JobsSubmitted) for one in campaign.events()) == 3, say="two nodes to be run")
    loop.send_signal(signal.SIGKILL)
    loop.communicate()
    campaign.hold.unlink()  # they end while nobody looks
    wait_for(lambda: len(campaign.jobs_that_ran()) == 5, say="the jobs to run")

    loop = campaign.start()
    wait_for(lambda: any(isinstance(one, AskStarting) and one.role == "analyze" for one in campaign.events()))
    loop.send_signal(signal.SIGKILL)
    loop.communicate()

    loop = campaign.start()
    out, err = loop.communicate(timeout=300)
    assert loop.wait() == 0, err
    found, _ = store.load(campaign.work)
    # of three nodes that were confirmed, or of two: where another was before 1 was screened, 1 is not
    assert re.search(r" better, score 0\.0015, gain \+1 \(counts above 0\.002[25]\), x 3", err), err
    assert "stopped (max_nodes): 4 nodes were proposed; max_nodes is 4" in out
    assert found.best is not None
    verdicts = {node.settings["x"]: node.verdict for node in found.nodes.values()}
    assert verdicts.pop(1) in ("better", "worse")  # by whether 1 or another was confirmed first
    assert {verdicts.pop(2), verdicts.pop(4)} == {"better", "within_noise"}, "equally good: the first is better"
    assert verdicts == {0: "baseline", 3: "better"}
    assert found.best.settings == {"x": 3}
    assert set(campaign.jobs_that_ran().values()) == {1}
    assert {job.id for job in found.jobs} == {name.replace(" ", "_s") for name in campaign.jobs_that_ran()}
    assert not lives(loop.pid)


def test_on_hosts_numbers_are_of_one_gpu_model_and_measured_again_where_that_is_lost(laptop: Laptop) -> None:
    models = {"alpha": "NVIDIA L4", "beta": "NVIDIA L4", "gamma": "NVIDIA A10"}
    for name, model in models.items():
        (laptop.root / f"{name}-gpus").mkdir()
        cards = Standin(laptop.root / f"{name}-gpus", [StandinCard(f"GPU-{name}", model)])
        laptop.host(name, network={"environment": cards.env})
    campaign = Campaigned(
        laptop,
        env={"SPOILED_BY": "4"},
        run={"hosts": list(models), "launcher": "process"},
        scope=Scope(protected=("prepare.py",)),
        limits=Limits(max_nodes=2),
        lost_after=2.0,  # more than passes between the ends of the two
        gpus=1,
    )
    loop = campaign.start()

    def are(kind: type) -> list[Any]:
        return [one for one in campaign.events() if isinstance(one, kind)] if campaign.work.journal.exists() else []

    wait_for(lambda: are(NodeJudged), say="the baseline to be judged")
    campaign.hold.touch()  # what is measured now does not end any more
    wait_for(lambda: are(JobsSubmitted)[-1].node != "n000", say="a node to be screened")
    for name in ("alpha", "beta"):
        laptop.hosts[name].stop()
    wait_for(lambda: len(are(ModelChosen)) == 2, say="another model")
    campaign.hold.unlink()
    out, err = loop.communicate(timeout=400)
    assert loop.wait() == 0, err
    found, _ = store.load(campaign.work)
    assert "jobs run on NVIDIA L4: 2 at a time (and 1 on NVIDIA A10, which are not used)" in err
    assert "L4 is no longer available, and NVIDIA A10 is; the baseline and the best node are measured again" in err
    assert "n000 measured again: score" in err
    assert "stopped (max_nodes)" in out
    places = {(job.period, job.host, job.gpu) for job in found.jobs if job.status == "completed"}
    assert places == {(0, "alpha", "NVIDIA L4"), (0, "beta", "NVIDIA L4"), (1, "gamma", "NVIDIA A10")}
    outcomes = {node.settings["x"]: (node.verdict, node.reason) for node in found.nodes.values()}
    assert {x: verdict for x, (verdict, _) in outcomes.items()} == {0: "baseline", 2: "better", 4: "failed"}
    assert "its run changed 1 protected file" in outcomes[4][1], outcomes
    assert all(job.metrics.keys() <= {"score"} for job in found.jobs)
    assert all(node.period == 1 for node in found.nodes.values())
    assert set(campaign.jobs_that_ran().values()) == {1}
    code = laptop.hosts["gamma"].home / "wavequeue" / "hill"
    assert {path.name for path in code.iterdir()} >= {"n000", "n001", "n002"}


def test_the_first_run_of_init_leaves_nothing_on_its_host(laptop: Laptop) -> None:
    host = laptop.host("alpha")
    repo = laptop.root / "repo"
    _repository(repo)
    env = {"RAN": str(laptop.root / "ran"), "HOLD": str(laptop.root / "hold"), "WQ_NODE": "-"}
    command = " ".join([*(f"{name}={value}" for name, value in env.items()), sys.executable, "train.py ${x} ${seed}"])
    _, err = laptop.call(
        "auto", "init", str(laptop.project / "campaign"), "--yes", "--dir", str(repo), "--host", "alpha",
        "--gpus", "0", "--command", command, "--metric", r"score={log: 'score=(\S+)'}", "--goal", "max", "--set",
        "x=1", "--protect", "prepare.py", "--agent", f"{sys.executable} {SCRIPT}", "--max-nodes", "1",
    )  # fmt: skip
    assert "warning" not in err
    assert (laptop.root / "ran").exists(), err
    assert [path for path in (host.home / "wavequeue").rglob("*") if "probe" in path.name] == []
    assert list((host.home / ".wavequeue" / "runs").iterdir()) == []
    assert not list((laptop.home / ".wavequeue").rglob("campaign-*"))
