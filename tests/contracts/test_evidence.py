"""What the file system says of a job: outputs, logs, preconditions, on real files."""

from __future__ import annotations

import errno
import glob
import os
import subprocess
from pathlib import Path

import pytest

from queue_manager.adapters import evidence, processes
from queue_manager.adapters.evidence import Patterns, checked, find_output, fresh_outputs, scan_log, unmet
from queue_manager.core import diagnosis
from queue_manager.core.boundary import Checked, Output
from queue_manager.core.failures import LogFinding
from queue_manager.core.manifest import JobSpec, Precondition
from tests.e2e.runs import wait_for

START = 2_100_000_000_000_000_000
"""When the attempt began, in ns: in years to come, so that the inodes of these tests change long before it."""


def put(path: Path, at: int, text: str = "x") -> Path:
    """A file, written `at` ns after the attempt began."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(START + at, START + at))
    return path


def age(directory: Path, at: int) -> None:
    os.utime(directory, ns=(START + at, START + at))


@pytest.fixture(params=["plain", "a [1] *dir?"])
def cwd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A working directory, once with a name that looks like a pattern."""
    made = tmp_path / str(request.param)
    made.mkdir()
    return made


# -- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "fresh"), [(-1, False), (0, True), (1, True)])
@pytest.mark.parametrize("pattern", ["out/a.json", "out/*.json", "**/a.json", "out/[a-c].json"])
def test_an_output_is_fresh_if_it_is_not_older_than_the_start(cwd: Path, pattern: str, at: int, fresh: bool) -> None:
    path = put(cwd / "out" / "a.json", at)
    assert find_output(pattern, str(cwd), START) == Output(str(path), fresh)
    assert fresh_outputs(pattern, str(cwd), START) == ([str(path)] if fresh else [])


@pytest.mark.parametrize("how", ["cp -p", "mv", "ln -s", "ln", "directory"])
def test_what_was_put_there_with_an_older_time_is_fresh(tmp_path: Path, how: str) -> None:
    old, new = tmp_path / "old" / "a.pt", tmp_path / "out" / "a.pt"
    for path in (old, new):
        path.parent.mkdir()
    old.write_text("x")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    new.write_text("left over from before")
    os.utime(new, (1_000_000_000, 1_000_000_000))
    mark = tmp_path / "mark"
    wait_for(lambda: mark.write_text("x") and mark.stat().st_mtime_ns > max(p.stat().st_ctime_ns for p in (old, new)))
    since = mark.stat().st_mtime_ns
    assert find_output("out/a.pt", str(tmp_path), since) == Output(str(new), False)
    new.unlink()
    if how == "directory":
        new.mkdir()
        os.utime(new, (1_000_000_000, 1_000_000_000))
    else:
        subprocess.run([*how.split(), str(old), str(new)], check=True)
    assert find_output("out/a.pt", str(tmp_path), since) == Output(str(new), True)


