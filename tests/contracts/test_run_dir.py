"""A run's directory on a real disk: its lock, logs, claims and requests, whatever is killed or full."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import pytest

from queue_manager.adapters import host, processes, regular, run_dir, run_lock
from queue_manager.adapters.processes import Stat, alive, look_up
from queue_manager.adapters.run_dir import RunDir
from queue_manager.adapters.run_lock import HeldError, Lock
from queue_manager.core.boundary import Claim, ExitRecord, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import RunPaths
from queue_manager.core.readings import Unreadable
from queue_manager.core.requests import Answer, Request, decode_answer, encode_request
from queue_manager.launchers import script
from tests.contracts.test_journal import room
from tests.e2e.runs import ROOT, wait_for


@pytest.fixture
def directory(tmp_path: Path) -> RunDir:
    made = RunDir(RunPaths.of(tmp_path / "run"))
    made.prepare()
    return made


# -- the lock ---------------------------------------------------------------------------------------------------------

_HOLDER = """
import os, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from queue_manager.adapters.run_lock import Lock
lock = Lock(Path(sys.argv[1]), {"pid": os.getpid(), "host": "gpu-a", "since": "2026-01-01T00:00:00.000Z"})
child = subprocess.Popen(["sleep", "1000"])
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path)],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    child = psutil.Process(int(holder.stdout.readline()))
    try:
        for _ in range(2):  # being refused changes nothing
            with pytest.raises(HeldError, match=rf"^process {holder.pid} on gpu-a, since 2026-01-01T00:00:00.000Z$"):
                Lock(path, {"pid": 1, "host": "other", "since": "now"})
        holder.kill()
        holder.wait()
        assert child.is_running()  # what it started does not hold the lock
        lock = Lock(path, {"pid": 2, "host": "gpu-b", "since": "later"})
        assert json.loads(path.read_text()) == {"pid": 2, "host": "gpu-b", "since": "later"}
        with pytest.raises(HeldError, match="process 2 on gpu-b"):
            Lock(path, {})
        lock.close()
        Lock(path, {}).close()
    finally:
        child.kill()
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()


_KILLED_IN_A_START = """
import os, socket, sys
from pathlib import Path
from queue_manager.adapters.run_lock import Lock
lock = Lock(Path(sys.argv[1]), {"pid": os.getpid(), "host": socket.gethostname(), "since": "now"})
if os.fork() == 0:  # has become no other program yet
    sys.stdin.read()
"""


