"""What a log has gained since it was read last: real files that grow, are cut off, replaced, or are very large."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from queue_manager.adapters import log_reader
from queue_manager.adapters.log_reader import HEAD, LogReader, News
from queue_manager.adapters.regular import open_regular


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "a.log"


def add(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def test_only_what_is_new_is_read(log: Path) -> None:
    reader = LogReader(log)
    assert reader.read() == News([])
    add(log, b"one\ntwo\r")
    assert reader.read() == News(["one", "two"], grew=True)
    assert reader.read() == News([])
    add(log, b"\x1b[32mthree\x1b[0m\n")
    assert reader.read() == News(["three"], grew=True)


def test_a_line_that_is_not_whole_waits_for_its_end(log: Path) -> None:
    reader = LogReader(log)
    add(log, b"step 1/5000\nstep 12")
    assert reader.read().lines == ["step 1/5000"]
    add(log, b"0/5000\n")
    assert reader.read().lines == ["step 120/5000"]


def test_a_last_line_without_an_end_is_read_once_nothing_comes_any_more(log: Path) -> None:
    reader = LogReader(log)
    add(log, b"\r 45%|##  | 45/100")
    assert reader.read().lines == []
    assert reader.read() == News([" 45%|##  | 45/100"])
    assert reader.read() == News([])
    add(log, b"\r 46%|##  | 46/100\r")
    assert reader.read().lines == [" 46%|##  | 46/100"]


def test_a_log_that_was_cut_off_or_replaced_is_read_from_its_beginning(log: Path) -> None:
    reader = LogReader(log)
    add(log, b"a long first line\n")
    reader.read()
    os.truncate(log, 0)
    add(log, b"short\n")
    assert reader.read().lines == ["short"]
    log.rename(log.with_suffix(".1"))
    assert reader.read() == News([])
    add(log, b"another file, longer than the one before\n")
    assert reader.read().lines == ["another file, longer than the one before"]
    os.replace(log, log.with_suffix(".2"))
    add(log, b"of the same length as the one before it.\n")
    assert reader.read().lines == ["of the same length as the one before it."]


def test_of_a_large_log_a_bounded_part_is_read(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(log, b"first line\n")
    os.truncate(log, 1 << 30)  # a hole: it takes no room on the disk
    add(log, b"\nlast line\n")
    read = 0
    opened = open_regular

    def counted(path: Path) -> object:
        class File:
            def __init__(self) -> None:
                self.file = opened(path)

            def __enter__(self) -> File:
                return self

            def __exit__(self, *_: object) -> None:
                self.file.close()

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

            def read(self, size: int = -1) -> bytes:
                nonlocal read
                data = self.file.read(size)
                read += len(data)
                return data

        return File()

    monkeypatch.setattr(log_reader, "open_regular", counted)
    reader = LogReader(log)
    found = reader.read(most=10_000)
    assert (found.lines[0], found.lines[-1], found.gap) == ("first line", "last line", True)
    assert read <= 10_000 + HEAD
    read = 0
    add(log, b"x" * 200_000 + b"\nend\n")
    assert reader.read(most=10_000) == News(["end"], gap=True, grew=True)
    assert read <= 10_000 + HEAD


def test_a_line_that_never_ends_takes_no_memory(log: Path) -> None:
    reader = LogReader(log)
    for _ in range(10):
        add(log, b"x" * HEAD)
        assert reader.read().lines == []
    add(log, b"\nnext\n")
    assert reader.read().lines == ["next"]


def test_what_is_no_file_has_nothing_new(log: Path) -> None:
    os.mkfifo(log)
    assert LogReader(log).read() == News([])
    log.unlink()
    log.mkdir()
    assert LogReader(log).read() == News([])
