"""The report: only what the files and the state say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import events as ev
from queue_manager.core.params import is_seed
from skill.reports import cells, report
from skill.runs import outputs
from tests.skill.story import RUN_ID, Story, job, manifest


def student(n: int, seed: int) -> Any:
    output = f"out/{n}_{seed}.json"
    return job(f"s{seed}_N{n}", "students", expected_output=output, params={"N": str(n), "seed": str(seed)})


def make(story: Story, metrics: dict[str, dict[str, float]] | None = None, **fields: Any) -> dict[str, Any]:
    found = fields.pop("found", {})
    document = story.document()
    results = cells.read(document, story.manifest, metrics or {}, RUN_ID)
    return report.report(document, found, results, lambda row: f"log of {row['id']}", story.at)


def test_numbers_are_averaged_over_seeds_and_nothing_else() -> None:
    story = Story(manifest(student(16, 1), student(16, 2), student(32, 1))).complete("s1_N16", "s2_N16", "s1_N32")
    metrics = {
        "s1_N16": {"accuracy": 0.8, "N": 16.0, "seed": 1.0},
        "s2_N16": {"accuracy": 0.9, "N": 16.0, "seed": 2.0},
        "s1_N32": {"accuracy": 0.95, "extra.loss": 3.0},
    }
    small, large = make(story, metrics)["metrics"]
    assert small["params"] == {"N": "16"}
    assert small["metrics"] == {
        "accuracy": {"mean": pytest.approx(0.85), "std": pytest.approx(0.0707, abs=1e-4), "n": 2}
    }
    assert large["metrics"]["accuracy"] == {"mean": 0.95, "std": None, "n": 1}
    text = report.markdown(make(story, metrics))
    assert "| N | accuracy | extra.loss |" in text
    assert "| 16 | 0.850 ± 0.071 (2) |  |" in text
    assert "| 32 | 0.95 | 3 |" in text


@pytest.mark.parametrize("param", ["seed", "data_seed", "SEED", "seeds", "trial", "fold", "replicate", "repeat"])
def test_params_that_only_repeat(param: str) -> None:
    assert is_seed(param)


@pytest.mark.parametrize("param", ["N", "lr", "seeded", "run_length", "folder", "trials_per_day"])
def test_params_that_change_what_is_tried(param: str) -> None:
    assert not is_seed(param)


def test_failures_are_grouped_by_reason_with_a_line_of_the_log() -> None:
    story = Story(manifest(*(job(name) for name in "abcde")))
    for n, name in enumerate("abc"):
        story.start(name).end(name, "stuck", error=f"exit code 1; last line: step {n} | <nan>", failure="exit_code")
    story.tell(ev.JobBlocked("d", "a", "depends on a, which is stuck"), ev.JobBlocked("e", "b", "depends on b, stuck"))
    document = make(story)
    assert [group["jobs"] for group in document["failures"]] == [["a", "b", "c"], ["d"], ["e"]]
    assert document["failures"][0]["log_line"] == "log of a"
    assert document["failures"][1]["log_line"] is None
    text = report.markdown(document)
    assert r"- 3 stuck: exit code 1; last line: step 0 \| \<nan\> (`a`, `b`, `c`)" in text
    assert "  - last line of a: log of a" in text


def test_phases_have_their_outputs_times_and_retries() -> None:
    story = Story(manifest(student(16, 1), student(16, 2), student(32, 1)))
    story.start("s1_N16").end("s1_N16", "failed_oom", error="oom", failure="oom", due=story.at).tell_retry("s1_N16")
    story.complete("s1_N16", "s2_N16")
    (phase,) = make(story, found={"s1_N16": 1, "s2_N16": 0})["phases"]
    assert (phase["jobs"], phase["oom_retries"], phase["outputs_found"], phase["outputs_expected"]) == (3, 1, 1, 2)
    assert phase["seconds_per_job"] == 1.0
    assert phase["seconds"] > 2.0


def test_a_run_that_goes_on_is_reported_as_such() -> None:
    story = Story(manifest(job("a"), job("b"))).complete("a")
    assert "(the run continues: running): 1 completed, 1 pending" in report.markdown(make(story))
    story.complete("b").tell(ev.RunFinished())
    text = report.markdown(make(story))
    assert text.startswith(f"# {RUN_ID}: 2 of 2 jobs completed\n")
    assert "the run continues" not in text
    assert "## Failures" not in text


def test_warnings_are_listed() -> None:
    story = Story(manifest(job("a"))).start("a").end("a", warning="exit code 1, but its output out_a there")
    assert "- `a`: exit code 1, but its output out_a there" in report.markdown(make(story))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": 1, "b": 2.5}, {"a": 1.0, "b": 2.5}),
        ({"a": {"b": {"c": 1, "d": {"too": 1}}}}, {"a.b.c": 1.0}),
        ({"ok": True, "text": "1", "none": None, "list": [1, 2]}, {}),
        ({"nan": float("nan"), "inf": float("inf"), "huge": 10**400, "fine": 0}, {"fine": 0.0}),
        ([1, 2], {}),
        (3, {}),
    ],
)
def test_numbers_of_a_json_output(value: Any, expected: dict[str, float]) -> None:
    assert outputs.numbers(value) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=80,
)


@given(JSON)
def test_any_json_gives_finite_numbers_and_few(value: Any) -> None:
    found = outputs.numbers(value)
    assert len(found) <= 50
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("text", ["", "{", "not json", "\xff", "[" * 100_000])
def test_a_file_that_is_no_json_has_no_numbers(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("latin-1"))
    assert outputs.read_numbers(str(tmp_path / "x.json")) == {}


def test_a_file_that_is_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"a": 1, "fill": "x" * (1 << 20)}))
    assert outputs.read_numbers(str(tmp_path / "x.json")) == {}
    assert outputs.read_numbers(str(tmp_path / "absent.json")) == {}


def test_outputs_are_found_by_path_and_by_glob_in_a_cwd_with_glob_characters(tmp_path: Path) -> None:
    cwd = tmp_path / "[odd] dir"
    (cwd / "out").mkdir(parents=True)
    for name in ("b.json", "a.json"):
        (cwd / "out" / name).write_text("{}")
    assert outputs.files(str(cwd), "out/a.json") == [str(cwd / "out/a.json")]
    assert outputs.files(str(cwd), "out/*.json") == [str(cwd / "out/a.json"), str(cwd / "out/b.json")]
    assert outputs.files(str(cwd), "out/c.json") == outputs.files(str(cwd), "c*") == []


def test_the_name_of_a_metric_commands_nothing() -> None:
    found = outputs.numbers({"\x1b]0;t\x07": 1, "a|b\n": {"\u202e" + "x" * 300: 2}})
    first, second = found
    assert first == r"\x1b]0;t\x07"
    assert second.startswith(r"a|b .\u202exxx")
    assert all(len(name) < 250 for name in found)
    text = report.markdown(make(Story(manifest(student(1, 1))).complete("s1_N1"), {"s1_N1": found}))
    assert r"| N | \\x1b\]0;t\\x07 | a\|b .\\u202exxx" in text
