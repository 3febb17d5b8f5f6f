"""`preflight` and `plan` on this machine: what is missing, which jobs that blocks, and whether any could start."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from build_manifest import build
from skill.cli import main
from skill.common.errors import DONE, FAILED
from skill.operations import check_here
from skill.planning import this_machine
from skill.runs import local_manager

Command = Callable[..., int]
BLOCKED = """
project: p
phases:
  - name: teach
    jobs:
      - {id: a, cmd: "true", gpus: 0, preconditions: [{type: file_exists, path: no.pt}]}
      - {id: free, cmd: "true", gpus: 0}
  - name: learn
    depends_on: teach
    grid: {n: [1, 2]}
    template: {id: "s${n}", cmd: "true", gpus: 0}
"""
ALL = BLOCKED.replace('      - {id: free, cmd: "true", gpus: 0}\n', "")


@pytest.fixture
def wavequeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    (tmp_path / "home").mkdir()
    (tmp_path / "toy").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "toy")
    return lambda *arguments: main.main(list(arguments))


def test_a_job_that_is_blocked_is_named_and_others_can_start(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("spec.yaml").write_text(BLOCKED)
    assert wavequeue("preflight", "spec.yaml") == FAILED
    shown = capsys.readouterr().out
    assert "preconditions  1 job unmet" in shown
    assert "error: 1 job blocked (a): no.pt does not exist\n" in shown
    assert "error: 2 jobs more could not start, since they depend on those\n" in shown
    assert "ssh" not in shown
    assert wavequeue("plan", "spec.yaml") == DONE
    assert "1 job blocked (a): no.pt does not exist" in capsys.readouterr().err
    Path("no.pt").touch()
    assert wavequeue("preflight", "spec.yaml") == DONE
    assert "all checks passed; next: wavequeue run spec.yaml" in capsys.readouterr().out
    assert wavequeue("preflight", "spec.yaml", "--host", "localhost", "--json") == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert [row["name"] for row in found["hosts"]] == ["this machine"]
    assert not Path("experiment_queue").exists()


def test_a_plan_of_which_nothing_could_start_ends_with_1(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("spec.yaml").write_text(ALL)
    for verb in ("plan", "preflight"):
        assert wavequeue(verb, "spec.yaml") == FAILED
        printed = capsys.readouterr()
        assert (printed.out + printed.err).count("no job could start: 1 job blocked (a): no.pt does not exist") == 1


def test_what_a_job_of_the_run_writes_blocks_nobody(wavequeue: Command) -> None:
    text = BLOCKED.replace('{id: free, cmd: "true", gpus: 0}', "{id: free, cmd: x, gpus: 0, expected_output: no.pt}")
    Path("spec.yaml").write_text(text)
    assert wavequeue("preflight", "spec.yaml") == DONE


def on_gpus(used: list[int]) -> Mapping[str, Any]:
    """A machine with GPUs, of which so much memory is used."""
    made = build("project: p\ncwd: /\ntemplate: {id: a, cmd: x}\n", "s").manifest
    real = local_manager.preflight(made)
    cards = [
        {"index": n, "uuid": f"GPU-{n}", "name": "A", "total_mib": 80_000, "used_mib": mib, "free_mib": 80_000 - mib,
         "util": 0, "note": None}
        for n, mib in enumerate(used)
    ]  # fmt: skip
    probe = {key: value for key, value in real["probe"].items() if not key.startswith("gpu_")}
    return {**real, "probe": {**probe, "screen": {}, "gpus": cards}}


def test_gpus_that_others_hold_now_are_named() -> None:
    made = build("project: p\ncwd: /\ntemplate: {id: a, cmd: x}\n", "s").manifest
    busy = check_here.judge(made, on_gpus([9000, 70_000]))
    assert busy.faults == ()
    assert "none of its 2 GPUs is free now; jobs wait until one is" in busy.warnings
    assert busy.verdict.cells["cards"].says == "0 of 2 free"
    half = check_here.judge(made, on_gpus([3, 70_000]))
    assert half.verdict.cells["cards"].says == "1 of 2 free"
    assert half.warnings == ()
    several = made._replace(jobs=(made.jobs[0]._replace(gpus=4),))
    assert "can never run here" in check_here.judge(several, on_gpus([0, 0])).faults[0]


def test_whom_a_blocked_job_holds_up() -> None:
    chain = build(
        "project: p\njobs:\n  - {id: a, cmd: x}\n  - {id: b, cmd: x, depends_on: c}\n"
        "  - {id: c, cmd: x, depends_on: a}\n  - {id: d, cmd: x}\n",
        "s",
    ).manifest
    assert this_machine.startable(chain, []) == 4
    assert this_machine.startable(chain, ["a"]) == 1
    assert this_machine.startable(chain, ["b", "d"]) == 2
