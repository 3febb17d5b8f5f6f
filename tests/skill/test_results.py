"""Results as a table: which jobs are one cell, what is averaged, and what each form of the table says."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import JobSpec
from skill.cli import main
from skill.common.errors import DONE, USE
from skill.reports import cells, results_text
from skill.reports.cells import Result, Stat, Table
from skill.reports.effect import Effect, control_of, effect, t_quantile
from tests.skill.story import RUN_ID, Story, job, manifest

GOAL = {"loss": {"json": "out.json", "key": "loss", "goal": "min"}}


def student(n: int, seed: int, **fields: Any) -> JobSpec:
    params = {"N": str(n), "seed": str(seed)}
    return job(f"s{seed}_N{n}", "students", **{"params": params, "metrics": GOAL, **fields})


def document(story: Story, metrics: Mapping[str, Any], errors: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The state, with metrics in its rows as a manager writes them."""
    found = story.document()
    for row in found["jobs"]:
        row["metrics"] = metrics.get(row["id"], {})
        row["metric_errors"] = (errors or {}).get(row["id"], {})
    return found


def table(story: Story, metrics: Mapping[str, Any], by: Sequence[str] = (), names: Sequence[str] = ()) -> Table:
    found = cells.read(document(story, metrics), story.manifest, {}, RUN_ID)
    return cells.table(found, cells.goals([story.manifest]), by, names)


def test_a_row_for_each_cell_with_the_best_and_what_is_missing() -> None:
    story = Story(manifest(*(student(n, seed) for n in (16, 32) for seed in (1, 2, 3))))
    story.complete("s1_N16", "s2_N16", "s3_N16", "s1_N32").start("s2_N32").end("s2_N32", "stuck", error="exit code 1")
    values = {"s1_N16": 0.5, "s2_N16": 0.7, "s3_N16": 0.6, "s1_N32": 0.4}
    made = table(story, {name: {"loss": value} for name, value in values.items()})
    assert cells.document(made) == {
        "keys": ["N"],
        "metrics": ["loss"],
        "rows": [
            {
                "key": {"N": "16"},
                "metrics": {"loss": {"mean": pytest.approx(0.6), "sd": pytest.approx(0.1), "n": 3, "best": False}},
                "jobs": ["s1_N16", "s2_N16", "s3_N16"],
                "missing": [],
            },
            {
                "key": {"N": "32"},
                "metrics": {"loss": {"mean": 0.4, "sd": None, "n": 1, "best": True}},
                "jobs": ["s1_N32", "s2_N32", "s3_N32"],
                "missing": [
                    {"id": "s2_N32", "run": RUN_ID, "status": "stuck", "why": "exit code 1"},
                    {"id": "s3_N32", "run": RUN_ID, "status": "pending", "why": "waits for a free slot"},
                ],
            },
        ],
    }
    assert results_text.missing(made) == [
        "s2_N32: stuck: exit code 1",
        "s3_N32: pending: waits for a free slot",
    ]


def test_numbers_of_a_job_that_runs_are_no_results_yet() -> None:
    story = Story(manifest(student(16, 1), student(16, 2))).complete("s1_N16").start("s2_N16")
    made = table(story, {"s1_N16": {"loss": 1.0}, "s2_N16": {"loss": 99.0}})
    assert made.cells[0].stats["loss"] == Stat(1.0, None, 1, best=True)
    assert [one.id for one in made.cells[0].missing] == ["s2_N16"]


def test_a_rule_that_gave_nothing_says_why() -> None:
    story = Story(manifest(student(16, 1), student(16, 2))).complete("s1_N16", "s2_N16")
    found = document(story, {"s1_N16": {"loss": 1.0}, "s2_N16": {"loss": None}}, {"s2_N16": {"loss": "no key loss"}})
    made = cells.table(cells.read(found, story.manifest, {}, RUN_ID), {})
    assert [(one.id, one.why) for one in made.cells[0].missing] == [("s2_N16", "loss: no key loss")]
    assert made.cells[0].stats["loss"].n == 1


