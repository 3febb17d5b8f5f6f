"""The lock of a run on several machines that share its directory, over which flock(2) does not reach."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from queue_manager.adapters import facts, guard, journal, run_lock
from queue_manager.adapters.guard import Guard, RunTakenError
from queue_manager.adapters.journal import Journal, fence, read_journal
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import HeldError, Lock
from queue_manager.core import events as ev
from queue_manager.core import layout
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths


class Machines:
    """Which machine this process is on. Locks do not reach from one to the other."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch
        patch.setattr(run_lock, "fcntl", SimpleNamespace(flock=lambda _fd, _how: None, LOCK_EX=0, LOCK_NB=0))
        patch.setattr(facts, "fcntl", SimpleNamespace(flock=lambda _fd, _how: None, LOCK_SH=0, LOCK_NB=0))
        self.be("login1")

    def be(self, name: str) -> None:
        self._patch.setattr(socket, "gethostname", lambda: name)
        self._patch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(monkeypatch)


@pytest.fixture
def first(tmp_path: Path, machines: Machines) -> Iterator[Lock]:  # noqa: ARG001
    """A manager on login1."""
    lock = Lock(tmp_path / "manager.lock", {"pid": os.getpid(), "host": "login1", "since": "noon", "job": 7}, True)
    yield lock
    lock.close()


def other(root: Path, **options: object) -> Lock:
    return Lock(root / "manager.lock", {"pid": 2, "host": "login2", "since": "later"}, True, **options)  # type: ignore[arg-type]


def age(root: Path, seconds: float) -> None:
    at = time.time() - seconds
    os.utime(root / "manager.beat", (at, at))


def test_what_is_sent_as_a_text_knows_the_same_limit() -> None:
    assert facts.STALE_AFTER == layout.STALE_AFTER > 3 * run_lock.BEAT


@pytest.mark.usefixtures("first")
def test_a_manager_elsewhere_is_believed_as_long_as_it_shows_that_it_lives(tmp_path: Path, machines: Machines) -> None:
    machines.be("login2")
    with pytest.raises(HeldError, match=r"on login1, since noon; it was alive 0 s ago\. If that machine is gone, try"):
        other(tmp_path)
    assert facts.holder(tmp_path / "manager.lock") == (0, "login1")
    age(tmp_path, layout.STALE_AFTER - 5)
    with pytest.raises(HeldError, match=r"alive 85 s ago.* in 5 s$"):
        other(tmp_path)
    age(tmp_path, layout.STALE_AFTER + 1)
    assert facts.held_by(tmp_path / "manager.lock") is None
    taken = other(tmp_path)
    assert taken.succeeds
    machines.be("login1")
    assert facts.holder(tmp_path / "manager.lock") == (0, "login2")
    taken.close()


def test_its_clock_is_the_file_servers(tmp_path: Path, machines: Machines, first: Lock) -> None:
    """Ours may be ahead by more than it is given."""
    machines.be("login2")
    clock = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: clock() + 1000)
        assert facts.holder(tmp_path / "manager.lock") == (0, "login1")
        with pytest.raises(HeldError):
            other(tmp_path)
    assert not first.is_lost()


@pytest.mark.usefixtures("first")
def test_slurm_may_know_that_it_has_ended(tmp_path: Path, machines: Machines) -> None:
    machines.be("login2")
    asked = []
    with pytest.raises(HeldError):
        other(tmp_path, ended=lambda holder: asked.append(holder["job"]))
    assert asked == [7]
    taken = other(tmp_path, ended=lambda _holder: True)
    assert taken.succeeds
    taken.close()


def test_a_manager_that_ends_by_itself_is_not_waited_for(tmp_path: Path, machines: Machines) -> None:
    lock = Lock(tmp_path / "manager.lock", {"pid": os.getpid(), "host": "login1", "since": "noon"}, True)
    assert (tmp_path / "manager.beat").exists()
    lock.close()
    machines.be("login2")
    assert facts.held_by(tmp_path / "manager.lock") is None
    taken = other(tmp_path)
    assert not taken.succeeds
    taken.close()


