"""A log without what its terminal added: written anew in one step, whatever is killed, and read on by who was at it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.adapters import plain_log
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.layout import RunPaths
from queue_manager.remote.log_piece import Logs
from tests.e2e.runs import wait_for

BAR = b"start\r\n 10%|#  \r 90%|###\r\nown end\r\r\nplain\nlast\r"
PLAIN = b"start\n 10%|#  \r 90%|###\nown end\r\nplain\nlast\r"


def never() -> bool:
    return False


@pytest.fixture
def directory(tmp_path: Path) -> RunDir:
    found = RunDir(RunPaths.of(tmp_path))
    found.prepare()
    return found


def write(directory: RunDir, n: int, content: bytes, job: str = "a") -> Path:
    """The log of an attempt."""
    directory.prepare_attempt(job, n, "", [job])
    path = directory.paths.log(job)
    path.write_bytes(content)
    return path


def contents(directory: RunDir) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.paths.log_dir.iterdir()}


def test_only_what_the_terminal_added_is_taken_out_and_mode_and_times_stay(directory: RunDir) -> None:
    log = write(directory, 1, BAR)
    log.chmod(0o640)
    os.utime(log, ns=(1_700_000_000_000_000_001, 1_600_000_000_123_456_789))
    directory.make_log_plain("a", 1, ["a"], never)
    info = log.stat()
    assert contents(directory) == {"a.log": PLAIN}
    assert (info.st_mode & 0o777, info.st_mtime_ns) == (0o640, 1_600_000_000_123_456_789)


@pytest.mark.parametrize("size", [plain_log._BLOCK - 1, plain_log._BLOCK, plain_log._BLOCK + 1])
def test_a_line_end_between_two_blocks_is_one(directory: RunDir, size: int) -> None:
    write(directory, 1, b"x" * (size - 1) + b"\r\n" + b"y" * plain_log._BLOCK + b"\r\nz")
    directory.make_log_plain("a", 1, ["a"], never)
    assert contents(directory) == {"a.log": b"x" * (size - 1) + b"\n" + b"y" * plain_log._BLOCK + b"\nz"}


@pytest.mark.parametrize("content", [b"", b"plain\n", b"10%\r20%\n", b"\r"])
def test_a_log_that_is_plain_is_not_written_anew(directory: RunDir, content: bytes) -> None:
    before = write(directory, 1, content).stat()
    directory.make_log_plain("a", 1, ["a"], never)
    after = directory.paths.log("a").stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)


def test_where_there_is_no_room_or_it_is_to_stop_the_log_stays(
    directory: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = write(directory, 1, BAR)
    directory.make_log_plain("a", 1, ["a"], lambda: True)
    assert contents(directory) == {"a.log": BAR}
    real = os.fstatvfs(0)
    full = os.statvfs_result((real.f_bsize, 1, *tuple(real)[2:4], 15 << 20, *tuple(real)[5:]))
    monkeypatch.setattr(os, "fstatvfs", lambda _fd: full)
    with pytest.raises(OSError, match="No space left"):
        plain_log.make(log, False, never)
    assert contents(directory) == {"a.log": BAR}


def test_the_log_of_an_attempt_is_found_wherever_it_is_and_no_other_is_touched(
    directory: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(directory, 1, b"1\r\n")
    write(directory, 2, b"2\r\n")
    directory.make_log_plain("a", 1, ["a"], never)
    assert contents(directory) == {"a.1.log": b"1\n", "a.log": b"2\r\n"}
    real = plain_log.make

    def late(log: Path, durable: bool, stop: Callable[[], bool]) -> plain_log.Made | None:
        found = real(log, durable, stop)
        write(directory, 3, b"3\r\n")  # the next attempt begins while the log is written anew
        return found

    monkeypatch.setattr(plain_log, "make", late)
    directory.make_log_plain("a", 2, ["a"], never)
    assert contents(directory) == {"a.1.log": b"1\n", "a.2.log": b"2\n", "a.log": b"3\r\n"}


def test_an_attempt_that_wrote_nothing_takes_nothing_from_the_next_one(directory: RunDir) -> None:
    directory.prepare_attempt("a", 1, "", ["a"])
    write(directory, 2, b"2\r\n")
    directory.make_log_plain("a", 1, ["a"], never)
    assert contents(directory) == {"a.log": b"2\r\n"}


LOOP = """
import itertools, pathlib, sys
from queue_manager.adapters import plain_log
log, old = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).read_bytes()
for n in itertools.count():
    made = plain_log.make(log, n % 2 == 0, lambda: False)
    made and made.replaces(log)
    print(n, flush=True)
    log.with_suffix(".next").write_bytes(old)
    log.with_suffix(".next").replace(log)
