"""The checkpoint helper: exactly one result for each item, whatever is killed, and when."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_manager.core.partial import counts
from skill.common.errors import UseError
from skill.operations.copy_helper import copy_checkpoint_helper
from skill.research.checkpoint_helper import Checkpoint

ITEMS = [f"item {n}" for n in range(25)]
WANTED = [item.upper() for item in ITEMS]


def experiment(path: Path, every: int = 10, after: Callable[[int], None] = lambda _: None) -> None:
    """Work through the items. `after` is called with the number of each once its result is in."""
    with Checkpoint(str(path), len(ITEMS), every) as saved:
        for item in saved.rest(ITEMS):
            saved.add(item.upper())
            after(len(saved.results))


def killed(act: Callable[[], None]) -> None:
    """Do something in a process of its own, which is killed in it."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process wrote is there; only a power cut would need it on the disk."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def results(path: Path) -> list[str]:
    found: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("every", [1, 10, 50])
def test_killed_after_every_item_a_rerun_has_exactly_all_results(tmp_path: Path, every: int) -> None:
    for number in range(1, len(ITEMS) + 1):
        path = tmp_path / str(number) / "results.json"
        killed(lambda path=path, number=number: experiment(path, every, lambda n: kill_me() if n == number else None))  # type: ignore[misc]
        assert not path.exists()
        again: list[int] = []
        experiment(path, every, again.append)
        assert results(path) == WANTED
        assert again == list(range(number // every * every + 1, len(ITEMS) + 1)), "what was saved is not done again"
        assert [one.name for one in path.parent.iterdir()] == ["results.json"]


def test_killed_again_and_again_it_ends_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for number in range(1, len(ITEMS) + 1):
        killed(lambda number=number: experiment(path, 1, lambda n: kill_me() if n == number else None))  # type: ignore[misc]
    experiment(path, 1)
    assert results(path) == WANTED


@pytest.mark.parametrize("call", ["replace", "fsync", "unlink", "open"])
def test_killed_in_the_middle_of_each_write_nothing_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Before and after every call by which something is written, as often as there are such calls."""
    real = getattr(os, call)
    for at_call in range(1, 6):
        for is_after in (False, True):
            path, seen = tmp_path / f"{at_call}{is_after}" / "results.json", 0

            def fatal(*arguments: object, **options: object) -> object:
                nonlocal seen
                seen += 1
                if seen == at_call and not is_after:  # noqa: B023
                    kill_me()
                value = real(*arguments, **options)
                if seen == at_call:  # noqa: B023
                    kill_me()
                return value

            pid = os.fork()
            if pid == 0:
                monkeypatch.setattr(os, call, fatal)
                try:
                    experiment(path)
                finally:
                    os._exit(0)
            os.waitpid(pid, 0)
            again: list[int] = []
            experiment(path, after=again.append)
            assert results(path) == WANTED
            if call == "unlink":
                assert again == [], "nothing is removed before all of it is elsewhere"
            elif call == "replace":
                saved = 10 * min(2, at_call - 1 + is_after)
                assert again == [] or again[0] == saved + 1


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
