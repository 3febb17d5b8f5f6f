"""What of a project is sent, and what is no code: never lost without a word, and never sent for nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from build_manifest import build
from skill.operations import submission
from skill.transfer import not_code
from skill.transfer.not_code import LeftOut, Project

MIB = 1 << 20
SIZES = {
    "README.md": 100,
    "ckpt/base.pt": 50 * MIB,
    "ckpt/notes.md": 10,
    "ckpt/tiny.pt": 1000,
    "data/load.py": 200,
    "data/train.parquet": 900 * MIB,
    "data/val.csv": 10,
    "figures/a.json": 10,
    "figures/b.json": 10,
    "figures/b.png": 10,
    "helper/wandb/__init__.py": 10,
    "helper/wandb/log.txt": 10,
    "model.safetensors": 3 * MIB,
    "small/data/x.npy": 9 * MIB,
    "train.py": 500,
    "wandb/run-1/files/config.yaml": 10,
    "wandb/debug.log": 10,
}
CODE = [
    "README.md", "ckpt/notes.md", "ckpt/tiny.pt", "data/load.py", "helper/wandb/__init__.py", "helper/wandb/log.txt",
    "small/data/x.npy", "train.py",
]  # fmt: skip


def sent(**known: object) -> list[str]:
    return not_code.sort_out(SIZES, Project()._replace(**known)).files  # type: ignore[arg-type]


def test_outputs_checkpoints_data_and_wandb_stay_here_and_all_are_named() -> None:
    found = not_code.sort_out(SIZES, Project(outputs=["figures/*.json", "figures/b.png"]))
    assert found.files == CODE
    assert found.left_out == [
        LeftOut("data/", "data", 2, 900 * MIB + 10),
        LeftOut("ckpt/base.pt", "checkpoints", 1, 50 * MIB),
        LeftOut("model.safetensors", "checkpoints", 1, 3 * MIB),
        LeftOut("figures/*.json", "outputs of these jobs", 2, 20),
        LeftOut("wandb/", "files of W&B", 2, 20),
        LeftOut("figures/b.png", "outputs of these jobs", 1, 10),
    ]
    assert sorted(found.files) == sorted(SIZES.keys() - _members(found.left_out))
    words = not_code.words(found.left_out, ".wavequeueignore")
    for row in found.left_out:
        assert row.words() in words
    assert words.endswith("to send one anyway, add the line !data/ to .wavequeueignore")


def _members(left_out: list[LeftOut]) -> set[str]:
    return {name for name in SIZES for row in left_out if not_code.matches(name, [row.name]) and name not in CODE}


def test_every_line_that_is_advised_sends_what_it_names() -> None:
    outputs = ["figures/*.json", "figures/b.png"]
    for row in not_code.sort_out(SIZES, Project(outputs=outputs)).left_out:
        again = not_code.sort_out(SIZES, Project(outputs=outputs, wanted=[row.name]))
        assert row not in again.left_out
        assert len(again.files) == len(CODE) + row.files


def test_what_git_tracks_is_code() -> None:
    assert sent(tracked=frozenset(SIZES)) == list(SIZES)
    assert "data/train.parquet" in sent(tracked={"data/train.parquet"})


def test_a_needed_input_is_sent() -> None:
    assert "ckpt/base.pt" in sent(needed=["ckpt/base.pt"])
    assert "data/train.parquet" in sent(needed=["data"])
    assert "data/train.parquet" in sent(needed=["data/*.parquet"])
    assert "model.safetensors" in sent(named=lambda: {"model.safetensors"})
    assert "figures/a.json" in sent(outputs=["**/*.json"], named=lambda: {"figures/a.json"})
    assert "figures/a.json" not in sent(outputs=["figures/a.json"], named=lambda: {"figures/a.json"})


def test_a_directory_that_commands_name_is_warned_of() -> None:
    found = not_code.sort_out(SIZES, Project(named=lambda: {"data", "figures"}))
    assert [row.name for row in found.left_out if row.is_named] == ["data/"]
    assert "data/train.parquet" not in found.files
    assert "add the line !data/ to .wavequeueignore" in not_code.named_words(found.left_out[:1], ".wavequeueignore")


def test_many_outputs_are_looked_up() -> None:
    sizes = {f"out/j{n}.json": 1 for n in range(20_000)}
    outputs = [f"out/j{n}.json" for n in range(20_000)] + [f"log{n}/*.txt" for n in range(20_000)]
    assert not_code.sort_out(sizes, Project(outputs=outputs)).files == []


SPEC = """
project: toy
cwd: code
preconditions: [{type: checkpoint_exists, path: "ckpt/teacher.pt"}]
phases:
  - name: fit
    grid: {seed: [0, 1]}
    template:
      id: "s${seed}"
      cmd: python fit.py --init=ckpt/init.pt --data "data" --out out/s${seed}.json
      gpus: 0
      expected_output: "out/s${seed}.json"
"""


@pytest.mark.parametrize("has_git", [True, False])
def test_a_submit_chooses_by_what_its_jobs_write_and_need(
    tmp_path: Path, has_git: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "code"
    for name in ("fit.py", "out/s0.json", "out/s1.json", "out/other.json", "ckpt/old.pt", "data/x.bin"):
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        (code / name).write_text("x")
    for name in ("ckpt/teacher.pt", "ckpt/init.pt", "ckpt/old.pt", "data/x.bin"):
        with (code / name).open("wb") as file:
            file.truncate(150 * MIB)
    (tmp_path / "spec.yaml").write_text(SPEC)
    if has_git:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.chdir(tmp_path)
    made = submission.prepare(build(SPEC, "spec.yaml").manifest, "spec.yaml")
    chosen = made.code()
    assert chosen is not None
    assert chosen.files == [
        "code/ckpt/init.pt",
        "code/ckpt/teacher.pt",
        "code/fit.py",
        "code/out/other.json",
        "spec.yaml",
    ]
    assert [(row.name, row.is_named) for row in chosen.left_out] == [
        ("code/ckpt/old.pt", False), ("code/data/x.bin", True), ("code/out/*.json", False),
    ]  # fmt: skip
    messages: list[str] = []
    asked: list[str] = []
    submission.say_size(made, chosen, messages.append, asked.append)
    assert messages[0].startswith("code: 5 files, 300.0 MiB; the largest: ")
    assert "code/data/x.bin (data, 1 file, 150.0 MiB)" in messages[1]
    assert len(asked) == 1
    submission.say_size(
        made, chosen, messages.append, asked.append, since=(code / "ckpt" / "init.pt").stat().st_ctime + 1
    )
    assert len(asked) == 1, "nothing of it is new"
    assert made.comes(chosen, "/there/code")("ckpt/teacher.pt", "/there/code")
    assert not made.comes(chosen, "/there/code")("ckpt/old.pt", "/there/code")