@pytest.mark.parametrize(
    ("pattern", "place"),
    [
        ("out/a.pt", "out/a.pt"),
        ("out/*.pt", "out"),
        ("out/*/a.pt", "out"),
        ("*/a.pt", ""),
        ("/data/*.pt", "/data"),
        ("/*.pt", "/"),
    ],
)
def test_an_output_that_cannot_be_read_is_not_missing(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, place: str
) -> None:
    """As on NFS. For root no permission is missing, so the system's answer is put in."""

    def stale(path: object, **_options: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    for name in ("stat", "listdir", "scandir"):
        monkeypatch.setattr(f"queue_manager.adapters.evidence.os.{name}", stale)
    found = find_output(pattern, str(cwd), START)
    monkeypatch.undo()
    assert found == Output(None, False, unreadable=f"{cwd / place}: Stale file handle")


@pytest.mark.parametrize("pattern", ["out/b.json", "out/*.txt", "**/b.json", "other/*"])
def test_no_output(cwd: Path, pattern: str) -> None:
    put(cwd / "out" / "a.json", 1)
    assert find_output(pattern, str(cwd), START) == Output(None, False)
    assert fresh_outputs(pattern, str(cwd), START) == []


def test_of_many_matches_the_newest_counts(cwd: Path) -> None:
    for name, at in (("a", -5), ("b", 9), ("c", 3)):
        put(cwd / f"{name}.pt", at)
    assert find_output("*.pt", str(cwd), START) == Output(str(cwd / "b.pt"), True)
    assert sorted(fresh_outputs("*.pt", str(cwd), START)) == [str(cwd / "b.pt"), str(cwd / "c.pt")]


def test_an_absolute_pattern_is_not_bound_to_the_cwd(tmp_path: Path) -> None:
    path = put(tmp_path / "elsewhere" / "a.pt", 1)
    for pattern in (str(path), str(tmp_path / "else*" / "*.pt"), "../elsewhere/a.pt", "../elsewhere/*.pt"):
        (tmp_path / "cwd").mkdir(exist_ok=True)
        found = find_output(pattern, str(tmp_path / "cwd"), START)
        assert found.fresh, pattern
    assert fresh_outputs("../elsewhere/*.pt", str(tmp_path / "cwd"), START) == [str(path)]


def test_a_directory_is_as_new_as_what_is_in_it(cwd: Path) -> None:
    deep = put(cwd / "ckpt" / "step1" / "weights", -5)
    for directory in (cwd / "ckpt" / "step1", cwd / "ckpt"):
        age(directory, -5)
    assert find_output("ckpt", str(cwd), START) == Output(str(cwd / "ckpt"), False)
    os.utime(deep, ns=(START + 1, START + 1))
    assert find_output("ckpt", str(cwd), START) == Output(str(cwd / "ckpt"), True)
    assert find_output("ck*", str(cwd), START) == Output(str(cwd / "ckpt"), True)


def test_a_link_to_nowhere_in_a_directory_does_not_hide_it(cwd: Path) -> None:
    put(cwd / "ckpt" / "weights", 1)
    (cwd / "ckpt" / "latest").symlink_to("gone")
    age(cwd / "ckpt", -5)
    assert find_output("ckpt", str(cwd), START) == Output(str(cwd / "ckpt"), True)


def test_a_link_is_what_it_leads_to(cwd: Path) -> None:
    put(cwd / "real", -1)
    (cwd / "link").symlink_to("real")
    (cwd / "dead").symlink_to("gone")
    assert find_output("link", str(cwd), START) == Output(str(cwd / "link"), False)
    assert find_output("dead", str(cwd), START) == Output(None, False)
    put(cwd / "real", 1)
    assert find_output("link", str(cwd), START).fresh


def test_a_link_that_leads_round_in_a_circle_is_no_trap(cwd: Path) -> None:
    put(cwd / "ckpt" / "weights", 1)
    (cwd / "ckpt" / "up").symlink_to("..")
    assert find_output("ckpt", str(cwd), START).fresh


def test_who_else_can_have_written_a_file(cwd: Path) -> None:
    patterns = Patterns()
    patterns.add("exact", "out/a.json", str(cwd))
    patterns.add("twin", "./out/../out/a.json", str(cwd))
    patterns.add("glob", "out/b_*.json", str(cwd))
    patterns.add("deep", "**/c.json", str(cwd))
    patterns.add("elsewhere", "out/*", str(cwd.parent / "elsewhere"))

    def others(job: str, name: str) -> bool:
        return patterns.others_match(job, str(cwd / name))

    assert others("exact", "out/a.json")  # the twin's
    assert others("glob", "out/a.json")
    assert not others("glob", "out/b_1.json")
    assert others("deep", "out/b_1.json")
    assert not others("deep", "out/x/c.json")
    assert others("glob", "out/x/c.json")
    assert not others("glob", "out/other")
    assert patterns.others_match("glob", str(cwd.parent / "elsewhere" / "out" / "x"))


# -- logs -------------------------------------------------------------------------------------------------------------

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."
BAR = b"".join(b"\r\x1b[K\x1b[32mepoch 1:\x1b[0m %3d%%|####    | loss=0.1" % (n % 100) for n in range(2000))


def test_the_last_line_is_read_through_progress_bars_and_escapes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(BAR + b"\r\n\x1b]0;title\x07\x1b[31;1mValueError: bad\x1b[0m  \r\n\x1b[0m\r\n\r   \r\n")
    assert scan_log(log, 1) == (LogFinding("traceback", "ValueError: bad"), "ValueError: bad")
    log.write_bytes(BAR)
    assert scan_log(log, 1) == (None, "epoch 1:  99%|####    | loss=0.1")


def test_an_error_is_found_by_its_class_and_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(BAR + b"\r\x1b[31m" + OOM.encode() + b"\x1b[0m\r\nend\n")
    assert scan_log(log, 1) == (LogFinding("oom", OOM), "end")


def test_only_so_much_of_a_runaway_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "LOG_BYTES", 1000)
    log = tmp_path / "log"
    log.write_bytes(OOM.encode() + b"\n" + b"  line\n" * 300)
    assert scan_log(log, 1) == (None, "  line".strip())
    log.write_bytes(b"  line\n" * 300 + OOM.encode() + b"\n" + b"  line\n" * 100)
    assert scan_log(log, 1)[0] == LogFinding("oom", OOM)


