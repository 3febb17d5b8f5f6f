"""Metrics read from real files: which file counts, how much of it is read, and what is said of one that cannot be."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import metric_files, rule_process
from queue_manager.core.boundary import MetricsFound
from queue_manager.core.manifest import JobSpec, Manifest, Phase


def found(root: Path, rules: Any, since: int | None = 0, output: str | None = None, **env: str) -> MetricsFound:
    spec = JobSpec("a", "true", "main", metrics=rules, expected_output=output)
    manifest = Manifest("p", (spec,), (Phase("main"),), shell_paths=True)
    return metric_files.read(manifest, spec, str(root), root / "a.log", since, env)


def test_each_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.json").write_text('{"eval": {"loss": 0.5}}')
    (tmp_path / "out" / "a.csv").write_text("epoch,bleu\r\n1,20\r\n2,21\r\n")
    (tmp_path / "a.log").write_bytes(b"acc=0.1\racc=0.2\racc=0.3\n\x1b[32macc=0.4\x1b[0m\r\nacc=0.5")
    rules = {
        "loss": {"json": "$OUT/*.json", "key": "eval.loss"},
        "bleu": {"csv": "out/a.csv", "column": "bleu", "take": "first"},
        "last": {"log": "acc=([0-9.]+)"},
        "first": {"log": "acc=([0-9.]+)", "take": "first"},
    }
    wanted = {"loss": 0.5, "bleu": 20.0, "last": 0.5, "first": 0.1}
    assert found(tmp_path, rules, OUT=str(tmp_path / "out")) == MetricsFound(wanted)


def test_a_rule_that_takes_forever_is_ended_and_keeps_none_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_process, "PATIENCE", 1.0)
    (tmp_path / "a.log").write_bytes(b"acc=0.5 (train) acc=0.25 (test)\n" + b"a" * 400 + b"\n")
    rules = {"bad": {"log": "(?:a+)+:(.)"}, "acc": {"log": "acc=([0-9.]+)"}}
    done = found(tmp_path, rules)
    assert done.metrics == {"bad": None, "acc": 0.5}
    assert "takes longer than 1 s: write it without a repeat inside of a repeat" in done.errors["bad"]


def test_a_rule_that_may_take_long_is_applied_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"acc=0.5 (train) acc=0.25 (test)\n")
    both = r"acc=[0-9.]+ \(train\) acc=([0-9.]+) \(test\)"
    done = found(tmp_path, {"test": {"log": both}, "none": {"log": "(a*)b(c*)d"}})
    assert done == MetricsFound({"test": 0.25, "none": None}, {"none": "no line of the log matches '(a*)b(c*)d'"})


def test_what_is_wrong_with_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": ')
    (tmp_path / "old.json").write_text('{"a": 1}')
    (tmp_path / "folder.csv").mkdir()
    rules = {
        "bad": {"json": "bad.json", "key": "a"},
        "gone": {"json": "gone*.json", "key": "a"},
        "folder": {"csv": "folder.csv", "column": "a"},
        "log": {"log": "(x)"},
    }
    assert found(tmp_path, rules).errors == {
        "bad": "bad.json is not JSON: Expecting value: line 1 column 7 (char 6)",
        "gone": "gone*.json does not exist",
        "folder": "folder.csv cannot be read: is not a regular file",
        "log": "the log cannot be read: No such file or directory",
    }
    later = time.time_ns() + 10**9
    assert found(tmp_path, {"a": {"json": "old.json", "key": "a"}}, later) == MetricsFound(
        {"a": None}, {"a": "old.json has not changed since the job began: it is from before"}
    )
    assert found(tmp_path, {"a": {"json": "old.json", "key": "a"}}, None) == MetricsFound({"a": 1.0})


def test_without_rules_the_numbers_of_a_json_output_are_the_metrics(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps({"acc": 0.5, "name": "x", "eval": {"n": 3}, "bad": float("nan")}))
    assert found(tmp_path, None, output="*.json") == MetricsFound({"acc": 0.5, "eval.n": 3.0})
    (tmp_path / "o.json").write_text("no json")
    assert found(tmp_path, None, output="*.json") == MetricsFound({})


def test_of_a_huge_log_the_beginning_and_the_end_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"acc=1\n")
    os.truncate(log, 1 << 30)  # a hole takes no room
    with log.open("ab") as file:
        file.write(b"\nacc=2\n")
    rules = {take: {"log": "acc=([0-9.]+)", "take": take} for take in ("first", "last", "max")}
    monkeypatch.setattr(metric_files, "_END", 1 << 16)
    reasons = {"max": "the log is too large for take: max; take: last reads its end"}
    assert found(tmp_path, rules) == MetricsFound({"first": 1.0, "last": 2.0, "max": None}, reasons)


def test_a_file_that_a_running_job_writes_is_read_once_for_each_time_that_it_is_written(tmp_path: Path) -> None:
    rules = {
        "loss": {"json": "a.json", "key": "loss"},
        "acc": {"log": "acc=(.*)"},
        "other": {"csv": "a", "column": "a"},
    }
    spec = JobSpec("a", "true", "main", metrics=rules)
    manifest = Manifest("p", (spec,), (Phase("main"),), shell_paths=True)
    files = metric_files.FileMetric.of(manifest, spec, str(tmp_path), {}, {"loss", "acc"})
    assert set(files) == {"loss"}, "those that were asked for, and only what is in a file"
    assert files["loss"].news(0) is None
    path = tmp_path / "a.json"
    for text, value in (('{"loss": 0.5}', 0.5), ('{"loss": ', None), ('{"loss": 0.25}', 0.25)):
        path.write_text(text)
        assert files["loss"].news(0) == value
        assert files["loss"].news(0) is None
    later = time.time_ns() + 10**9
    path.write_text('{"loss": 0.125}')
    assert files["loss"].news(later) is None, "it is from before the attempt"
    path.write_text(" " * metric_files.MOST_RUNNING + '{"loss": 0.125}')
    assert files["loss"].news(0) is None
