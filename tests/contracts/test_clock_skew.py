"""The clock of a file server against the run directory's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import clock_skew
from queue_manager.adapters.clock_skew import ClockSkew

DAY = 86_400 * 10**9


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[str]]:
    """A directory on a file system of its own, whose clock is a day behind; and the directories that were measured."""
    (tmp_path / "run").mkdir()
    (tmp_path / "nfs0" / "out").mkdir(parents=True)
    measured: list[str] = []
    real = os.stat

    def stat(path: Any, **more: Any) -> Any:
        found = real(path, **more)
        if "nfs0" not in str(path):
            return found
        values = list(found)
        values[2] = -7  # st_dev
        return os.stat_result(values)

    def written(folder: str) -> int:
        measured.append(folder)
        return -DAY if "nfs0" in folder else 0

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(clock_skew, "written_ns", written)
    return tmp_path, measured


@pytest.mark.parametrize("pattern", ["out/a.pt", "out/*.pt", "out/new/deep/a.pt", "a.pt"])
def test_a_server_whose_clock_is_off_is_measured_once(server: tuple[Path, list[str]], pattern: str) -> None:
    root, measured = server
    skew = ClockSkew(root / "run")
    assert [skew.of(pattern, str(root / "nfs0")) for _ in range(3)] == [-DAY] * 3
    assert len(measured) == 2


def test_one_file_system_has_one_clock(server: tuple[Path, list[str]]) -> None:
    root, measured = server
    assert ClockSkew(root / "run").of("out/a.pt", str(root)) == 0
    assert measured == []


def test_what_cannot_be_written_to_is_taken_as_it_is(
    server: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: str) -> int:
        raise PermissionError(folder)

    monkeypatch.setattr(clock_skew, "written_ns", refuse)
    assert ClockSkew(server[0] / "run").of("out/a.pt", str(server[0] / "nfs0")) == 0


def test_the_time_of_a_file_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    first = clock_skew.written_ns(str(tmp_path))
    assert clock_skew.written_ns(str(tmp_path)) >= first
    assert list(tmp_path.iterdir()) == []
