"""SKILL.md is followed with its own example sentences, in English and Chinese, on a toy script.

That its spec runs to the end, here, on a host and on a rented machine, is shown by tests/test_docs.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from build_manifest import build
from queue_manager.core.manifest import Manifest
from tests import in_process
from tests.e2e.runs import ROOT
from tests.test_docs import blocks, commands, has_scripts_of_the_skill

SKILL = (ROOT / "SKILL.md").read_text(encoding="utf-8")
GRID = {
    "English": r'"(Run train\.py with [^"]*)"', "Chinese": r"「([^」]*跑 train\.py)」",
}  # fmt: skip
CHAIN = {"English": r'"(Train teachers with [^"]*)"', "Chinese": r"「(先训练[^」]*)」"}


def numbers(sentence: str) -> list[str]:
    """The numbers of a sentence, as they are written."""
    return re.findall(r"\d+(?:e-\d+)?", sentence)


def sentence(pattern: str) -> str:
    (found,) = re.findall(pattern, SKILL)
    return str(found)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    has_scripts_of_the_skill(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path


def run_all(manifest: Manifest, place: Path) -> None:
    """Run the jobs one after the other, as a manager would in the end."""
    for job in manifest.jobs:
        done = subprocess.run(["bash", "-ec", job.cmd], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (job.cmd, done.stderr)
        assert job.expected_output is not None
        assert (place / job.expected_output.replace("${id}", job.id)).exists()


@pytest.mark.parametrize("language", GRID)
def test_a_sentence_about_a_grid_is_one_command(place: Path, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    (line,) = [line for line in commands("SKILL.md") if "--save" in line]
    environment = {"HOME": str(place / "home"), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = in_process.run(tuple(shlex.split(line)[1:]), place, environment)
    assert done.returncode == 0, done
    manifest = build((place / "lr.yaml").read_text(), "lr.yaml").manifest
    *rates, first, last = numbers(sentence(GRID[language]))
    expected = {(rate, str(seed)) for rate in rates for seed in range(int(first), int(last) + 1)}
    assert {(job.params["lr"], job.params["seed"]) for job in manifest.jobs} == expected
    assert len(manifest.jobs) == len(expected) == 6
    assert {job.gpus for job in manifest.jobs} == {0}, "the sentence says: on the CPU"
    run_all(manifest, place)


@pytest.mark.parametrize("language", CHAIN)
def test_a_sentence_about_teachers_and_students_is_the_spec(place: Path, language: str) -> None:
    (text,) = [block for block in blocks("SKILL.md", "yaml") if "phases:" in block]
    manifest = build(text, "sweep.yaml").manifest
    sizes, seeds = numbers(sentence(CHAIN[language]))[:2], numbers(sentence(CHAIN[language]))[2:]
    assert [job.id for job in manifest.jobs if job.phase == "teachers"] == [f"teacher_N{n}" for n in sizes]
    students = {job.id: job for job in manifest.jobs if job.phase == "students"}
    assert set(students) == {f"s{seed}_N{n}" for seed in seeds for n in sizes}
    assert manifest.phases[1].match == ("N",), "from each: a student waits for its own teacher"
    assert all(f"teacher_N{job.params['N']}.pt" in job.cmd for job in students.values())
    teachers = [job for job in manifest.jobs if job.phase == "teachers"]
    assert min(job.priority for job in teachers) > max(job.priority for job in students.values())
    run_all(manifest, place)


def test_the_skill_is_short_and_has_an_answer_to_what_went_wrong() -> None:
    assert len(SKILL.splitlines()) < 200
    assert "Bash(jq:*)" in SKILL.split("---\n")[1]
    for words in (
        "preconditions:", "priority:", "ls --json", "If the command is missing", "launcher: process", "**Hours**",
        "It hangs", "jq ", "mandate", "docs/research.md", "docs/autoresearch.md",
    ):  # fmt: skip
        assert words in SKILL, words
    assert SKILL.index("hosts add") < SKILL.index("vast hunt"), "hosts before renting"
    assert SKILL.index("run sweep.yaml") < SKILL.index("hosts add"), "here before hosts"


def test_the_example_spec_is_yaml_that_people_can_copy() -> None:
    (text,) = [block for block in blocks("SKILL.md", "yaml") if "phases:" in block]
    assert [phase["name"] for phase in yaml.safe_load(text)["phases"]] == ["teachers", "students"]