@pytest.mark.parametrize("content", [None, b"", b"\n\r\n \x1b[0m\n"])
def test_a_log_that_says_nothing(tmp_path: Path, content: bytes | None) -> None:
    log = tmp_path / "log"
    if content is not None:
        log.write_bytes(content)
    assert scan_log(log, 137) == (None, "")


def test_a_log_may_hold_any_bytes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(bytes(range(256)) * 50 + b"\nb\xe4d \xff end\n")
    assert scan_log(log, 137) == (None, "b\ufffdd \ufffd end")


# -- preconditions ----------------------------------------------------------------------------------------------------

ENVIRONMENT = {"PATH": os.environ["PATH"], "FLAG": "yes"}


def check(cwd: Path, *preconditions: Precondition) -> str | None:
    return unmet(JobSpec("a", "true", "main", preconditions=preconditions), str(cwd), ENVIRONMENT)


def test_the_first_that_does_not_hold_is_named(cwd: Path) -> None:
    put(cwd / "a", 0)
    there, gone = Precondition("file_exists", "a"), Precondition("file_exists", "b")
    assert check(cwd) is None
    assert check(cwd, there, there) is None
    assert check(cwd, there, gone, Precondition("file_exists", "c")) == "b does not exist"


@pytest.mark.parametrize("kind", ["file_exists", "checkpoint_exists"])
def test_existence(cwd: Path, kind: str) -> None:
    assert check(cwd, Precondition(kind, "ckpt/t.pt")) == "ckpt/t.pt does not exist"
    assert check(cwd, Precondition(kind, "ckpt/*.pt")) == "ckpt/*.pt does not exist"
    put(cwd / "ckpt" / "t.pt", 0)
    for pattern in ("ckpt/t.pt", "ckpt/*.pt", "ckpt", glob.escape(str(cwd)) + "/ckpt/t.pt"):
        assert check(cwd, Precondition(kind, pattern)) is None


def test_a_checkpoint_has_to_have_content_and_a_file_has_not(cwd: Path) -> None:
    put(cwd / "a.pt", 0, "")
    (cwd / "dir").mkdir()
    for name in ("a.pt", "dir", "*.pt"):
        assert check(cwd, Precondition("file_exists", name)) is None
        assert check(cwd, Precondition("checkpoint_exists", name)) == f"{name} is empty"
    put(cwd / "b.pt", 0)
    put(cwd / "dir" / "weights", 0, "")
    for name in ("*.pt", "dir"):
        assert check(cwd, Precondition("checkpoint_exists", name)) is None


