"""A value is literal in every pattern of its job; what the user wrote as a glob stays one."""

from __future__ import annotations

import glob
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from build_manifest import SpecErrors, build
from queue_manager.core.manifest import JobSpec
from queue_manager.core.outputs import pattern_matches, patterns_overlap

_values = st.text(st.sampled_from("ab*?[]!-^.,=$~ (+)|\\"), min_size=1, max_size=8).filter(lambda one: one.strip("."))


def _jobs(values: list[str], **template: Any) -> list[JobSpec]:
    ids = "j" if len(values) == 1 else "j{{ v | length }}"
    spec = {"project": "p", "grid": {"v": values}, "template": {"id": ids, "cmd": "x", **template}}
    return list(build(json.dumps(spec), "s.json").manifest.jobs)


@settings(max_examples=100, deadline=None)
@given(value=_values)
def test_a_value_in_an_output_stands_for_itself(value: str) -> None:
    for text in ("out/v=${v}/m.pt", "out/v={{ v }}/m.pt"):
        pattern = _jobs([value], expected_output=text)[0].expected_output
        assert pattern is not None
        assert pattern_matches(pattern, f"out/v={value}/m.pt")
        assert not pattern_matches(pattern, f"out/v={value}x/m.pt")


def test_the_real_glob_finds_the_jobs_own_file_and_no_siblings(tmp_path: Path) -> None:
    values = ["[64,64]", "4", "**", "x?y"]  # each as long as no other
    jobs = _jobs(values, expected_output="out/layers=${v}/*.pt")
    for value in values:
        (tmp_path / "out" / f"layers={value}").mkdir(parents=True)
        (tmp_path / "out" / f"layers={value}" / "m.pt").touch()
    for value, job in zip(values, jobs):
        assert glob.glob(job.expected_output or "", root_dir=tmp_path) == [f"out/layers={value}/m.pt"]
    assert not any(
        patterns_overlap(a.expected_output or "", b.expected_output or "") for a in jobs for b in jobs if a is not b
    )


def test_what_was_written_as_a_glob_stays_one_and_raw_values_join_it() -> None:
    assert _jobs(["1"], expected_output="out/s${v}_[ab]*.json")[0].expected_output == "out/s1_[ab]*.json"
    assert _jobs(["s*"], expected_output="out/{{ v | raw }}")[0].expected_output == "out/s*"


def test_preconditions_and_metrics_take_values_literally() -> None:
    path = {"type": "file_exists", "path": "in/${v}*.pt"}
    metrics = {
        "a": {"json": "out/${v}.json", "key": "${v}"},
        "b": {"log": r"run ${v}: (\d+)"},
        "c": {"csv": "${v}", "column": "x"},
    }
    job = _jobs(["a[1]+"], preconditions=[path], metrics=metrics)[0]
    assert job.preconditions[0].path == "in/a[[]1]+*.pt"
    assert job.metrics["a"] == {"json": "out/a[[]1]+.json", "key": "a[1]+"}
    assert re.search(job.metrics["b"]["log"], "run a[1]+: 77")
    assert job.metrics["c"] == {"csv": "a[[]1]+", "column": "x"}


@pytest.mark.parametrize("cwd", ["runs/${v}", "/abs/${v}"])
def test_a_directory_is_no_pattern(cwd: str) -> None:
    """Two jobs in directories that look like patterns of each other do not share their outputs."""
    template = {"cwd": cwd, "id": "j{{ v | length }}", "cmd": "x", "expected_output": "m.pt"}
    spec = {"project": "p", "grid": {"v": ["[12]", "1"]}, "template": template}
    assert build(json.dumps(spec), "s.json").warnings == []


def test_the_id_is_known_in_all_texts_of_its_job_and_literal_in_patterns() -> None:
    template = {
        "id": "a${v}", "cmd": "train --out out/${id}.pt", "expected_output": "out/${id}/*.pt", "env": {"NAME": "${id}"},
        "preconditions": [{"type": "file_exists", "path": "in/${id}"}],
        "metrics": {"loss": {"json": "out/${id}.json", "key": "loss"}},
    }  # fmt: skip
    text = json.dumps({"project": "p", "pull": ["figures/${id}.png", "x"], "grid": {"v": [1, 2]}, "template": template})
    made = build(text, "s.json").manifest
    job = made.jobs[1]
    assert job.cmd == "train --out out/a2.pt"
    assert (job.expected_output, job.env, job.params) == ("out/a2/*.pt", {"NAME": "a2"}, {"v": "2"})
    assert (job.preconditions[0].path, job.metrics["loss"]["json"]) == ("in/a2", "out/a2.json")
    assert made.pull == ("figures/a1.png", "figures/a2.png", "x")


def test_a_grid_may_have_an_id_of_its_own() -> None:
    text = json.dumps({"project": "p", "grid": {"id": ["x"]}, "template": {"id": "job_${id}", "cmd": "train ${id}"}})
    assert build(text, "s.json").manifest.jobs[0].cmd == "train x"


def test_a_regular_expression_is_checked_with_what_is_substituted_in_it() -> None:
    with pytest.raises(SpecErrors, match=r"which is not a regular expression: missing \), unterminated subpattern"):
        _jobs(["1", "2"], metrics={"a": {"log": r"run ${v}: (\d+"}})
    assert re.search(_jobs(["(("], metrics={"a": {"log": r"run ${v}: (\d+)"}})[0].metrics["a"]["log"], "run ((: 7")


def test_of_two_metrics_with_one_name_the_inner_one_is_taken() -> None:
    def log(word: str) -> dict[str, str]:
        return {"log": f"{word}=(.*)"}

    phase = {
        "name": "p", "metrics": {"b": log("phase"), "c": log("phase")}, "grid": {"v": [1]},
        "template": {"id": "a", "cmd": "x", "metrics": {"c": log("job")}},
    }  # fmt: skip
    spec = {"project": "p", "metrics": {"a": log("top"), "b": log("top"), "c": log("top")}, "phases": [phase]}
    made = build(json.dumps(spec), "s.json").manifest.jobs[0].metrics
    assert {name: rule["log"].partition("=")[0] for name, rule in made.items()} == {
        "a": "top",
        "b": "phase",
        "c": "job",
    }
