"""Rules of metrics: what they find in JSON, CSV and logs, and what they say where there is nothing to find."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.metric_rules import (
    LogValues,
    Rule,
    from_csv,
    from_json,
    is_simple,
    numbers,
    repeats_repeats,
    rules,
)
from queue_manager.core.status import Status
from tests.core.states import run_to_end, spec, turns, world
from tests.fakes import Plan, with_plans

DATA: dict[str, Any] = {
    "eval": {"loss": 0.5, "by.class": {"a.b": 3}, "text": "0.5", "flag": True, "all": [1, {"f1": 0.75}]},
    "eval.acc": 0.9,
    "nan": math.nan,
    "huge": 10**400,
}


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("eval.loss", 0.5),
        ("eval.acc", 0.9),
        ("eval.by.class.a.b", 3.0),
        ("eval.all.0", 1.0),
        ("eval.all.-1.f1", 0.75),
        ("nan", "is nan"),
        ("huge", "holds a number that is too large"),
        ("eval.text", "has no number under 'eval.text': it is '0.5'"),
        ("eval.flag", "has no number under 'eval.flag': it is True"),
        ("eval", "has no number under 'eval': it is a mapping"),
        ("eval.all.2", "has no key 'eval.all.2'; keys there: eval.loss, eval.by.class.a.b, eval.acc"),
        ("loss", "has no key 'loss'; keys there: eval.loss, eval.by.class.a.b, eval.acc"),
    ],
)
def test_a_number_of_a_json_file(key: str, wanted: float | str) -> None:
    assert from_json(DATA, key) == wanted


def test_a_json_file_without_keys() -> None:
    assert from_json([], "a") == "has no key 'a'; it has no keys"
    assert from_json({"a": "x"}, "b") == "has no key 'b'; keys there: a"


@pytest.mark.parametrize(
    ("take", "wanted"), [("first", 3.0), ("last", 2.0), ("min", -1e-2), ("max", 3.0), ("mean", (3 - 1e-2 + 2) / 3)]
)
def test_values_of_a_log(take: str, wanted: float) -> None:
    values = LogValues(Rule("log", r"acc[=:] ?(\S+)", take=take))
    for line in ("begin", "acc=3.0, next", "acc: -1e-2", "acc=2%", "end"):
        values.take(line)
    assert values.found() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ([], "no line of the log matches 'acc=(.*)'"),
        (["acc=high"], "the log has 'high' for it, which is not a number"),
        (["acc=0.5", "acc=nan"], "is nan"),
        (["acc=0.5", "acc=high"], 0.5),
    ],
)
def test_what_is_no_value_of_a_log(lines: list[str], wanted: float | str) -> None:
    values = LogValues(Rule("log", "acc=(.*)"))
    for line in lines:
        values.take(line)
    assert values.found() == wanted


@pytest.mark.parametrize(
    ("regex", "simple", "nested"),
    [
        ("acc=([0-9.eE+-]+)", True, False), (r"step (\d+)", True, False), (r"a\+b\*([]+*{]+)", True, False),
        (r"step (\d+)/(\d+)", False, False), ("(a+)+b", False, True), ("(?:x{2,})*y", False, True),
        ("(a|b)+", True, False), (r"(\(+)?", True, False), ("", True, False), ("[^]+]+", True, False),
    ],
)  # fmt: skip
def test_which_regular_expressions_surely_take_no_time(regex: str, simple: bool, nested: bool) -> None:
    assert is_simple(regex) is simple
    assert repeats_repeats(regex) is nested


def test_where_some_lines_were_not_seen_only_the_last_value_is_known() -> None:
    values = LogValues(Rule("log", "acc=(.*)", take="first"))
    values.take("acc=0.25")
    values.values.leave_gap()
    values.take("acc=0.5")
    assert values.found() == 0.25
    for take, wanted in (("last", 0.5), ("max", "the log is too large for take: max; take: last reads its end")):
        values = LogValues(Rule("log", "acc=(.*)", take=take))
        values.values.leave_gap()
        values.take("acc=0.5")
        assert values.found() == wanted


CSV = ["\ufeffepoch, bleu,note\n", "1,20.5,a\n", "2,,b\n", "3,21.5,c\n", '4,,"x\n', 'y"\n']


@pytest.mark.parametrize(
    ("lines", "column", "take", "wanted"),
    [
        (CSV, "bleu", "last", 21.5),
        (CSV, "bleu", "first", 20.5),
        (CSV, "bleu", "mean", 21.0),
        (CSV, "epoch", "max", 4.0),
        ([line.replace(",", "\t") for line in CSV], "bleu", "max", 21.5),
        (CSV, "blue", "last", "has no column 'blue'; columns there: epoch, bleu, note"),
        (CSV, "note", "last", "has a column 'note' that holds 'x y', which is not a number"),
        (CSV[:1], "bleu", "last", "has a column 'bleu' that is empty"),
        ([], "bleu", "last", "has no column 'bleu'; it is empty"),
    ],
)
def test_a_column_of_a_csv_file(lines: list[str], column: str, take: str, wanted: float | str) -> None:
    found = from_csv(lines, column, take)
    assert (found.replace("\\n", " ") if isinstance(found, str) else found) == wanted


def test_rules_of_a_manifest() -> None:
    made = rules({"a": {"json": "o.json", "key": "k", "goal": "min"}, "b": {"csv": "o.csv", "column": "c"}})
    assert made == {"a": Rule("json", "o.json", "k", "last", "min"), "b": Rule("csv", "o.csv", "c")}


@pytest.mark.parametrize("metrics", [None, ["acc"], "acc", 1])
def test_what_manifests_of_earlier_versions_have_is_no_rule(metrics: Any) -> None:
    assert rules(metrics) == {}


@pytest.mark.parametrize(
    "rule", [1.0, {}, {"json": "a", "log": "(b)"}, {"log": 1}, {"log": "("}, {"log": "x"}, {"log": "(x)", "take": "z"}]
)
def test_a_rule_that_is_none_is_reported(rule: Any) -> None:
    assert str(rules({"n": rule})["n"]).startswith("its rule")


def test_the_numbers_of_an_output_are_few_and_finite() -> None:
    assert numbers(DATA) == {"eval.loss": 0.5, "eval.by.class.a.b": 3.0, "eval.acc": 0.9}
    assert len(numbers({str(n): n for n in range(1000)})) == 50
    assert json.dumps(numbers(DATA), allow_nan=False)


# -- in the state -----------------------------------------------------------------------------------------------------


def test_a_run_ends_when_the_metrics_of_its_jobs_are_known() -> None:
    host, manager = world(spec("a", metrics={"acc": {"log": "acc=(.*)"}}), spec("b", expected_output="b.pt"))
    host.plan_of = with_plans({}, Plan(1.0))
    events = turns(host, manager, 6)
    kinds = [type(event) for event in events]
    assert kinds.index(ev.MetricsRead) < kinds.index(ev.RunFinished)
    assert [event.job for event in events if isinstance(event, ev.MetricsRead)] == ["a"]
    assert manager.state.job("a").metrics == {"loss": 0.5}
    assert manager.state.job("b").metrics is None


def test_a_job_that_failed_has_no_metrics() -> None:
    host, manager = world(spec("a", metrics={"acc": {"log": "acc=(.*)"}}))
    host.plan_of = with_plans({}, Plan(1.0, 3))
    run_to_end(host, manager)
    assert manager.state.job("a").status is Status.STUCK
    assert manager.state.unread == set()
