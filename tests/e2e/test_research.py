"""Research over real hosts on loopback: the walkthrough of docs/research.md as it is written, and two dispatchers."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from queue_manager.core import events
from skill.research import macros
from tests.e2e.runs import ROOT, wait_for
from tests.laptop import Laptop
from tests.sshd import Sshd, free_port

DOCUMENT = (ROOT / "docs" / "research.md").read_text(encoding="utf-8")
WALK = DOCUMENT[DOCUMENT.index("## Walk through a sweep") :].partition("\n## ")[0]
RUNS = [f"estimating-pi-r{n}" for n in range(1, 9)]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", WALK, re.MULTILINE | re.DOTALL)


def move(host: Sshd) -> None:
    """Give a host another port."""
    host.stop()
    host.port = free_port(host.address)
    host._write_config()
    host.start()


def queue(laptop: Laptop) -> dict[str, dict[str, Any]]:
    records = json.loads((laptop.project / "queues" / "run_queue.json").read_text())
    return {record["id"]: record for record in records}


def ran(*hosts: Sshd) -> list[str]:
    """The jobs of all attempts that were begun on hosts, by the journals there."""
    journals = [path for host in hosts for path in host.home.glob(".wavequeue/runs/*/journal.jsonl")]
    records = [events.decode(line) for path in journals for line in path.read_text().splitlines()]
    return sorted(record.event.job for record in records if isinstance(record.event, events.AttemptStarting))


def all_ended(*hosts: Sshd) -> bool:
    """Whether all managers on hosts have finished: to look for that by the command takes more than the runs."""
    states = [run / "queue_state.json" for host in hosts for run in host.home.glob(".wavequeue/runs/*")]
    return all(path.exists() and json.loads(path.read_text())["meta"]["manager"] == "finished" for path in states)


class Walk:
    """The walkthrough on two hosts whose ports are not those of the document."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.hosts = [laptop.host(name) for name in ("gpu-a", "gpu-b")]
        self.ports = {"2201": f"{self.hosts[0].port}", "2202": f"{self.hosts[1].port}"}
        workers, spec = blocks("yaml")
        tree = YAML(typ="safe").load(self.real(workers))
        for name, host in zip(("gpu-a", "gpu-b"), self.hosts, strict=True):
            tree["workers"][name]["ssh"]["key"] = str(host.key)
        YAML(typ="safe").dump(tree, laptop.project / "workers.yaml")
        (laptop.project / "sweep.yaml").write_text(spec)
        (laptop.project / "code" / "estimate.py").write_text(blocks("python")[0])

    def real(self, text: str) -> str:
        for shown, port in self.ports.items():
            text = text.replace(shown, port)
        return text

    def do(self, block: str) -> list[str]:
        """Run the lines of a block as they are written; what each printed."""
        outputs = []
        for line in block.splitlines():
            if line.startswith("wavequeue "):
                outputs.append(self.laptop.call(*shlex.split(line)[1:])[0])
            else:
                subprocess.run(self.real(line), shell=True, cwd=self.laptop.project, check=True)
        return outputs

    def until_nothing_runs(self) -> str:
        """Look again, as the document says."""

        def looked() -> str | None:
            outputs = self.laptop.call("research", "check-runs")[0]
            return None if re.search(r"\d (running|claimed)", outputs) else outputs

        wait_for(lambda: all_ended(*self.hosts), say="the end of all managers")
        outputs: str = wait_for(looked, say="the end of all runs")
        return outputs


def test_the_walkthrough_leads_from_a_sweep_to_a_table_whose_numbers_name_their_runs(laptop: Laptop) -> None:
    walk = Walk(laptop)
    begin, moved, rest, paper = blocks("sh")
    _, added, dispatched = walk.do(begin)
    assert added.split() == RUNS
    assert dispatched.count("dispatched estimating-pi-r") == 4
    assert dispatched.endswith("4 runs wait for a free slot in the pool lab\n4/8 dispatched\n")

    move(walk.hosts[1])
    walk.ports["2302"] = f"{walk.hosts[1].port}"
    outputs = laptop.call("research", "check-runs")[0]
    assert re.search(r"\b2 unknown", outputs), outputs
    assert all(queue(laptop)[name]["state"] != "failed" for name in RUNS)
    walk.do(moved)
    assert "unknown" not in walk.until_nothing_runs()
    assert walk.do(rest)[0].endswith("4/4 dispatched\n")
    walk.until_nothing_runs()
    assert {record["state"] for record in queue(laptop).values()} == {"done"}
    assert ran(*walk.hosts) == RUNS, "each once"

    shown, published, checked, status = walk.do(paper)
    assert "8 runs in 1 phase, 2 comparisons with" in shown
    assert "the paper says what the evidence says" in published
    assert checked == "the paper says what the evidence says\n"
    assert re.search(r"estimating-pi +0 +0 +8 ", status)
    check_table(laptop.project / "research" / "estimating-pi")


def check_table(study: Path) -> None:
    """Every number of the table, back to the lines of evidence of its runs."""
    lines = map(json.loads, (study / "evidence" / "runs.jsonl").read_text().splitlines())
    errors = {line["run"]: line["metrics"]["error"] for line in lines}
    assert sorted(errors) == RUNS
    defined = macros.DEFINITION.finditer((study / "paper" / "numbers.tex").read_text())
    numbers = {found[1]: (found[2], found[3].rpartition("runs: ")[2].split()) for found in defined}
    table = (study / "paper" / "tables" / "estimate.tex").read_text()
    assert table.count(r" \\") == 5, "a head and four cells"
    named = [name for name in macros.NAME.findall(table) if not name.endswith("N")]
    seen: list[str] = []
    for name in named:
        value, runs = numbers[name]
        mean = float(re.findall(r"[\d.]+", value)[0])
        assert abs(mean - sum(errors[run] for run in runs) / len(runs)) < 0.001
        seen += runs
    assert sorted(seen) == RUNS


def test_two_real_dispatchers_at_one_moment_start_every_run_once(laptop: Laptop) -> None:
    host = laptop.host("gpu-a", resources={"slots": 4})
    (laptop.project / "sweep.yaml").write_text(
        "project: both\ncwd: code\ngrid: {n: [1, 2, 3]}\ntemplate: {cmd: 'echo ${n}', gpus: 0}\n"
    )
    laptop.call("research", "init", "--title", "Both", "--idea", "a", "--target", "b", "--metric", "c")
    laptop.call("research", "add-run", "--spec", "sweep.yaml")
    both = [laptop.start("research", "dispatch-runs") for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sum(out.count("dispatched both-r") for out, _ in outputs) == 3, outputs
    wait_for(lambda: all_ended(host), say="the end of the runs")
    wait_for(lambda: all_done(laptop), say="the queue to know it")
    assert ran(host) == ["both-r1", "both-r2", "both-r3"]


def all_done(laptop: Laptop) -> bool:
    laptop.call("research", "check-runs")
    return {record["state"] for record in queue(laptop).values()} == {"done"}
