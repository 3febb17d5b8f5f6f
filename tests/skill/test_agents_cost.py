"""What an agent reads: no command that SKILL.md tells it to repeat prints more than 4 KB, however large the run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests import in_process
from tests.e2e.runs import ROOT
from tests.skill import large_run

MOST = 4096
_STUCK = "distill_lr3e-4_N0_seed3"
SPEC = """
project: demo
grid: {{N: 1..{count}, seed: 0..4}}
template: {{id: "distill_N${{N}}_seed${{seed}}", cmd: "python3 train.py --n ${{N}} --seed ${{seed}}", gpus: 0}}
"""
COMMANDS = (
    "plan spec.yaml",
    "plan spec.yaml --json --brief",
    "status --brief --json",
    "status --brief --json --since 3",
    "status --brief",
    f"why {_STUCK}",
    f"logs {_STUCK} -n 20",
    "ls --json",
    "wait --timeout 0.01s --json",
    "babysit --once --json --brief",
    "report --brief",
    "results --brief",
    "results --json --brief",
    "results --missing --brief",
    "cancel distill_lr3e-4_N1_seed1",
)
"""Each form of a command that SKILL.md names and that prints more for a larger run."""


def ask(place: Path, line: str) -> str:
    done = in_process.run(tuple(shlex.split(line)), place, {"HOME": str(place / "home"), "PATH": "/usr/bin:/bin"})
    assert done.returncode in (0, 1, 4, 124), (line, done)
    return done.stdout + done.stderr


@pytest.mark.parametrize("jobs", [200, 1000])
def test_no_command_prints_more_than_4_kb_and_what_is_left_out_is_counted(tmp_path: Path, jobs: int) -> None:
    (tmp_path / "home").mkdir()
    large_run.write(tmp_path, jobs)
    (tmp_path / "spec.yaml").write_text(SPEC.format(count=jobs // 5))
    outputs = {line: ask(tmp_path, line) for line in COMMANDS}
    for line, text in outputs.items():
        assert 0 < len(text.encode()) <= MOST, (line, len(text.encode()))
        if "--json" in line:
            json.loads(text.splitlines()[0])
    plan = json.loads(outputs["plan spec.yaml --json --brief"])
    assert plan["left_out"] == {"phases": 0, "hosts": 0, "warnings": 0, "jobs": jobs - 3}
    assert [row["id"] for row in plan["jobs"]] == ["distill_N1_seed0", "distill_N1_seed1", "distill_N1_seed2"]
    looked = json.loads(outputs["babysit --once --json --brief"])
    alerts = [row["alert"] for row in looked["checks"]]
    assert alerts[0] is True
    assert looked["totals"]["alerts"] >= jobs // 10
    assert len(alerts) < looked["totals"]["checks"]
    table = json.loads(outputs["results --json --brief"])
    assert 0 < len(table["rows"]) < table["total"] or table["total"] <= 20
    assert table["rows"][0]["metrics"]["loss"]["n"] == 4
    rows = len(ask(tmp_path, "results").splitlines())
    shown = outputs["results --brief"].splitlines()
    more = [int(found.group(1)) for line in shown if (found := re.fullmatch(r"and (\d+) more rows", line))]
    assert len(shown) - len(more) + sum(more) == rows


def test_every_command_of_the_skill_that_tells_of_a_run_is_measured() -> None:
    """SKILL.md names a short form of each verb that has one."""
    text = (ROOT / "SKILL.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    shown = {line.removeprefix("wavequeue ") for line in blocks.splitlines() if line.startswith("wavequeue ")}
    verbs = {"plan", "status", "babysit", "report", "results"}
    measured = {line.replace("spec.yaml", "SPEC") for line in COMMANDS}
    for line in shown:
        words = [word if not word.endswith((".yaml", ".yml")) else "SPEC" for word in shlex.split(line, comments=True)]
        if words[0] in verbs and "--html" not in words:
            assert " ".join(words) in measured, f"{line}: not measured for a large run"
