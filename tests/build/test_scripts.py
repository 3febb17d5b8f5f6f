"""Specs to start from, for scripts of every library: each folder of tests/data/scripts has a script, and its spec.

Scripts are never run to find their options. Those of argparse and click are run here to see that they take the command.
"""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from build_manifest import build
from build_manifest.scripts import find, help_text, starter
from build_manifest.scripts.options import FLAG, VALUE, Option, Script

SCRIPTS = Path(__file__).parents[1] / "data" / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir())
RUNNABLE = [name for name in NAMES if name.startswith(("argparse", "click"))]


def found(folder: Path) -> Script:
    def read_file(name: str) -> str | None:
        return (folder / name).read_text() if (folder / name).is_file() else None

    def listing(name: str) -> tuple[str, ...]:
        return tuple(sorted(one.name for one in (folder / name).iterdir())) if (folder / name).is_dir() else ()

    return find.find((folder / "train.py").read_text(), read_file, listing)


@pytest.mark.parametrize("name", NAMES)
def test_the_spec_of_a_script_is_the_one_beside_it_and_builds(name: str) -> None:
    folder = SCRIPTS / name
    text = starter.text(found(folder), (folder / "train.py").read_text(), "train.py", "spec.yaml", name)
    assert text == (folder / "spec.yaml").read_text()
    built = build(text, "spec.yaml")
    assert built.manifest.jobs
    assert built.warnings == []


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_script_takes_the_command_of_its_spec(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SCRIPTS / name
    job = build((folder / "spec.yaml").read_text(), "spec.yaml").manifest.jobs[-1]
    words = shlex.split(job.cmd.rpartition("&& ")[2])
    assert words[:2] == ["python", "train.py"]
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    for module in ("torch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, module, MagicMock(LightningModule=object))
    monkeypatch.delitem(sys.modules, "options", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", ["train.py", *words[2:]])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    code = None
    try:
        runpy.run_path(str(folder / "train.py"), run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    assert not code, capsys.readouterr().err
    if "run.json" in (folder / "train.py").read_text():
        assert job.expected_output is not None
        assert (tmp_path / job.expected_output).is_file()
    monkeypatch.delitem(sys.modules, "options", raising=False)


def nothing(_: str) -> None:
    return None


def test_a_script_that_cannot_be_read_is_refused() -> None:
    for text in ("print 'old'\n", "def (:\n", "a\0b"):
        with pytest.raises((SyntaxError, ValueError)):
            find.find(text, nothing, lambda _: ())
    assert find.find("", nothing, lambda _: ()) == Script("")


def test_what_a_module_beside_a_script_does_wrong_is_not_the_script() -> None:
    files = {
        "broken.py": "def (:",
        "good.py": "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr')\n",
    }
    made = find.find("import broken, good", files.get, lambda _: ())
    assert [one.name for one in made.options] == ["lr"]
    assert made.notes == ("its options are read in good.py",)


ARGPARSE = """\
usage: train.py [-h] [--lr LR] [--opt {adam,sgd}] data

positional arguments:
  data

options:
  -h, --help            show this help message and exit
  -l LR, --lr LR, --learning-rate LR
                        step size
                        (default: 0.001)
  --opt {adam,sgd}      the optimizer (default: adam)
  --batch-size BATCH_SIZE
  --amp                 mixed precision (default: False)
  --compile, --no-compile
"""
CLICK = """\
Usage: train.py [OPTIONS] DATA

Options:
  --lr FLOAT                 Learning rate.  [default: 0.001]
  -m, --model [small|base]   Which.  [default: base; required]
  --shout / --no-shout       Louder.
  --tag TEXT                 A tag.  [required]
  --help                     Show this message and exit.
"""
TYPER = """\
╭─ Options ──────────────────────────────────────────────╮
│ *  --data         PATH        Folder [required]        │
│    --lr           FLOAT       Step size [default: 0.1] │
│    --amp --no-amp             [default: no-amp]        │
│    --help                     Show this message.       │
╰────────────────────────────────────────────────────────╯
"""
ABSL = """\
train.py:
  --learning_rate: Peak rate.
    (default: '0.0001')
    (a number)
  --[no]remat: Recompute.
    (default: 'true')
"""


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            ARGPARSE,
            [
                ("lr", VALUE, "0.001", ()),
                ("opt", VALUE, "adam", ("adam", "sgd")),
                ("batch-size", VALUE, None, ()),
                ("amp", FLAG, None, ()),
                ("compile", FLAG, None, ()),
            ],
        ),
        (
            CLICK,
            [
                ("lr", VALUE, "0.001", ()),
                ("model", VALUE, "base", ("small", "base")),
                ("shout", FLAG, None, ()),
                ("tag", VALUE, None, ()),
            ],
        ),
        (TYPER, [("data", VALUE, None, ()), ("lr", VALUE, "0.1", ()), ("amp", FLAG, None, ())]),
        (ABSL, [("learning_rate", VALUE, "0.0001", ()), ("remat", FLAG, None, ())]),
        ("Traceback (most recent call last):\n  --\n", []),
    ],
    ids=["argparse", "click", "typer", "absl", "none"],
)
def test_options_of_a_help(text: str, options: list[tuple[str, str, str | None, tuple[str, ...]]]) -> None:
    made = help_text.read(text)
    assert [(one.name, one.kind, one.default, one.choices) for one in made.options] == options
    build(starter.text(made, "", "train.py", "s.yaml", "p"), "s.yaml")


def test_texts_of_a_script_stay_texts() -> None:
    odd = Option("x", "--x ", default="${y} {{ z }}\t# 'q'\n\"", help="a\nb\x1b[31m # {{ c }}", required=True)
    others = [Option("-", "-- ", choices=("no", "1..3", "range(5)", "a,b", "")), Option("ä", "--ä ", default="-1")]
    text = starter.text(Script("argparse", (odd, *others)), "", "a b/train it.py", "s.yaml", "...")
    jobs = build(text, "s.yaml").manifest.jobs
    assert [shlex.split(job.cmd)[:2] for job in jobs] == [["python", "a b/train it.py"]] * len(jobs)
    assert [shlex.split(job.cmd)[-1] for job in jobs] == ["no", "1..3", "range(5)", "a,b", ""]