def test_numbers_of_a_json_output_count_where_the_manager_has_none() -> None:
    story = Story(manifest(student(16, 1, metrics=None, expected_output="a.json"))).complete("s1_N16")
    read = cells.read(story.document(), story.manifest, {"s1_N16": {"loss": 2.0, "N": 16.0, "seed": 1.0}}, RUN_ID)
    assert [one.numbers for one in read] == [{"loss": 2.0}]
    (row,) = cells.read(document(story, {"s1_N16": {"loss": 3.0}}), story.manifest, {"s1_N16": {"loss": 2.0}}, RUN_ID)
    assert row.numbers == {"loss": 3.0}
    (row,) = cells.read(story.document(), story.manifest, {}, RUN_ID)
    assert (row.numbers, row.why) == ({}, "its numbers are not on this machine")


def test_phases_with_the_same_keys_are_rows_of_their_own() -> None:
    teacher = job("t16", "teachers", params={"N": "16"}, metrics=GOAL)
    story = Story(manifest(teacher, student(16, 1))).complete("t16", "s1_N16")
    made = table(story, {"t16": {"loss": 1.0}, "s1_N16": {"loss": 2.0}})
    assert [cell.key for cell in made.cells] == [{"phase": "teachers", "N": "16"}, {"phase": "students", "N": "16"}]


def test_jobs_without_params_are_reported_by_their_id() -> None:
    story = Story(manifest(job("a", metrics=GOAL), job("b", metrics=GOAL))).complete("a", "b")
    made = table(story, {"a": {"loss": 1.0}, "b": {"loss": 2.0}})
    assert [cell.key for cell in made.cells] == [{"job": "a"}, {"job": "b"}]


def test_jobs_that_have_no_numbers_and_need_none_have_no_row() -> None:
    story = Story(manifest(job("a", expected_output="a.pt"), student(16, 1))).complete("a", "s1_N16")
    assert [cell.key for cell in table(story, {"s1_N16": {"loss": 1.0}}).cells] == [{"N": "16"}]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (
            [{"seed": "1", "out": "out/s1.json"}, {"seed": "2", "out": "out/s2.json"}],
            [{"out": "out/s${seed}.json"}] * 2,
        ),
        ([{"seed": "1", "out": "a/j0/x"}, {"seed": "2", "out": "a/j1/x"}], [{}, {}]),
        ([{"seed": "1", "lr": "0.1"}, {"seed": "2", "lr": "0.2"}], [{"lr": "0.1"}, {"lr": "0.2"}]),
        ([{"seed": "1", "model": "gpt-1"}, {"seed": "2", "model": "gpt-1"}], [{"model": "gpt-1"}] * 2),
        ([{"seed": "1", "d": "v11"}, {"seed": "2", "d": "v12"}], [{"d": "v11"}, {"d": "v12"}]),
        ([{"seed": "1", "c": r"\1/1"}, {"seed": "2", "c": r"\2/2"}], [{"c": r"\${seed}/${seed}"}] * 2),
    ],
)
def test_args_that_only_carry_the_seed_or_the_id_tell_no_cells_apart(
    params: list[dict[str, str]], expected: list[dict[str, str]]
) -> None:
    made = manifest(*(job(f"j{n}", params=one) for n, one in enumerate(params)))
    found = [{k: v for k, v in one.items() if k != "seed"} for one in cells.identities(made).values()]
    assert found == expected


def result(run: str, name: str, at: str, loss: float | None, **params: str) -> Result:
    numbers = {} if loss is None else {"loss": loss}
    return Result(run, name, "main", params, "completed" if at else "stuck", at, numbers)


