"""The journal and the snapshot on a real disk: torn, broken, full, killed."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.adapters.files import write_whole
from queue_manager.adapters.journal import Journal, JournalChangedError, SnapshotWriter, read_journal
from queue_manager.core import events as ev
from queue_manager.core.events import Event, JournalError, Record
from tests.e2e.runs import ROOT, wait_for

AT = 1_700_000_000.125

EVENTS: list[Event] = [
    ev.RunStarted("run-1", "p", "0" * 64),
    ev.AttemptStarting("a", 1, 1, "wq.run-1.a.1", "boot", ("GPU-1",), (0,), None, (3,)),
    ev.JobHeld("b", "ckpt/größe.pt is not there"),
    ev.AttemptEnded("a", 1, "failed_other", "exit_code", 1, "exit code 1; last line: 日本", None, AT + 60),
]


def records(*events: Event, first: int = 1) -> list[Record]:
    return [Record(first + n, AT, event) for n, event in enumerate(events)]


def written(path: Path, lines: list[Record]) -> bytes:
    journal = Journal(path, 0)
    journal.append(lines, urgent=True)
    journal.close()
    return path.read_bytes()


@contextlib.contextmanager
def room(size: int) -> Iterator[None]:
    """No file may grow over `size` bytes: a write stops there, and the next one fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- the journal ------------------------------------------------------------------------------------------------------


def test_what_was_appended_is_read(tmp_path: Path) -> None:
    path, wanted = tmp_path / "journal", records(*EVENTS)
    data = written(path, wanted)
    assert read_journal(path) == (wanted, len(data))
    more = records(ev.RetryDue("a"), first=len(wanted) + 1)
    journal = Journal(path, len(data))
    journal.append(more, urgent=False)
    assert read_journal(path)[0] == wanted + more  # others see it, though the disk need not
    journal.close()


def test_an_empty_journal(tmp_path: Path) -> None:
    (tmp_path / "journal").touch()
    assert read_journal(tmp_path / "journal") == ([], 0)


def test_a_last_line_torn_at_any_byte_is_dropped_and_the_file_goes_on_whole(tmp_path: Path) -> None:
    path, wanted = tmp_path / "journal", records(*EVENTS)
    data = written(path, wanted)
    ends = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        found, length = read_journal(path)
        assert (found, length) == (wanted[:whole], ends[whole - 1] if whole else 0)
        journal = Journal(path, length)
        short = records(ev.Paused(), first=whole + 1)  # shorter than what was torn: nothing of that may stay behind it
        journal.append(short, urgent=False)
        journal.close()
        assert read_journal(path)[0] == wanted[:whole] + short
        assert path.read_bytes() == data[:length] + ev.encode(short[0]).encode()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3), st.binary(min_size=1, max_size=40), st.booleans())
def test_rubbish_at_the_end_is_dropped(whole: int, rubbish: bytes, ended: bool) -> None:
    """A power cut may leave blocks of anything behind the last line that was on disk."""
    data = "".join(map(ev.encode, records(*EVENTS[:whole]))).encode()
    rubbish = rubbish.replace(b"\n", b"\0") + b"\0" + (b"\n" if ended else b"")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "journal")
        path.write_bytes(data + rubbish)
        assert read_journal(path) == (records(*EVENTS[:whole]), len(data))


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("rubbish", ["\n", "{}\n", "x\n", "\0\0\0\n", '{"seq":1\n', "[]\n", "\udcff\n"])
def test_a_broken_line_in_the_middle_is_refused_by_its_number(tmp_path: Path, number: int, rubbish: str) -> None:
    lines = [ev.encode(record) for record in records(*EVENTS)]
    lines[number - 1] = rubbish
    path = tmp_path / "journal"
    path.write_bytes("".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(JournalError, match=rf"journal, line {number}: "):
        read_journal(path)


@pytest.mark.parametrize("seqs", [[2], [1, 1], [1, 3], [1, 2, 4], [1, 3, 2]])
def test_a_gap_or_a_repetition_is_refused(tmp_path: Path, seqs: list[int]) -> None:
    path = tmp_path / "journal"
    path.write_text("".join(ev.encode(Record(seq, AT, ev.RetryDue("a"))) for seq in seqs))
    wrong = next(n for n, seq in enumerate(seqs, 1) if n != seq)
    with pytest.raises(JournalError, match=rf"line {wrong} \(job a\): seq is {seqs[wrong - 1]}, not {wrong}"):
        read_journal(path)


@pytest.mark.parametrize("last", [True, False])
def test_a_line_of_a_newer_version_is_refused_and_not_taken_for_torn(tmp_path: Path, last: bool) -> None:
    lines = [ev.encode(record) for record in records(*EVENTS)]
    newer = '{"seq":3,"at":"2026-01-01T00:00:00.000Z","event":"JobMoved","job":"a"}\n'
    path = tmp_path / "journal"
    path.write_text("".join([*lines[:2], newer, *([] if last else lines[3:])]))
    before = path.read_bytes()
    with pytest.raises(JournalError, match=r"line 3 \(job a\): .*'JobMoved'.*use the version that wrote it"):
        read_journal(path)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_file_as_it_was_and_the_batch_goes_in_later(tmp_path: Path) -> None:
    path, lines = tmp_path / "journal", records(*EVENTS)
    before, after = written(path, lines[:2]), "".join(map(ev.encode, lines)).encode()
    for size in range(len(before), len(after)):
        path.write_bytes(before)
        journal = Journal(path, len(before))
        with room(size), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            journal.append(lines[2:], urgent=True)
        assert path.read_bytes() == before
        journal.append(lines[2:], urgent=True)
        journal.close()
        assert path.read_bytes() == after


def test_a_batch_that_could_not_be_synced_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, lines = tmp_path / "journal", records(*EVENTS)
    before = written(path, lines[:2])
    journal = Journal(path, len(before))

    def fail(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="No space left"):
            journal.append(lines[2:], urgent=True)
        assert path.read_bytes() == before
    journal.append(lines[2:], urgent=True)
    assert read_journal(path)[0] == lines


def test_urgent_batches_are_synced_once_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced = tmp_path / "journal", []
    journal = Journal(path, 0)
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_size))
    journal.append(records(*EVENTS[:2]), urgent=False)
    assert synced == []
    journal.append(records(*EVENTS[2:], first=3), urgent=True)
    assert synced == [path.stat().st_size]


