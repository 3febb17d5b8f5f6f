"""`init --from`: a spec for a script, which is not run unless that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skill.cli import main
from skill.common.errors import DONE, FAILED, USE

Command = Callable[..., int]
SCRIPT = """
import argparse
from pathlib import Path

Path("ran").touch()
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--data", required=True)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="x.json")
args, rest = parser.parse_known_args()
"""


@pytest.fixture
def wavequeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path / "toy")
    Path("train.py").write_text(SCRIPT)
    return lambda *arguments: main.main(list(arguments))


def test_the_spec_of_a_script_is_written_and_can_be_planned(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wavequeue("init", "--from", "train.py") == DONE
    printed = capsys.readouterr()
    assert printed.out == (
        "wrote spec.yaml: 4 options of train.py (argparse) found\n"
        "write values for data first, in place of WRITE_A_VALUE\n"
        "see what it would do: wavequeue plan spec.yaml\n"
    )
    assert printed.err == "wavequeue: note: it takes options beside these (parse_known_args)\n"
    assert not Path("ran").exists()
    assert wavequeue("plan", "spec.yaml") == DONE
    assert "6 jobs in 1 phase" in capsys.readouterr().out


def test_the_command_leads_from_the_spec_to_the_script(wavequeue: Command) -> None:
    Path("specs").mkdir()
    assert wavequeue("init", "specs/a.yaml", "--from", "train.py") == DONE
    assert "python ../train.py --data ${data}" in Path("specs/a.yaml").read_text()
    assert "project: specs\n" in Path("specs/a.yaml").read_text()


def test_a_script_may_be_run_for_its_help(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert wavequeue("init", "--from", "train.py", "--run-help") == DONE
    assert Path("ran").exists()
    assert "4 options of train.py (--help) found" in capsys.readouterr().out
    assert "python train.py --lr ${lr} --seed ${seed} --out out/${id}.json" in Path("spec.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--from", "no.py"], USE, "no.py does not exist"),
        (["--from", "."], USE, ". is not a Python script (.py)"),
        (["--from", "broken.py"], USE, "broken.py:2: Python cannot read this: "),
        (["--from", "nul.py"], USE, "Python cannot read this: source code string cannot contain null bytes"),
        (["--from", "latin.py"], USE, "latin.py cannot be read: it is not UTF-8 text"),
        (["--from", "folder.py"], USE, "folder.py cannot be read"),
        (["--run-help"], USE, "--run-help is for --from SCRIPT"),
        (["there.yaml", "--from", "train.py"], USE, "there.yaml already exists"),
        (["--from", "dies.py", "--run-help"], FAILED, "`python dies.py --help` failed with exit code 3: no data"),
    ],
)
def test_what_has_no_options_to_read_writes_nothing(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    Path("broken.py").write_text("import os\nprint 'old'\n")
    Path("nul.py").write_text("x = 1\0\n")
    Path("latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nx = '\xe9'\n")
    Path("dies.py").write_text("import sys\nprint('no data', file=sys.stderr)\nsys.exit(3)\n")
    Path("there.yaml").write_text("project: mine\n")
    Path("folder.py").mkdir()
    assert wavequeue("init", *arguments) == code
    assert says in capsys.readouterr().err.replace("\n", "")
    assert not Path("spec.yaml").exists()
    assert Path("there.yaml").read_text() == "project: mine\n"