def test_of_several_runs_the_job_counts_that_completed_last() -> None:
    first = [result("r1", "a", "2026-01-01T10:00:00Z", 1.0, N="1"), result("r1", "b", "", None, N="2")]
    second = [
        result("r2", "x", "2026-01-02T10:00:00Z", 2.0, N="1"),
        result("r2", "y", "2026-01-02T10:00:00Z", 3.0, N="2"),
    ]
    third = [result("r3", "z", "", None, N="1"), result("r3", "new", "2026-01-03T10:00:00Z", 4.0, N="3")]
    joined = cells.join([first, second, third])
    assert [(one.run, one.id) for one in joined] == [("r2", "x"), ("r2", "y"), ("r3", "new")]
    assert cells.join([second, first]) == [second[0], second[1]]
    never = cells.join([[first[1]], [result("r2", "b", "", None, N="2")]])
    assert [one.run for one in never] == ["r2"]


def test_only_numbers_of_the_metrics_that_are_shown_are_missing() -> None:
    both = {"loss": GOAL["loss"], "acc": GOAL["loss"]}
    story = Story(manifest(*(student(16, seed, metrics=both) for seed in (1, 2)))).complete("s1_N16", "s2_N16")
    made = document(story, {"s1_N16": {"loss": 0.5}, "s2_N16": {"acc": 0.9}}, {"s1_N16": {"acc": "no key acc"}})
    found = cells.read(made, story.manifest, {}, RUN_ID)
    for names, missing in [
        ((), [("s1_N16", "acc: no key acc"), ("s2_N16", "has no loss")]),
        (("loss",), [("s2_N16", "has no loss")]),
        (("acc",), [("s1_N16", "acc: no key acc")]),
    ]:
        (cell,) = cells.table(found, {}, (), names).cells
        assert [(one.id, one.why) for one in cell.missing] == missing


def test_by_pools_all_else_and_metric_leaves_the_others_out() -> None:
    story = Story(manifest(*(student(n, seed) for n in (16, 32) for seed in (1, 2))))
    story.complete("s1_N16", "s2_N16", "s1_N32", "s2_N32")
    values = {f"s{seed}_N{n}": {"loss": float(n + seed), "acc": 1.0} for n in (16, 32) for seed in (1, 2)}
    made = table(story, values, ["seed"], ["loss"])
    assert [(cell.key, cell.stats["loss"].mean) for cell in made.cells] == [
        ({"seed": "1"}, 25.0),
        ({"seed": "2"}, 26.0),
    ]
    assert made.metrics == ["loss"]


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=8))
def test_any_values_are_described_and_written(values: list[float]) -> None:
    found = cells.stat(values)
    text = cells.stat_text(found)
    assert found.mean == statistics.fmean(values)
    mean = float(text.split(" ± ")[0])
    assert math.isclose(mean, found.mean, rel_tol=1e-3, abs_tol=(found.sd or 0) * 0.06 + 1e-12)


@pytest.mark.parametrize(
    ("stat", "text"),
    [
        (Stat(0.85, 0.0707, 2), "0.850 ± 0.071"),
        (Stat(0.5, None, 1), "0.5"),
        (Stat(0.5, 0.0, 3), "0.5"),
        (Stat(56789.0, 1234.0, 3), "56789 ± 1234"),
        (Stat(3.14159, 1.5, 3), "3.1 ± 1.5"),
        (Stat(1.0, 0.00995, 3), "1.000 ± 0.010"),
        (Stat(1.0, 1e-13, 3), "1 ± 1e-13"),
    ],
)
def test_a_mean_is_written_as_far_as_its_deviation(stat: Stat, text: str) -> None:
    assert cells.stat_text(stat) == text


# -- effects -----------------------------------------------------------------------------------------------------------

PUBLISHED = [  # two-sided 95 % and 99 % points of Student's t, from the tables in textbooks
    (1, 12.706, 63.657), (2, 4.303, 9.925), (3, 3.182, 5.841), (4, 2.776, 4.604), (5, 2.571, 4.032), (10, 2.228, 3.169),
    (20, 2.086, 2.845), (30, 2.042, 2.750), (60, 2.000, 2.660), (120, 1.980, 2.617), (10**7, 1.960, 2.576),
]  # fmt: skip


