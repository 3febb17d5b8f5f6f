"""The lock of all users: held by one at a time, and no hindrance forever, whatever somebody puts in its place."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_manager.adapters import cards_lock
from queue_manager.adapters.cards_lock import BOUND, CardsLock, parse_holder


class Clock:
    """Goes on by half a second at each look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wavequeue.lock"


def test_one_has_it_at_a_time(path: Path) -> None:
    first, second = CardsLock(path), CardsLock(path, Clock())
    assert (first.take(), first.held, first.fault) == (None, True, None)
    words = second.take()
    assert words is not None
    assert str(path) in words
    assert (second.held, second.fault) == (False, None)
    first.release()
    assert (second.take(), second.held) == (None, True)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_holder_that_does_not_go_on_is_passed_after_a_bound_and_named(path: Path) -> None:
    clock = Clock()
    mine = CardsLock(path, clock)
    mine.take()
    mine.release()
    holder = os.open(path, os.O_RDONLY)  # that is enough for anybody
    fcntl.flock(holder, fcntl.LOCK_EX)
    began, turns = clock.now, 0
    while (words := mine.take()) is not None:
        turns += 1
        assert f"is held by process {os.getpid()} of user" in words
        assert mine.fault is None
    assert turns > 1
    assert BOUND <= clock.now - began < BOUND + 5
    assert mine.fault is not None
    assert f"held for over a minute by process {os.getpid()} of user" in mine.fault
    before = clock.now
    assert (mine.take(), mine.held) == (None, False)  # and is not waited for again
    assert clock.now - before < cards_lock.PATIENCE
    os.close(holder)
    assert [mine.take(), mine.held, mine.fault] == [None, True, None]


IN_PLACE: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("elsewhere"),
    "a link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "a FIFO": os.mkfifo,
    "a directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_is_put_in_its_place_is_reported_and_hinders_nobody(path: Path, kind: str) -> None:
    IN_PLACE[kind](path)
    lock = CardsLock(path, Clock())
    assert (lock.take(), lock.held) == (None, False)
    assert lock.fault is not None
    assert str(path) in lock.fault
    assert ("is a symbolic link" in lock.fault) == ("link" in kind)
    assert not (path.parent / "elsewhere").exists()
    path.rmdir() if path.is_dir() else path.unlink()
    assert [lock.take(), lock.held, lock.fault] == [None, True, None]


def test_one_that_its_maker_replaced_is_that_of_all(path: Path) -> None:
    first, second = CardsLock(path, Clock()), CardsLock(path, Clock())
    first.take()
    path.unlink()
    assert (second.take(), second.held) == (None, True)
    first.release()
    assert first.take() is not None  # it is the new one that both want
    second.release()
    assert (first.take(), first.held) == (None, True)


def test_the_holder_is_read_from_the_kernel_s_list() -> None:
    text = (
        "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n2: FLOCK  ADVISORY  WRITE 12 08:01:78 0 EOF\n"
        "2: -> FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n3: FLOCK  ADVISORY  WRITE 14 08:01:77 0 EOF\ncut"
    )
    device = os.makedev(8, 1)
    assert parse_holder(text, device, 77) == 14
    assert parse_holder(text, device, 79) == 0
