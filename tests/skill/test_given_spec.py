"""Runs without a spec: what stands in its place on the command line, and what is said where it cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skill.cli import main
from skill.common.errors import DONE, FAILED, USE
from skill.operations import start_run
from skill.runs import directory, local_manager

Command = Callable[..., int]
SWEEP = ("--", "python", "train.py", "--lr", "1e-3,1e-2", "--seed", "0..2")


@pytest.fixture
def wavequeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command in a directory `toy`, where a run gets no manager."""
    (tmp_path / "home").mkdir()
    (tmp_path / "toy").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "toy")
    monkeypatch.delenv("VAST_API_KEY", raising=False)
    monkeypatch.setattr(local_manager, "start", lambda *_: 1)
    Path("cmds.txt").write_text("# two\npython train.py --lr 1\npython train.py --lr 2\n")
    Path("t.csv").write_text("lr\n1\n2\n3\n")
    Path("dos.txt").write_bytes(b"\xef\xbb\xbfecho 1\r\n# no\r\necho 2\r\n")
    Path("dos.csv").write_bytes(b"\xef\xbb\xbflr;seed\r\n1;2\r\n")
    Path("utf16.txt").write_text("echo 1\n", encoding="utf-16")
    Path("open.txt").write_text("echo 1\necho a 'b\n")
    Path("spec.yaml").write_text("project: p\ntemplate: {id: a, cmd: 'true', gpus: 0}\n")
    return lambda *arguments: main.main(list(arguments))


def started(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], list[str]]:
    """What `run --detach --json` printed, and the commands of the run's jobs."""
    found = json.loads(capsys.readouterr().out)
    made = directory.read_manifest(directory.Run.at(Path(found["directory"])))
    return found, [job.cmd for job in made.jobs]