def test_what_a_killed_manager_was_about_to_start_is_no_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    killed = subprocess.Popen(
        [sys.executable, "-c", _KILLED_IN_A_START, str(path)], env={"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE
    )
    assert killed.stdin is not None
    killed.wait()
    monkeypatch.setattr(run_lock, "_LEFT_BEHIND", 0.0)
    with pytest.raises(HeldError, match=f"process {killed.pid} on "):
        Lock(path, {"pid": 2})
    monkeypatch.setattr(run_lock, "_LEFT_BEHIND", 60.0)
    pause, end = time.sleep, killed.stdin.close

    def wait(seconds: float) -> None:
        end()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", wait)
    Lock(path, {"pid": 2}).close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_holder_that_could_not_say_who_it_is_holds_it_all_the_same(tmp_path: Path, text: str) -> None:
    lock = Lock(tmp_path / "lock", {})
    (tmp_path / "lock").write_text(text)
    with pytest.raises(HeldError, match="another process"):
        Lock(tmp_path / "lock", {})
    lock.close()


def test_a_full_disk_does_not_stop_a_manager(tmp_path: Path) -> None:
    with room(0):
        lock = Lock(tmp_path / "lock", {"pid": 1})
    with pytest.raises(HeldError):
        Lock(tmp_path / "lock", {})
    lock.close()


@pytest.mark.parametrize("replaced", [True, False])
def test_a_lock_that_was_removed_is_taken_again_at_its_path(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "lock"
    lock = Lock(path, {"pid": 7, "host": "gpu-a", "since": "now"})
    lock.renew()
    first = path.stat().st_ino
    path.rename(tmp_path / "before")
    if replaced:
        path.touch()
    lock.renew()
    with pytest.raises(HeldError, match="process 7 on gpu-a"):
        Lock(path, {})
    assert path.stat().st_ino != first
    path.unlink()
    other = Lock(path, {"pid": 8, "host": "gpu-a", "since": "now"})
    lock.renew()  # another one has it now, and keeps it
    with pytest.raises(HeldError, match="process 8"):
        Lock(path, {})
    lock.close()
    other.close()


# -- the directory ----------------------------------------------------------------------------------------------------


def test_what_every_run_needs(directory: RunDir) -> None:
    paths = directory.paths
    assert paths.wrapper.read_text() == script.WRAPPER
    assert paths.screenrc.read_text() == script.SCREENRC
    assert stat.S_ISFIFO(paths.bell.stat().st_mode)
    assert paths.ballast.stat().st_size == run_dir.BALLAST_BYTES
    assert paths.log_dir.is_dir()
    assert paths.inbox.is_dir()


def test_a_restart_leaves_alone_what_is_right_and_mends_what_is_not(directory: RunDir) -> None:
    paths = directory.paths
    paths.screenrc.write_text("of an older version")
    paths.ballast.unlink()
    keep, bell = paths.wrapper.stat(), paths.bell.stat()
    torn = [paths.root / f".queue_state.json.{pid}.7.tmp" for pid in (11, 12)]
    mine = [paths.root / name for name in (".notes.tmp", "queue_state.json.tmp", ".queue_state.json.swp")]
    for path in (*torn, *mine):
        path.write_text("x")
    directory.prepare()
    assert paths.wrapper.stat().st_ino == keep.st_ino  # shells are reading it
    assert paths.bell.stat().st_ino == bell.st_ino
    assert paths.screenrc.read_text() == script.SCREENRC
    assert paths.ballast.exists()
    assert not any(path.exists() for path in torn)
    assert all(path.exists() for path in mine)


def test_what_is_removed_or_changed_meanwhile_is_there_again_for_the_next_attempt(directory: RunDir) -> None:
    paths = directory.paths
    kept = paths.wrapper.stat()
    directory.prepare_attempt("a", 1, "true", {"a"})
    assert paths.wrapper.stat().st_ino == kept.st_ino
    for change in (paths.wrapper.unlink, lambda: paths.wrapper.write_text("exit 1")):
        change()
        directory.prepare_attempt("a", 1, "true", {"a"})
        assert paths.wrapper.read_text() == script.WRAPPER
    paths.screenrc.unlink()
    paths.screenrc.mkdir()
    paths.log_dir.rmdir()
    paths.inbox.rmdir()
    directory.prepare_attempt("a", 1, "true", {"a"})
    assert paths.screenrc.read_text() == script.SCREENRC
    assert paths.log_dir.is_dir()
    assert paths.inbox.is_dir()


def test_ballast_gives_room_and_is_taken_back_later(directory: RunDir) -> None:
    ballast = directory.paths.ballast
    assert ballast.stat().st_blocks * 512 >= run_dir.BALLAST_BYTES  # no hole
    directory.drop_ballast()
    directory.drop_ballast()
    with room(0):
        directory.restore_ballast()
    assert not ballast.exists()
    directory.restore_ballast()
    assert ballast.stat().st_size == run_dir.BALLAST_BYTES


# -- logs -------------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The manager is killed here."""


def _crash_at(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Die before, or after, one of the steps of `prepare_attempt`."""
    method, _, when = step.partition(" ")
    owner = run_dir if hasattr(run_dir, method) else Path
    real: Callable[..., object] = getattr(owner, method)

    def crash(*arguments: object, **options: object) -> object:
        if when == "after":
            real(*arguments, **options)
        raise Crash

    monkeypatch.setattr(owner, method, crash)


STEPS = ["replace before", "replace after", "mkdir before", "mkdir after", "write_text before", "write_text after"]


@pytest.mark.parametrize("again", ["prepare", "revoke"])
@pytest.mark.parametrize("step", STEPS)
def test_logs_keep_their_attempt_whereever_it_crashes(
    directory: RunDir, monkeypatch: pytest.MonkeyPatch, step: str, again: str
) -> None:
    paths, ids = directory.paths, {"a": 0}
    directory.prepare_attempt("a", 1, "one", ids)
    paths.log("a").write_text("log of 1")
    directory.forget("a", 1)
    with monkeypatch.context() as patch:
        _crash_at(patch, step)
        with pytest.raises(Crash):
            directory.prepare_attempt("a", 2, "two", ids)
    if again == "prepare":
        assert directory.prepare_attempt("a", 2, "two", ids).script.read_text() == "two"
        paths.log("a").write_text("log of 2")
        directory.prepare_attempt("a", 2, "two", ids)  # asked for again, its own log stays
        expected = {"a.log": "log of 3", "a.1.log": "log of 1", "a.2.log": "log of 2"}
    else:
        directory.revoke("a", 2, ids)
        assert directory.claim("a", 2) == Revoked()
        expected = {"a.log": "log of 3", "a.1.log": "log of 1"}
    directory.forget("a", 2)
    directory.prepare_attempt("a", 3, "three", ids)
    assert not paths.log("a").exists()
    paths.log("a").write_text("log of 3")
    assert {path.name: path.read_text() for path in paths.log_dir.iterdir()} == expected


def test_logs_of_jobs_whose_names_look_like_attempts_do_not_collide(directory: RunDir) -> None:
    ids = ["a", "a.1", "a.1.1", "a.2"]
    for n in (1, 2, 3):
        for job in ids:
            directory.prepare_attempt(job, n, "", ids)
            log = directory.paths.log(job)
            assert not log.exists(), f"{job} would go on in another's log"
            log.write_text(f"{job} attempt {n}")
            directory.forget(job, n)
    texts = sorted(path.read_text() for path in directory.paths.log_dir.iterdir())
    assert texts == sorted(f"{job} attempt {n}" for job in ids for n in (1, 2, 3))
    for job in ids:
        assert directory.paths.log(job).read_text() == f"{job} attempt 3"
        for n in (1, 2):
            assert directory.paths.earlier_log(job, n, ids).read_text() == f"{job} attempt {n}"


# -- claims and records -----------------------------------------------------------------------------------------------

# Of a wrapper that this very process began, so that its session can be looked up.
STAT = f"77 (sh) S {os.getpid()} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 999999999999 20 21\n"
OLDER = STAT.replace("999999999999", "1")


def test_the_claim_of_a_wrapper(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    assert directory.claim("a", 1) is None
    files.claim.write_text(STAT)
    os.utime(files.claim, ns=(5, 1_700_000_000_123_456_789))
    mine = look_up(os.getpid())
    assert isinstance(mine, Stat)
    assert directory.claim("a", 1) == Claim(Proc(77, 999999999999), mine.proc, 1_700_000_000_123_456_789)


def test_a_process_younger_than_the_wrapper_is_not_its_session(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    files.claim.write_text(OLDER)
    claim = directory.claim("a", 1)
    assert isinstance(claim, Claim)
    assert claim.leader.pid == os.getpid()
    assert alive(claim.leader) is False


@pytest.mark.parametrize(
    "text",
    ["", "revoked", STAT[:30], STAT[:-1], "x\n", STAT + STAT],
    ids=["empty", "half revoked", "cut", "no end", "odd", "two"],
)
def test_a_claim_that_cannot_be_understood_is_unreadable(directory: RunDir, text: str) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    files.claim.write_text(text)
    assert isinstance(directory.claim("a", 1), Unreadable)


def test_a_claim_that_cannot_be_read_is_unreadable(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    files.claim.mkdir()
    assert isinstance(directory.claim("a", 1), Unreadable)


@pytest.mark.parametrize("prepared", [True, False])
def test_revoking(directory: RunDir, prepared: bool) -> None:
    if prepared:
        directory.prepare_attempt("a", 1, "", ())
    for _ in range(2):
        directory.revoke("a", 1, ())
        assert directory.claim("a", 1) == Revoked()


def test_revoking_comes_too_late_for_a_claimed_attempt(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    files.claim.write_text(STAT)
    claim = directory.claim("a", 1)
    directory.revoke("a", 1, ())
    assert isinstance(claim, Claim)
    assert directory.claim("a", 1) == claim


def test_revoking_on_a_full_disk_never_looks_like_a_wrapper(directory: RunDir) -> None:
    directory.prepare_attempt("a", 1, "", ())
    with room(0), pytest.raises(OSError, match="File too large"):
        directory.revoke("a", 1, ())
    assert directory.claim("a", 1) is None
    directory.revoke("a", 1, ())
    with room(0), pytest.raises(OSError, match="File too large"):
        directory.revoke("a", 1, ())
    assert directory.claim("a", 1) == Revoked()


def test_forgetting(directory: RunDir) -> None:
    directory.prepare_attempt("a", 1, "", ())
    other = directory.prepare_attempt("a", 11, "", ())
    for _ in range(2):
        directory.forget("a", 1)
        assert not directory.paths.attempt("a", 1).root.exists()
    assert other.script.exists()
    assert directory.claim("a", 1) is None
    assert directory.exit_record("a", 1) is None


@pytest.mark.parametrize("text", ["", "1", "13", "x\n", "\n", "0x1\n", "1 2\n", "1\n2\n", "\udcff\n"])
def test_an_exit_record_that_is_not_whole_is_none(directory: RunDir, text: str) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    files.exit.write_bytes(text.encode(errors="surrogateescape"))
    assert directory.exit_record("a", 1) is None


def test_an_exit_record(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    assert directory.exit_record("a", 1) is None
    files.exit.write_text("137\n")
    os.utime(files.exit, ns=(5, 9))
    assert directory.exit_record("a", 1) == ExitRecord(137, 9)


def test_the_job_s_process_is_known_once_its_line_is_whole(directory: RunDir) -> None:
    files = directory.prepare_attempt("a", 1, "", ())
    for end in (0, 1, 10, len(STAT) - 1):
        files.started.write_text(STAT[:end])
        assert directory.started("a", 1) is None
    files.started.write_text(STAT)
    assert directory.started("a", 1) == Proc(77, 999999999999)
    files.started.write_bytes(Path("/proc/self/stat").read_bytes())
    me = processes.look_up(os.getpid())
    assert isinstance(me, processes.Stat)
    assert directory.started("a", 1) == me.proc


# -- requests ---------------------------------------------------------------------------------------------------------


def _ask(directory: RunDir, name: str, at: int, text: str | None = None) -> Path:
    path = directory.paths.request(name)
    path.write_text(text if text is not None else encode_request(Request(name, "cancel", ("a",))))
    os.utime(path, ns=(at, at))
    return path


def _answer(directory: RunDir, name: str) -> Answer:
    return decode_answer(directory.paths.answer(name).read_text())


def test_requests_come_oldest_first(directory: RunDir) -> None:
    for name, at in (("c", 30), ("a", 20), ("b", 10), ("e", 40), ("d", 40)):
        _ask(directory, name, at)
    (directory.paths.inbox / "half.tmp").write_text("{")
    assert [request.id for request in directory.requests()] == ["b", "a", "c", "d", "e"]
    assert directory.requests()[0] == Request("b", "cancel", ("a",))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '"x"', "{}", '{"id": "bad", "verb": "destroy"}', '{"id": 5, "verb": "pause"}',
        '{"id": "../../x", "verb": "pause"}', '{"id": "bad", "verb": "add", "specs": [{"id": "x"}]}',
        '{"id": "other", "verb": "pause"}', "[" * 100_000, "\udcff",
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_request_is_answered_and_taken_away(directory: RunDir, text: str) -> None:
    path = directory.paths.request("bad")
    path.write_bytes(text.encode(errors="surrogateescape"))
    _ask(directory, "good", time.time_ns())
    assert [request.id for request in directory.requests()] == ["good"]
    assert not path.exists()
    answer = _answer(directory, "bad")
    assert not answer.ok
    assert answer.text
    assert {entry.name for entry in directory.paths.inbox.iterdir()} == {"good.json"}
    assert {entry.name for entry in directory.paths.answer("x").parent.iterdir()} == {"bad.json"}


def test_a_request_under_another_s_name_is_refused_and_the_other_stays(directory: RunDir) -> None:
    _ask(directory, "one", 1)
    _ask(directory, "two", 2, encode_request(Request("one", "pause")))
    assert directory.requests() == [Request("one", "cancel", ("a",))]
    assert "one.json" in _answer(directory, "two").text


def test_on_a_full_disk_it_is_answered_later(directory: RunDir) -> None:
    path = _ask(directory, "bad", 1, "{")
    _ask(directory, "good", 2)
    with room(0):
        assert [request.id for request in directory.requests()] == ["good"]
        with pytest.raises(OSError, match="File too large"):
            directory.reply(Answer("good", True, "cancelled"))
    assert path.exists()
    assert directory.paths.request("good").exists()
    directory.requests()
    assert not path.exists()
    assert not _answer(directory, "bad").ok


@pytest.mark.parametrize("kind", ["fifo", "dangling", "link", "directory", "full directory", "device", "large"])
def test_what_is_no_regular_file_is_refused_and_hides_no_request(
    directory: RunDir, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = directory.paths.request("odd"), directory.paths.root / "elsewhere.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind in ("dangling", "link"):
        if kind == "link":
            target.write_text(encode_request(Request("odd", "pause")))
        path.symlink_to(target)
    elif "directory" in kind:
        path.mkdir()
        if kind == "full directory":
            (path / "x").touch()
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    else:
        monkeypatch.setattr(run_dir, "MOST_REQUEST", 200)
        path.write_text(encode_request(Request("odd", "pause")) + " " * 200)
    _ask(directory, "good", 2)
    for _ in range(2):
        assert [request.id for request in directory.requests()] == ["good"]
    assert not _answer(directory, "odd").ok
    assert path.exists() is (kind == "full directory")
    assert target.exists() is (kind == "link")


def test_a_reply(directory: RunDir) -> None:
    _ask(directory, "r", 1)
    for _ in range(2):
        directory.reply(Answer("r", True, "cancelled 1 job", ("a",)))
        assert _answer(directory, "r") == Answer("r", True, "cancelled 1 job", ("a",))
        assert directory.requests() == []


def test_without_an_inbox_nobody_asks(directory: RunDir) -> None:
    directory.paths.inbox.rmdir()
    assert directory.requests() == []


def test_requests_that_come_and_go_while_it_looks(directory: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    _ask(directory, "a", 1)
    real = regular.read_regular

    def vanish(path: Path, most: int, follow: bool = True) -> bytes:
        path.unlink()
        return real(path, most, follow)

    with monkeypatch.context() as patch:
        patch.setattr(run_dir, "read_regular", vanish)
        assert directory.requests() == []
    assert not directory.paths.answer("a").exists()


def test_the_bell_can_be_rung_by_others(directory: RunDir) -> None:
    reader = os.open(directory.paths.bell, os.O_RDWR | os.O_NONBLOCK)
    writer = os.open(directory.paths.bell, os.O_WRONLY | os.O_NONBLOCK)
    os.write(writer, b"r")
    assert wait_for(lambda: os.read(reader, 10)) == b"r"
    os.close(reader)
    os.close(writer)


# -- without hard links -----------------------------------------------------------------------------------------------


@pytest.fixture
def no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    """A run on a file system without hard links: link(2) fails."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    made = RunDir(RunPaths.of(tmp_path / "run"))
    made.prepare()
    return made


def test_without_hard_links_an_attempt_is_claimed_once_all_the_same(no_links: RunDir) -> None:
    paths = no_links.paths
    files = no_links.prepare_attempt("a", 1, "echo ran >> ../ran", {"a"})
    wrappers = [subprocess.Popen(["bash", "-p", str(paths.wrapper), str(files.root), "tag"]) for _ in range(5)]
    assert [wrapper.wait() for wrapper in wrappers] == [0] * 5
    claim = no_links.claim("a", 1)
    assert isinstance(claim, Claim)
    assert claim.wrapper.pid in {wrapper.pid for wrapper in wrappers}
    assert (paths.attempts / "ran").read_text() == "ran\n"
    assert (no_links.exit_record("a", 1) or ExitRecord(-1, 0)).code == 0
    no_links.revoke("a", 1, {"a"})
    assert no_links.claim("a", 1) == claim
    no_links.forget("a", 1)
    assert not files.root.exists()


def test_without_hard_links_a_late_wrapper_does_not_run(no_links: RunDir) -> None:
    files = no_links.prepare_attempt("a", 1, "echo ran >> ../ran", {"a"})
    for _ in range(2):
        no_links.revoke("a", 1, {"a"})
        assert no_links.claim("a", 1) == Revoked()
    subprocess.run(["bash", "-p", str(no_links.paths.wrapper), str(files.root), "tag"], check=True)
    assert not (no_links.paths.attempts / "ran").exists()
    assert no_links.claim("a", 1) == Revoked()


@pytest.mark.parametrize(
    ("free", "files", "left", "says"),
    [
        (1 << 30, 1000, 500, None),
        (1 << 30, 1000, 5, "no inodes are left"),
        (1 << 30, 10**6, 63, "no inodes are left"),
        (1 << 30, 10**6, 64, None),
        (1 << 30, 0, 0, None),  # btrfs counts none
        (1 << 20, 1000, 500, "no room at"),
    ],
)
def test_room_is_bytes_and_inodes(free: int, files: int, left: int, says: str | None) -> None:
    stat_of = SimpleNamespace(f_bavail=free, f_frsize=1, f_blocks=1 << 40, f_files=files, f_favail=left)
    found = host.room_fault(cast("os.statvfs_result", stat_of), Path("/x"))
    assert found is None if says is None else says in (found or "")