@pytest.mark.parametrize("value", [0.1, 0.92294807370184])
def test_values_that_are_alike_have_no_deviation(value: float) -> None:
    for n in range(2, 12):
        assert cells.stat([value] * n).sd == 0.0


@pytest.mark.parametrize(("freedom", "at_95", "at_99"), PUBLISHED)
def test_quantiles_of_students_t_are_those_of_the_tables(freedom: float, at_95: float, at_99: float) -> None:
    assert t_quantile(0.975, freedom) == pytest.approx(at_95, abs=5.1e-4)
    assert t_quantile(0.995, freedom) == pytest.approx(at_99, abs=5.1e-4)


def test_an_effect_has_the_interval_of_welch() -> None:
    # Two groups with different variances: by hand, 5.2 degrees of freedom.
    treated, control = [27.5, 21.0, 19.0, 23.6, 17.0], [27.1, 22.0, 20.8, 23.4]
    parts = (statistics.variance(treated) / 5, statistics.variance(control) / 4)
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 3)
    found = effect(treated, control)
    assert found.difference == pytest.approx(21.62 - 23.325)
    assert found.low is not None
    assert found.high is not None
    half = t_quantile(0.975, freedom) * math.sqrt(sum(parts))
    assert (found.high - found.low) / 2 == pytest.approx(half)
    assert found.low < found.difference < found.high


def test_an_effect_of_single_values_has_no_interval() -> None:
    assert effect([2.0], [1.0, 1.5]) == Effect(0.75, None, None)
    assert effect([2.0, 2.0], [1.0, 1.0]) == Effect(1.0, 1.0, 1.0)


def test_numbers_of_any_size_are_described_and_compared() -> None:
    huge = [1e308, 1.5e308, 1.2e308]
    found = cells.stat(huge)
    assert found.mean == pytest.approx(1.2333e308, rel=1e-3)
    assert found.sd == pytest.approx(2.5166e307, rel=1e-3)
    compared = effect(huge, [1e200, 2e200])
    assert compared.difference == pytest.approx(1.2333e308, rel=1e-3)
    assert compared[1:] == (None, None)


def test_a_cell_is_compared_with_the_one_that_is_the_same_elsewhere() -> None:
    results = [result("r", f"{n}{lam}", "2026-01-01T10:00:00Z", 1.0, N=n, lam=lam) for n in "12" for lam in "ab"]
    made = cells.table(results, {})
    found = [control_of(cell, made, {"lam": "a"}) for cell in made.cells]
    assert [None if one is None else one.key for one in found] == [
        None, {"N": "1", "lam": "a"}, None, {"N": "2", "lam": "a"},
    ]  # fmt: skip
    assert control_of(made.cells[0], made, {"lam": "c"}) is None


# -- forms ----------------------------------------------------------------------------------------------------------

HOSTILE = "50%_a&b #{x} \\cmd ~^ $y$ <i> | \"q\" 'r' `s` -- =1+1"


def hostile() -> Table:
    results = [
        result("r", "a", "2026-01-01T10:00:00Z", 1.0, a_b=HOSTILE),
        result("r", "b", "2026-01-01T10:00:00Z", 2.0, a_b="=cmd()"),
    ]
    return cells.table(results, {"loss": "min"})


def test_csv_opens_with_the_csv_module() -> None:
    rows = list(csv.DictReader(io.StringIO(results_text.csv_text(hostile()))))
    assert rows[0] == {
        "a_b": HOSTILE, "loss_mean": "1.0", "loss_sd": "", "loss_n": "1", "jobs": "1", "missing": "0",
    }  # fmt: skip
    assert rows[1]["a_b"] == "'=cmd()", "a spreadsheet would compute it"


def test_latex_escapes_what_is_a_command() -> None:
    text = results_text.latex(hostile())
    assert r"50\%\_a\&b \#\{x\} \textbackslash{}cmd \textasciitilde{}\textasciicircum{} \$y\$" in text
    assert r"\toprule" in text
    assert r"$\mathbf{1}$ \\" in text
    inner = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert all(line.count(" & ") == 1 and line.endswith(r" \\") for line in inner.strip().splitlines())


