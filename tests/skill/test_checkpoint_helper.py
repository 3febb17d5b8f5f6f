"""The checkpoint helper: exactly one result for each item, whatever is killed, and when."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from queue_manager.core.partial import counts
from skill.common.errors import UseError
from skill.operations.copy_helper import copy_checkpoint_helper
from skill.research.checkpoint_helper import Checkpoint
from tests.skill.killed_experiments import ITEMS, WANTED, experiment, results

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process wrote is there; only a power cut would need it on the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def test_whatever_is_killed_and_when_a_rerun_has_exactly_all_results(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.skill.killed_experiments", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")


def test_an_exception_saves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "results.json"

    def fail(number: int) -> None:
        if number == 13:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        experiment(path, 10, fail)
    assert counts((tmp_path / ".results.partial.json").read_bytes(), whole=False) == (13, 25)
    again: list[int] = []
    experiment(path, 10, again.append)
    assert again[0] == 14
    assert results(path) == WANTED


def test_a_rerun_of_what_is_complete_writes_the_file_anew(tmp_path: Path) -> None:
    """A queue manager takes for a result only what was written since the attempt began."""
    path = tmp_path / "results.json"
    experiment(path)
    before = path.stat().st_ino, path.stat().st_mtime_ns
    experiment(path, after=lambda _: pytest.fail("nothing is left to do"))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != before
    assert results(path) == WANTED


def work(path: Path, items: list[str], total: int) -> None:
    with Checkpoint(str(path), total) as saved:
        for item in saved.rest(items):
            saved.add(item)


def test_wrong_use_is_said(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(ValueError, match="3 results of 25: some items got none"):
        work(path, ITEMS[:3], 25)
    with pytest.raises(ValueError, match="is of 25 items, and not of 30; move it away"):
        Checkpoint(str(path), 30)
    with pytest.raises(ValueError, match="more items than total"):
        work(tmp_path / "b.json", ITEMS, 2)
    with pytest.raises(ValueError, match="item 0 got no result"):
        list(Checkpoint(str(tmp_path / "c.json"), 2).rest(["a", "b"]))
    (tmp_path / "d.json").write_text("[1, ", encoding="utf-8")
    with pytest.raises(ValueError, match=r"d\.json was not written by Checkpoint"):
        Checkpoint(str(tmp_path / "d.json"), 2)


def test_the_copy_runs_alone_where_wavequeue_is_not_installed(tmp_path: Path) -> None:
    path, is_new = copy_checkpoint_helper(tmp_path)
    assert is_new
    assert copy_checkpoint_helper(tmp_path) == (path, False)
    ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    code = "from checkpoint import Checkpoint\nwith Checkpoint('r.json', 2) as s:\n  [s.add(i) for i in s.rest('ab')]"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, check=True)
    assert results(tmp_path / "r.json") == ["a", "b"]
    path.write_text('"""Mine."""\n', encoding="utf-8")
    with pytest.raises(UseError, match="is another file; rename it"):
        copy_checkpoint_helper(tmp_path)
    with pytest.raises(UseError, match="is not a directory"):
        copy_checkpoint_helper(tmp_path / "none")