# -- others at the journal --------------------------------------------------------------------------------------------


def _replace(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize(
    ("change", "says", "kept"),
    [
        (_replace, "was replaced by another file", False),
        (lambda path: os.truncate(path, 100), "bytes, not", False),
        (lambda path: os.truncate(path, 0), "bytes, not", False),
        (lambda path: path.write_bytes(path.read_bytes() + b"more\n"), "bytes, not", True),
        (lambda path: path.write_bytes(b"something else\n"), "bytes, not", True),
        (Path.unlink, "was deleted", False),
        (lambda path: (path.unlink(), path.mkdir()), "was replaced by another file", True),
    ],
    ids=["replaced", "cut", "empty", "appended", "overwritten", "removed", "directory"],
)
@pytest.mark.parametrize("large", [False, True])
def test_what_others_do_to_the_journal_is_seen_at_the_next_commit_and_put_back(
    tmp_path: Path, change: Callable[[Path], None], says: str, kept: bool, large: bool
) -> None:
    path, wanted = tmp_path / "journal", records(*EVENTS)
    journal = Journal(path, len(written(path, wanted[:2])))
    more = records(*(ev.JobHeld("b", "x" * 3000 if large else "x") for _ in range(50)), first=3)
    journal.append(more, urgent=False)
    journal.check()
    change(path)
    with pytest.raises(JournalChangedError, match=says):
        journal.check()
    last = records(ev.RetryDue("a"), first=53)
    with pytest.raises(JournalChangedError, match=says):
        journal.append(last, urgent=True)
    beside = journal.restore()
    assert (beside is not None) is kept
    journal.append(last, urgent=True)
    journal.check()
    found, length = read_journal(path)
    assert (found, length) == (wanted[:2] + more + last, path.stat().st_size)
    assert b"\0" not in path.read_bytes()
    assert {entry.name for entry in tmp_path.iterdir()} == {"journal", *([beside.name] if beside else [])}
    journal.close()


def test_a_file_system_that_numbers_its_files_anew_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    journal = Journal(path, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "samestat", lambda *_: False)
        journal.append(records(*EVENTS), urgent=True)
        journal.check()
    journal.close()


def test_a_commit_costs_one_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, asked = Journal(tmp_path / "journal", 0), list[Any]()
    real = os.stat

    def counted(*path: Any, **options: Any) -> os.stat_result:
        asked.append(path)
        return real(*path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", counted)
        patch.setattr(os, "fstat", lambda *_: pytest.fail("no second call"))
        journal.append(records(*EVENTS), urgent=True)
    assert len(asked) == 1
    journal.close()


# -- whole files ------------------------------------------------------------------------------------------------------

# For each number that it reads: forks a process that writes documents of many sizes, one over the other, from that
# number on; each tells its own length. It waits for the end of that process.
_WRITER = """
import itertools, os, sys
from pathlib import Path
from queue_manager.adapters.files import write_whole
path = Path(sys.argv[1])
for line in sys.stdin:
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("ended", flush=True)
        continue
    for n in itertools.count(int(line)):
        fill = "x" * (n * 7919 % 300_000)
        write_whole(path, [b'{"n": ', str(n).encode(), b', "size": ', str(len(fill)).encode(),
                           b', "fill": "', fill.encode(), b'"}'], durable=n % 2 == 0)
"""


def test_a_reader_sees_the_old_or_the_new_whatever_is_killed(tmp_path: Path) -> None:
    path, rng, newest = tmp_path / "document", random.Random(5), 0

    def look() -> int:
        if not path.exists():
            return 0
        document = json.loads(path.read_bytes())
        assert len(document["fill"]) == document["size"]
        return int(document["n"])

    def wait_beyond(n: int) -> None:
        wait_for(lambda: look() > n, say="the writer's first document")

    argv = [sys.executable, "-S", "-c", _WRITER, str(path)]
    with subprocess.Popen(
        argv, env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        for kill in range(50):
            writer.stdin.write(f"{newest + 1}\n")
            pid = int(writer.stdout.readline())
            try:
                wait_beyond(newest)
                for _ in range(rng.randrange(40)):
                    assert look() > newest
            finally:
                os.kill(pid, signal.SIGKILL)
            assert writer.stdout.readline() == "ended\n"
            newest = look()
            assert len(list(tmp_path.iterdir())) <= kill + 2  # at most one file is left of each that was killed
    assert newest > 50


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "document"
    if there:
        path.write_text("old")
    for size in (0, 10, 99_999):
        with room(size), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            write_whole(path, [b"new" * 1000] * 100)
        assert [entry.read_text() for entry in tmp_path.iterdir()] == (["old"] if there else [])
    write_whole(path, [b"n", b"ew"], mode=0o600)
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"new"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_on_disk_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "document", []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append((os.fstat(fd).st_size, path.exists())))
    write_whole(path, [b"new"], durable=False)
    assert seen == []
    path.unlink()
    write_whole(path, [b"newer"])
    assert seen == [(5, False)]


# -- snapshots --------------------------------------------------------------------------------------------------------


def _of(text: str) -> Callable[[], Iterator[bytes]]:
    return lambda: iter([text.encode()])


def test_the_last_snapshot_wins_over_one_under_way(tmp_path: Path) -> None:
    path, go, begun = tmp_path / "state", threading.Event(), threading.Event()
    writer = SnapshotWriter(path)

    def slow() -> Iterator[bytes]:
        yield b"old"
        begun.set()
        go.wait(150)

    writer.write(slow, lambda: None)
    assert begun.wait(150)
    assert writer.ready_at() == float("inf")
    assert not path.exists()
    last = threading.Thread(target=writer.finish, args=[_of("new")])
    last.start()
    go.set()
    last.join(150)
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]


def test_who_is_woken_may_ask_at_once_when_the_next_is_due(tmp_path: Path) -> None:
    writer, reported = SnapshotWriter(tmp_path / "state"), []
    for n in range(3):
        done = threading.Event()

        def tell(done: threading.Event = done) -> None:
            reported.append(writer.ready_at())
            done.set()

        writer.write(_of(str(n)), tell)
        assert done.wait(150)
        assert (tmp_path / "state").read_text() == str(n)
    assert len(reported) == 3
    assert max(reported) < float("inf")


def test_writing_takes_its_share_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, cost = 1000.0, [0.0]
    used = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now, thread_time=lambda: used[0])
    monkeypatch.setattr("queue_manager.adapters.journal.time", clock)
    writer = SnapshotWriter(tmp_path / "state", share=0.02)

    def rows() -> Iterator[bytes]:
        used[0] += cost[0]
        yield b"x"

    pauses = []
    for cost[0] in (0.0, 0.001, 0.01, 0.5):
        done = threading.Event()
        writer.write(rows, done.set)
        assert done.wait(150)
        pauses.append(writer.ready_at() - now)
    assert 0 < pauses[0] == pauses[1] < 0.5  # however cheap it is
    assert pauses[2:] == pytest.approx([0.5, 25.0])


def test_an_error_is_kept_until_one_went_well(tmp_path: Path) -> None:
    path = tmp_path / "state"
    writer = SnapshotWriter(path)

    def write(text: str) -> None:
        done = threading.Event()
        writer.write(_of(text), done.set)
        assert done.wait(150)

    write("old")
    assert writer.error is None
    with room(10):
        write("x" * 100)
        assert writer.error is not None
        assert writer.error.errno == errno.EFBIG
    assert path.read_text() == "old"
    write("new")
    assert writer.error is None
    with room(10):
        writer.finish(_of("y" * 100))
    assert writer.error is not None
    writer.finish(_of("last"))
    assert writer.error is None
    assert path.read_text() == "last"


def test_a_fault_of_ours_does_not_stop_the_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, done = SnapshotWriter(tmp_path / "state"), threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _arguments: None)

    def broken() -> Iterator[bytes]:
        yield b"{"
        raise KeyError("job")

    writer.write(broken, done.set)
    assert done.wait(150)
    assert writer.ready_at() < time.monotonic() + 60
    writer.finish(_of("{}"))
    assert (tmp_path / "state").read_text() == "{}"