ENGINES = [name for name in ("pdflatex", "tectonic") if shutil.which(name)]


@pytest.mark.parametrize("engine", ENGINES)
def test_latex_compiles(engine: str, tmp_path: Path) -> None:
    body = results_text.latex(hostile())
    head = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,textcomp}"
    (tmp_path / "x.tex").write_text(f"{head}\\begin{{document}}{body}\\end{{document}}")
    mode = ["-interaction=nonstopmode"] if engine == "pdflatex" else []
    subprocess.run([engine, *mode, "x.tex"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "x.pdf").stat().st_size > 0


def test_markdown_stays_a_table() -> None:
    lines = results_text.markdown(hostile()).splitlines()
    assert lines[:2] == ["| a_b | loss | missing |", "|---|---:|---:|"]
    assert lines[2].replace("\\|", "").count("|") == 4
    assert lines[2].endswith("| **1** | - |")


def test_what_is_the_same_in_all_rows_is_reported_once() -> None:
    results = [result("r", n, "2026-01-01T10:00:00Z", 1.0, N=n, epochs="10") for n in "12"]
    made = cells.table(results, {})
    keys, rows = results_text.rows(made)
    assert (keys, rows) == (1, [["N", "loss", "missing"], ["1", "1", "-"], ["2", "1", "-"]])
    assert results_text.notes(made) == ["the same in all rows: epochs=10"]


# -- the verb -------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on this machine, in the working directory."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / LOCAL_RUNS / RUN_ID
    story = Story(manifest(*(student(n, seed) for n in (16, 32) for seed in (1, 2))), root)
    story.complete("s1_N16", "s2_N16", "s1_N32")
    story.write()
    metrics = {"s1_N16": {"loss": 0.5}, "s2_N16": {"loss": 0.7}, "s1_N32": {"loss": 0.4}}
    story.paths.state.write_text(json.dumps(document(story, metrics)))
    return root


@pytest.mark.usefixtures("run")
def test_the_verb_prints_every_form(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str) -> str:
        assert main.main(["results", *arguments]) == DONE
        return capsys.readouterr().out

    assert json.loads(printed("--json"))["rows"][0]["metrics"]["loss"]["n"] == 2
    text = printed()
    assert [line.split() for line in text.splitlines()[:3]] == [
        ["N", "loss", "n", "missing"],
        ["16", "0.60", "±", "0.14", "2", "-"],
        ["32", "0.4*", "1", "1"],
    ]
    assert "2 cells, 4 jobs, 1 without a number" in text
    assert "s2_N32: pending" in printed("--missing")
    assert [row["key"] for row in json.loads(printed("--missing", "--json"))["rows"]] == [{"N": "32"}]
    assert printed("--csv").startswith("N,loss_mean,loss_sd,loss_n,jobs,missing\n16,0.6,")
    assert "| 32 | **0.4** | 1 | 1 |" in printed("--markdown")
    assert r"\begin{tabular}{lrr}" in printed("--latex")
    twice = json.loads(printed("--run", RUN_ID, "--run", RUN_ID, "--json"))
    assert [row["metrics"]["loss"]["n"] for row in twice["rows"]] == [2, 1], "the same run twice counts once"


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--by", "n"], "no key is called n; did you mean N?"),
        (["--by", "zzz"], "no key is called zzz; there are: N, seed, phase, job"),
        (["--metric", "los"], "no metric is called los; did you mean loss?"),
        (["--by", "N,seed"], "give each key its own option: --by N --by seed"),
        (["--json", "--csv"], "give one of --json, --csv, --markdown and --latex"),
    ],
)
def test_what_there_is_not_is_reported_with_what_there_is(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["results", *arguments]) == USE
    assert says in capsys.readouterr().err