"""


def test_killed_at_any_moment_it_leaves_the_old_log_or_the_new_one(directory: RunDir) -> None:
    old = b"".join(b"line %d\r\n" % n for n in range(100_000))
    log, new = write(directory, 1, old), old.replace(b"\r\n", b"\n")
    for count in range(12):
        process = subprocess.Popen([sys.executable, "-c", LOOP, str(log)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        assert {log.read_bytes() for _ in range(8)} <= {old, new}
        if count % 2:  # in the middle of the next one
            wait_for(lambda: any(path.name.endswith(".plain") for path in directory.paths.log_dir.iterdir()))
        process.kill()
        process.wait()
        process.stdout.close()
        found = log.read_bytes()
        assert found in (old, new)
        log.write_bytes(old)
    RunDir(directory.paths).prepare()
    assert [path.name for path in directory.paths.log_dir.glob(".*")] == []


BITS = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\r", b"\r\n", b" 10%\r"]), max_size=60).map(b"".join)


@given(BITS, st.data())
def test_who_has_read_a_part_of_the_old_log_reads_on_in_the_new_one(output: bytes, data: st.DataObject) -> None:
    old = output.replace(b"\n", b"\r\n")
    begin, most = data.draw(st.integers(0, len(old))), data.draw(st.integers(1, 20))
    file = os.fdopen(os.memfd_create("log"), "w+b")
    with file:
        file.write(output)
        assert plain_log.as_terminal_wrote(file, begin, most) == (old[begin : begin + most], len(old))


def test_a_reader_of_a_host_goes_on_over_all_that_becomes_of_a_log(directory: RunDir) -> None:
    paths = directory.paths
    logs = Logs(paths.log("a"), {n: paths.earlier_log("a", n, ["a"]) for n in (1, 2, 3)})
    write(directory, 1, b"one\r\ntwo\r\n")
    first = logs.read(None, 0, None, 7)
    assert (first.data, first.size) == (b"one\r\ntw", 10)
    directory.make_log_plain("a", 1, ["a"], never)
    then = logs.read(first.file, 7, None, 2)
    assert (then.data, then.size, then.path, then.file) == (b"o\r", 10, paths.log("a"), first.file)
    write(directory, 2, b"second\r\n")
    rest = logs.read(then.file, 9, None, 99)
    assert (rest.data, rest.path) == (b"\n", logs.earlier[1])
    assert logs.read(rest.file, 10, None, 99).data == b""
    second = logs.read(None, 0, None, 3)
    write(directory, 3, b"3\r\n")
    directory.make_log_plain("a", 2, ["a"], never)
    again = logs.read(second.file, 3, None, 99)
    assert (again.data, again.path) == (b"ond\r\n", logs.earlier[2])
    logs.earlier[2].unlink()
    assert logs.read(second.file, 8, None, 99).data == b"3\r\n"


def test_a_later_log_with_the_inode_of_one_that_was_written_anew_is_another(directory: RunDir, tmp_path: Path) -> None:
    paths = directory.paths
    logs = Logs(paths.log("a"), {n: paths.earlier_log("a", n, ["a"]) for n in (1, 2, 3)})
    log = write(directory, 1, b"one\r\n")
    os.link(log, tmp_path / "inode")
    first = logs.read(None, 0, None, 99)
    directory.make_log_plain("a", 1, ["a"], never)
    write(directory, 2, b"")
    (tmp_path / "inode").replace(log)  # as where a file system gives it to the next file
    log.write_bytes(b"second\r\n")
    rest = logs.read(first.file, first.size, None, 99)
    assert (rest.data, rest.path) == (b"", logs.earlier[1])