def test_it_shows_that_it_lives(tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "BEAT", 0.01)
    lock = Lock(tmp_path / "manager.lock", {"pid": 1, "host": "login1", "since": "x"}, True)
    age(tmp_path, 1000)
    while time.time() - (tmp_path / "manager.beat").stat().st_mtime > 500:
        time.sleep(0.01)
    machines.be("login2")
    (tmp_path / "manager.lock").write_text(json.dumps({"pid": 2, "host": "login2", "token": "another"}))
    time.sleep(0.05)
    age(tmp_path, 1000)
    time.sleep(0.05)
    assert time.time() - (tmp_path / "manager.beat").stat().st_mtime > 500  # it is not its run any more
    lock.close()
    assert (tmp_path / "manager.beat").exists()


def test_a_manager_that_was_taken_for_dead_does_nothing_more(
    tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for long, as with its machine, and goes on while another one has the run."""
    paths = RunPaths.of(tmp_path)
    lock = Lock(paths.lock, {"pid": os.getpid(), "host": "login1", "since": "noon"}, True)
    old = Journal(paths.journal, 0)
    watch = Guard(RunDir(paths), old, lock)
    watch.append([Record(1, 1.0, ev.RunStarted("run", "test", "digest"))], True, 1.0)
    age(tmp_path, layout.STALE_AFTER + 1)
    machines.be("login2")
    taken = other(tmp_path)
    fence(paths.journal)
    new = Journal(paths.journal, paths.journal.stat().st_size)
    new.append([Record(2, 2.0, ev.ManagerStarted("login2", 2, "boot"))], urgent=True)
    kept = paths.journal.read_bytes()
    machines.be("login1")
    words = r"another manager has .*process 2 on login2, since later"
    with pytest.raises(RunTakenError, match=words):
        watch.append([Record(2, 2.0, ev.Paused())], True, 2.0)
    with pytest.raises(RunTakenError, match=words):
        watch.look(1e9)
    # Even if it was stopped between its look and its write: that goes into a file that nobody reads.
    monkeypatch.setattr(guard.Guard, "_check_lock", lambda _self: None)
    with pytest.raises(journal.JournalChangedError):
        old.append([Record(2, 2.0, ev.Paused())], urgent=True)
    assert paths.journal.read_bytes() == kept
    assert [record.seq for record in read_journal(paths.journal)[0]] == [1, 2]
    for one in (old, new):
        one.close()
    lock.close()
    assert (tmp_path / "manager.beat").exists()  # it is the other's
    taken.close()


def test_who_finds_a_manager_beside_a_removed_lock_leaves_the_run_to_it(tmp_path: Path) -> None:
    path = tmp_path / "manager.lock"
    lives = Lock(path, {"pid": 1, "host": socket.gethostname(), "since": "noon"}, True)
    path.unlink()
    second = Lock(path, {"pid": 2, "host": socket.gethostname(), "since": "later"}, True)
    assert lives.is_lost()
    second.close()
    assert not lives.is_lost()
    lives.renew()
    with pytest.raises(HeldError, match="process 1 on"):
        Lock(path, {"pid": 3, "host": socket.gethostname(), "since": "later"})
    lives.close()


def test_on_one_machine_the_lock_alone_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sign of life does not hold up whoever starts it again after a kill."""
    monkeypatch.setattr(run_lock, "_LEFT_BEHIND", 0.0)
    host = socket.gethostname()
    killed = Lock(tmp_path / "manager.lock", {"pid": 1 << 22, "host": host, "since": "noon"}, True)
    with pytest.raises(HeldError):
        Lock(tmp_path / "manager.lock", {"pid": 2, "host": host, "since": "later"}, True)
    fcntl.flock(killed._fd, fcntl.LOCK_UN)
    again = Lock(tmp_path / "manager.lock", {"pid": 2, "host": host, "since": "later"}, True)
    assert not again.succeeds
    assert killed.is_lost()
    killed.close()
    again.close()