def test_what_another_host_brings_is_awaited_until_its_mark_is_there(
    cwd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    marks = Precondition("carried", "m[1]"), Precondition("carried", "~/mark")
    spec = JobSpec("a", "true", "main", preconditions=(*marks, Precondition("file_exists", "b")))
    assert checked(spec, str(cwd), ENVIRONMENT, 5.0) == Checked("m[1] does not exist", 5.0, awaited=True)
    put(cwd / "m[1]", 0)
    assert checked(spec, str(cwd), ENVIRONMENT, 5.0) == Checked("~/mark does not exist", 5.0, awaited=True)
    put(tmp_path / "mark", 0)
    assert checked(spec, str(cwd), ENVIRONMENT, 5.0) == Checked("b does not exist", 5.0, awaited=False)
    put(cwd / "b", 0)
    assert checked(spec, str(cwd), ENVIRONMENT, 5.0) == Checked(None, 5.0)


def test_a_link_to_nowhere_is_not_there(cwd: Path) -> None:
    (cwd / "latest").symlink_to("gone")
    assert check(cwd, Precondition("file_exists", "latest")) == "latest does not exist"
    assert check(cwd, Precondition("file_exists", "late*")) == "late* does not exist"


def test_what_cannot_be_looked_at_is_not_said_to_be_missing_or_empty(cwd: Path) -> None:
    (cwd / "round").symlink_to("round")
    assert check(cwd, Precondition("file_exists", "round")) == (
        "round cannot be looked at: Too many levels of symbolic links"
    )
    assert evidence.scan_log(cwd, 1) == (None, "its log cannot be read: Is a directory")


def test_commands(cwd: Path) -> None:
    put(cwd / "a", 0)
    for command in ("true", "[[ $FLAG == yes ]]", "test -f a", "test ! -t 0", "echo much >&2", "read line || true"):
        assert check(cwd, Precondition("command", command=command)) is None
    assert check(cwd, Precondition("command", command="exit 3")) == "`exit 3` ends with exit code 3"
    assert check(cwd, Precondition("command", command="test -f b")) == "`test -f b` ends with exit code 1"
    lost = check(cwd / "gone", Precondition("command", command="true"))
    assert lost is not None
    assert lost.startswith("`true` cannot run: ")
    assert str(cwd / "gone") in lost


def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "COMMAND_SECONDS", 0.5)
    command = "sleep 1000 & echo $! > child; sleep 1000 | cat"
    assert check(tmp_path, Precondition("command", command=command)) == f"`{command}` did not end within 0.5 s"
    child = int((tmp_path / "child").read_text())

    def gone() -> bool:
        stat = processes.look_up(child)
        return not isinstance(stat, processes.Stat) or stat.state in "ZX"

    wait_for(gone, say="the end of what it started")


def test_a_command_may_leave_something_running(tmp_path: Path) -> None:
    assert check(tmp_path, Precondition("command", command="sleep 1000 & echo $! > child")) is None
    subprocess.run(["kill", (tmp_path / "child").read_text().strip()], check=True)


def test_disk_space(cwd: Path) -> None:
    assert check(cwd, Precondition("disk_free_gib", gib=0.0)) is None
    assert check(cwd, Precondition("disk_free_gib", "not/there/yet", gib=0.0)) is None
    words = check(cwd, Precondition("disk_free_gib", gib=1e9))
    assert words is not None
    assert words.startswith("1e+09 GiB free at ")
    assert str(cwd) in words
    stat = os.statvfs(cwd)
    free = stat.f_bavail * stat.f_frsize / 2**30
    assert check(cwd, Precondition("disk_free_gib", ".", gib=free * 0.9)) is None
    assert check(cwd, Precondition("disk_free_gib", ".", gib=free * 1.1 + 1)) is not None
