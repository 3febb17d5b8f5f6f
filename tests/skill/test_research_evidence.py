"""Evidence of runs: lines that come back as they were, and what they say together, each number with its runs."""

from __future__ import annotations

import math

import pytest

from queue_manager.core.manifest import JobSpec, Manifest, Phase
from skill.reports import cells
from skill.reports.effect import effect
from skill.research import evidence
from skill.research.evidence import Evidence, EvidenceError
from tests.skill.paper_evidence import sweep


def test_a_line_comes_back_as_it_was() -> None:
    for one in sweep():
        line = evidence.encode(one)
        assert line.endswith("\n")
        assert line.count("\n") == 1
        assert evidence.decode(line) == one


def test_what_a_newer_version_wrote_is_read() -> None:
    line = evidence.encode(sweep()[0]).replace("{", '{"more": [1], ', 1)
    assert evidence.decode(line) == sweep()[0]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not a line of evidence"),
        ("[]", "is not a line of evidence"),
        ('{"run": "a"}', "is not a line of evidence"),
        (evidence.encode(sweep()[0]).replace('"acc": 0.51', '"acc": "0.51"'), "metric acc has to be a number"),
        (evidence.encode(sweep()[0]).replace('"lam": "0"', '"lam": 0'), "have to be text"),
    ],
)
def test_a_line_that_is_none_says_why(line: str, says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        evidence.decode(line)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("3f9c2d1a7b0e", ("3f9c2d1a7b0e", False)),
        ("3f9c2d1a7b0e+5b21c09e", ("3f9c2d1a7b0e", True)),
        ("files:5b21c09e7d44", (None, None)),
        (None, (None, None)),
    ],
)
def test_commit_and_changes_are_told_from_the_name_of_the_code(
    code: str | None, found: tuple[str | None, bool | None]
) -> None:
    assert evidence.commit_of(code) == found


def test_cells_are_those_of_results() -> None:
    lines = sweep()
    jobs = tuple(JobSpec(one.run, "", "distill", params=one.params) for one in lines)
    numbers = {one.run: one.metrics for one in lines}
    rows = [
        {"id": one.run, "status": "completed", "completed": one.finished, "error": None, "waiting": None}
        for one in lines
    ]
    manifest = Manifest("moons", jobs, (Phase("distill"),))
    wanted = cells.table(cells.read({"jobs": rows}, manifest, numbers, "w"), {"acc": "max", "loss": "min"})
    made = evidence.aggregate(lines).tables["distill"]
    assert [(cell.key, cell.stats) for cell in made.cells] == [(cell.key, cell.stats) for cell in wanted.cells]


def test_every_number_has_the_runs_that_it_rests_on() -> None:
    lines = sweep()
    lines[1] = lines[1]._replace(metrics={"acc": 0.52}, errors={"loss": "out/2.json: no key loss"})
    (phase,) = evidence.document(evidence.aggregate(lines))["phases"]
    first = phase["rows"][0]
    assert first["metrics"]["acc"]["runs"] == ["moons-r1", "moons-r2", "moons-r3"]
    assert first["metrics"]["loss"]["runs"] == ["moons-r1", "moons-r3"]
    assert first["metrics"]["loss"]["n"] == 2
    assert first["missing"] == [{"run": "moons-r2", "why": "loss: out/2.json: no key loss"}]
    assert first["per_seed"][1] == {"run": "moons-r2", "seed": {"seed": "2"}, "metrics": {"acc": 0.52}}


def test_a_null_result_is_told_with_effect_interval_and_n() -> None:
    found = {
        (one["metric"], one["key"]["lam"]): one
        for one in evidence.document(evidence.aggregate(sweep(), {"lam": "0"}))["effects"]
    }
    null = found["loss", "0.5"]
    wanted = effect([0.1, 0.2, 0.1 * 3], [0.1, 0.2, 0.1 * 3])
    assert null["says"] == evidence.NULL
    assert (null["difference"], null["low"], null["high"]) == tuple(wanted)
    assert wanted.low is not None
    assert wanted.low < 0 < -wanted.low
    assert null["n"] == [3, 3]
    assert null["runs"] == ["moons-r4", "moons-r5", "moons-r6"]
    assert null["control_runs"] == ["moons-r1", "moons-r2", "moons-r3"]
    assert found["acc", "0.5"]["says"] == evidence.BETTER
    assert math.isclose(found["acc", "0.5"]["difference"], 0.5)
    assert ("acc", "0") not in found, "the control is not compared with itself"


def test_one_seed_alone_makes_no_null_result() -> None:
    (one, _) = evidence.aggregate(sweep(("0", "0.5"), ("1",)), {"lam": "0"}).comparisons
    assert (one.says, one.effect.low) == (evidence.UNKNOWN, None)


@pytest.mark.parametrize(
    ("difference", "goal", "says"),
    [(1.0, "max", "better"), (1.0, "min", "worse"), (-1.0, "min", "better"), (1.0, None, "different")],
)
def test_what_an_effect_says_depends_on_the_goal(difference: float, goal: str | None, says: str) -> None:
    found = effect([difference, difference + 0.01], [0.0, 0.01])
    assert evidence.verdict(found, goal) == says


def test_phases_have_tables_of_their_own() -> None:
    other = [one._replace(run=f"t{one.run}", phase="train", params={"seed": one.params["seed"]}) for one in sweep()[:3]]
    tables = evidence.aggregate([*sweep(), *other]).tables
    assert list(tables) == ["distill", "train"]
    assert len(tables["train"].cells) == 1


def test_runs_without_keys_are_told_by_their_ids() -> None:
    lines = [Evidence(f"r{n}", "w", f"r{n}", "runs", {}, {"acc": 0.1 * n}) for n in (1, 2)]
    table = evidence.aggregate(lines).tables["runs"]
    assert [cell.key for cell in table.cells] == [{"job": "r1"}, {"job": "r2"}]