def test_a_command_runs_as_a_grid(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert wavequeue("run", "--gpus", "0", "--detach", "--json", *SWEEP) == DONE
    found, commands = started(capsys)
    assert commands == [f"python train.py --lr {lr} --seed {seed}" for lr in ("1e-3", "1e-2") for seed in range(3)]
    assert found["jobs"] == 6
    assert found["run_id"].startswith("toy-")
    assert Path(found["directory"]).parent == Path.cwd() / "experiment_queue"


def test_a_file_of_commands_and_a_table_run(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert wavequeue("run", "cmds.txt", "--gpus", "0", "--detach", "--json") == DONE
    assert started(capsys)[1] == ["python train.py --lr 1", "python train.py --lr 2"]
    assert wavequeue("run", "t.csv", "--cmd", "fit {lr}", "--gpus", "0", "--detach", "--json") == DONE
    assert started(capsys)[1] == ["fit 1", "fit 2", "fit 3"]


def test_files_of_other_systems_are_read_as_they_are_meant(
    wavequeue: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wavequeue("run", "dos.txt", "--gpus", "0", "--detach", "--json") == DONE
    assert started(capsys)[1] == ["echo 1", "echo 2"]
    assert wavequeue("run", "dos.csv", "--cmd", "fit {lr} {seed}", "--gpus", "0", "--detach", "--json") == DONE
    assert started(capsys)[1] == ["fit 1 2"]


def test_commands_may_come_from_stdin(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("echo 1\necho 2\n")
    with (tmp_path / "in").open() as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert wavequeue("run", "-", "--gpus", "0", "--detach", "--json") == DONE
    assert started(capsys)[1] == ["echo 1", "echo 2"]


def test_a_dry_run_shows_what_would_run_and_starts_nothing(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_run, "start_run", lambda *_, **__: pytest.fail("something was started"))
    assert wavequeue("run", "--gpus", "0", "--dry-run", "--save", "sweep.yaml", *SWEEP) == DONE
    shown = capsys.readouterr()
    assert "toy: 6 jobs in 1 phase" in shown.out
    assert "python train.py --lr 1e-3 --seed 0" in shown.out
    assert shown.err == "wavequeue: wrote sweep.yaml\n"
    assert not Path("experiment_queue").exists()
    assert wavequeue("plan", "sweep.yaml", "--json") == DONE
    assert len(json.loads(capsys.readouterr().out)["jobs"]) == 6


def test_a_saved_spec_is_run_and_kept(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("run", "--gpus", "0", "--detach", "--save", "specs/sweep.yaml", "--again", *SWEEP)
    assert wavequeue(*arguments) == USE
    assert "there is no directory specs" in capsys.readouterr().err
    Path("specs").mkdir()
    assert wavequeue(*arguments) == DONE
    text = Path("specs/sweep.yaml").read_text()
    assert 'cwd: ".."\n' in text
    assert "      seed: 0..2\n" in text
    assert wavequeue(*arguments) == DONE, "an equal file is left as it is"
    Path("specs/sweep.yaml").write_text("project: mine\n")
    capsys.readouterr()
    assert wavequeue(*arguments) == USE
    assert "specs/sweep.yaml already exists" in capsys.readouterr().err


def test_a_plan_may_be_of_a_file_of_commands(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert wavequeue("build", "cmds.txt") == DONE
    assert '"id": "train_lr2"' in capsys.readouterr().out
    assert wavequeue("plan", "t.csv") == USE
    assert "t.csv is a table: say which command each row runs" in capsys.readouterr().err


def test_a_run_is_found_by_its_name(wavequeue: Command, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("base", "base2"):
        assert wavequeue("run", "spec.yaml", "--name", name, "--again", "--detach") == DONE
    first = directory.find("base", Path.cwd(), Path.home())
    assert directory.title(first.id) == "base"
    assert first.id.startswith("base-2")
    assert directory.find("base2", Path.cwd(), Path.home()).id.startswith("base2-")
    capsys.readouterr()
    assert wavequeue("run", "spec.yaml", "--name", "base", "--again", "--detach") == USE
    assert "there is a run with the name base (base-2" in capsys.readouterr().err
    assert wavequeue("run", "spec.yaml", "--name", "../x") == USE
    assert "--name ../x may have letters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["python", "x.py", "--lr", "1"], "python is a program, not a spec: write -- before a command: wavequeue run"),
        (["--gpus", "0", "train.py", "--lr", "1"], "wavequeue run --gpus 0 -- python train.py --lr 1"),
        (["train.py"], "wavequeue run -- python train.py"),
        (["--"], "there is no command after --"),
        (["spec.yaml", "--", "true"], "give a spec (spec.yaml) or a command after --, not both"),
        (["spec.yaml", "--gpus", "1"], "--gpus is for a command, a file of commands or a table; write it into sp"),
        (["spec.yaml", "--save", "x"], "--save is for a command"),
        (["--cmd", "x", "--", "true"], "--cmd is for tables; the command stands after --"),
        (["cmds.txt", "--cmd", "x"], "--cmd is for tables (.csv, .tsv); cmds.txt has the commands itself"),
        (["t.csv"], "t.csv is a table: say which command each row runs, such as wavequeue run t.csv --cmd"),
        (["no.txt"], "no.txt: cannot be read: no such file"),
        (["--", "fit", "--text", "a, b"], r"for one value write a backslash before each comma: --text 'a\, b'"),
        (["--gpus", "0", "--", "fit", "--seed", "0..1000"], "look at it with --dry-run, then add --yes"),
        (["--gpus", "0", "--", "fit", "--a", "0..999", "--b", "0..999"], "makes 1000000 jobs; start them?"),
        (["--gpus", "0", "--dry-run", "--name", "", "--", "true"], "--name '' may have letters"),
        (["--id", "", "--", "fit", "--lr", "1,2"], "id is empty; write one"),
        (["--output", "", "--", "fit", "--lr", "1,2"], "expected_output is empty"),
        (["dos.txt", "--gpus", "0", "--id", "x"], "dos.txt: --id is for lists and tables"),
        (["utf16.txt"], "utf16.txt:1:1: the file is not UTF-8"),
        (["open.txt"], "open.txt:2:8: a ' opens here and is never closed; close it"),
        (["t.csv", "--cmd", "fit {wd}"], "t.csv:1:1: --cmd has {wd}, but there is no column 'wd'; the columns are: lr"),
        (["--gpus", "0", "--id", "{lr}", "--", "fit", "--lr", "1,2", "--seed", "0..1"], "two jobs have the id '1'"),
        (["--gpus", "0", "--detach", "--again", "--skip-done", "--", "true"], "--again and --skip-done cannot be used"),
    ],
)  # fmt: skip
def test_what_is_no_run_starts_nothing(
    wavequeue: Command, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert wavequeue("run", *arguments) == USE
    printed = capsys.readouterr()
    assert says in printed.err.replace("\n", "")
    assert printed.out == ""
    assert not Path("experiment_queue").exists()


@pytest.mark.parametrize("verb", ["submit", "up"])
def test_other_verbs_take_the_same(wavequeue: Command, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert wavequeue(verb, "train.py", "--lr", "1") == USE
    assert f"wavequeue {verb} -- python train.py --lr 1" in capsys.readouterr().err
    assert wavequeue(verb, "--gpus", "0", "--id", "{x}", *SWEEP) == USE
    assert "--id: no list of the command has the name 'x'" in capsys.readouterr().err
    assert wavequeue(verb, "--gpus", "0", "--save", "s.yaml", *SWEEP) in (USE, FAILED)
    assert "no host is known" in capsys.readouterr().err or verb == "up"
    assert wavequeue(verb, "--gpus", "0", "--dry-run", *SWEEP) == USE
    assert ("no host is known" if verb == "submit" else "there is no Vast.ai key") in capsys.readouterr().err
    assert wavequeue("plan", "s.yaml") == DONE
