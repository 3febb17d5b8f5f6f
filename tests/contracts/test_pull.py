"""Sending and receiving over a pipe: what is pulled, what never does, a cut at any byte, and a host that lies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import plain_log
from queue_manager.core import transfer_protocol
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.transfer_protocol import HOST, RESULTS, Request, Seen
from skill.runs.path_map import Wanted
from skill.transfer import local_store, receiver
from skill.transfer.local_store import Store, look
from skill.transfer.receiver import Received, receive
from skill.transfer.write_gate import Gate, HostGate
from tests.e2e.runs import ROOT, wait_for

NONCE = "0123456789abcdef"
HOUR = 3_600_000_000_000
NEVER = (".git", ".env")


class Pull:
    """A home of a host with a run in it, and a place here."""

    def __init__(self, root: Path) -> None:
        self.home, self.project = root / "host", root / "my project"
        self.cwd = self.home / "work" / "p"
        self.paths = RunPaths.of(HostPaths.of(self.home).runs / "run-1")
        self.paths.log_dir.mkdir(parents=True)
        self.cwd.mkdir(parents=True)
        self.project.mkdir()
        self.store = Store(self.project, root / "mirror")
        self.store.make()

    def there(self, name: str, data: bytes | str = "x", mtime_ns: int = HOUR) -> Path:
        """A file in the cwd on the host."""
        return _put(self.cwd / name, data, mtime_ns)

    def here(self, name: str, data: bytes | str = "x", mtime_ns: int = HOUR) -> Path:
        return _put(self.project / name, data, mtime_ns)

    @contextmanager
    def gate(self, request: Request) -> Iterator[HostGate]:
        """What this host may write here, which has all jobs of the run."""
        asked = Wanted(request.patterns, request.declared, request.but, ())
        with Gate(self.store.folder.parent / "written.jsonl", self.project, {"gpu": asked}, {"gpu": True}) as gate:
            yield gate.of("gpu")

    def request(self, *patterns: str, **fields: Any) -> Request:
        here = look(self.project, patterns, NEVER)
        made = Request(
            nonce=NONCE, run_id="run-1", root="work/p", patterns=patterns, declared=len(patterns), but=(), never=NEVER,
            have={RESULTS: here.files, HOST: self.store.documents()}, closed=here.closed, parts=self.store.parts(),
            room=self.store.room(),
        )  # fmt: skip
        return made._replace(**fields)

    def command(self) -> list[str]:
        variables = (f"HOME={self.home}", f"PYTHONPATH={ROOT}")
        return ["env", *variables, sys.executable, "-S", "-m", "queue_manager.remote", "send"]

    def pull(self, *patterns: str, **fields: Any) -> Received:
        return self.take(self.command(), self.request(*patterns, **fields))

    def take(self, command: list[str], request: Request) -> Received:
        with self.gate(request) as gate:
            return receive(command, self.home, request, self.store, gate, threading.Event())

    def stream(self, *patterns: str) -> bytes:
        """The whole answer of the host, byte for byte."""
        asked = transfer_protocol.encode(self.request(*patterns))
        return subprocess.run(self.command(), input=asked, stdout=subprocess.PIPE, check=True).stdout

    def lie(self, data: bytes, request: Request, tmp_path: Path) -> Received:
        """What is made of an answer that begins as ours does and goes on as it likes."""
        output = tmp_path / "said"
        output.write_bytes(transfer_protocol.greeting(NONCE) + data)
        return self.take(["cat", str(output)], request)

    def tree(self) -> dict[str, bytes]:
        """All that is here, with what was received of a run directory; not what is still in the making."""
        return {
            str(path.relative_to(top.parent)): path.read_bytes()
            for top in (self.project, self.store.folder)
            for path in sorted(top.rglob("*"))
            if path.is_file() and self.store.staging not in path.parents
        }


def _put(path: Path, data: bytes | str, mtime_ns: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


@pytest.fixture
def pull(tmp_path: Path) -> Pull:
    return Pull(tmp_path)


# -- what is pulled --------------------------------------------------------------------------------------------------


def test_results_logs_and_state_are_pulled_once(pull: Pull) -> None:
    pull.there("out/a b.json", "1", 1_234_567_890_123_456_789)
    pull.there("out/it's\u00fc;$HOME.json", bytes(range(256)) * 9000)
    pull.there("ckpt/deep/x.pt", "2")
    pull.there("code.py", "not asked for")
    pull.paths.state.write_text("{}")
    pull.paths.manifest.write_text("not taken")
    (pull.paths.log_dir / "j1.log").write_text("log")
    (pull.paths.log_dir / "stray").write_text("not a log")
    found = pull.pull("out/*.json", "ckpt", "missing.txt")
    assert (found.files, found.size, found.broken) == (5, 1 + 256 * 9000 + 1 + 2 + 3, None)
    assert pull.tree() == {
        "my project/ckpt/deep/x.pt": b"2",
        "my project/out/a b.json": b"1",
        "my project/out/it's\u00fc;$HOME.json": bytes(range(256)) * 9000,
        "mirror/logs/j1.log": b"log",
        "mirror/queue_state.json": b"{}",
    }
    assert (pull.project / "out/a b.json").stat().st_mtime_ns == 1_234_567_890_123_456_789
    again = pull.pull("out/*.json", "ckpt", "missing.txt")
    assert (again.files, again.size, again.same, again.broken) == (0, 0, 5, None)
    assert list(pull.store.staging.iterdir()) == []


def test_a_log_that_was_written_anew_on_the_host_is_pulled_again(pull: Pull) -> None:
    (pull.paths.log_dir / "j1.log").write_bytes(b"one\r\ntwo\r\n")
    assert pull.pull().files == 1
    made = plain_log.make(pull.paths.log_dir / "j1.log", False, lambda: False)
    assert made is not None
    assert made.replaces(pull.paths.log_dir / "j1.log")
    assert (pull.pull().files, pull.pull().same) == (1, 1)
    assert pull.tree()["mirror/logs/j1.log"] == b"one\ntwo\n"


def test_only_what_is_newer_there_is_taken_and_nothing_is_deleted(pull: Pull) -> None:
    pull.there("older", "there", HOUR)
    pull.here("older", "mine", 2 * HOUR)
    pull.there("newer", "there", 2 * HOUR)
    pull.here("newer", "mine", HOUR)
    pull.here("gone_there", "mine")
    (pull.store.folder / "queue_state.json").write_text("an older one, written here later")
    pull.paths.state.write_text("{}")
    os.utime(pull.paths.state, ns=(HOUR, HOUR))
    found = pull.pull("older", "newer", "gone_there")
    assert (found.files, found.kept, found.broken) == (2, ("older",), None)
    assert {path.name: path.read_text() for path in pull.project.iterdir()} == {
        "older": "mine",
        "newer": "there",
        "gone_there": "mine",
    }
    assert (pull.store.folder / "queue_state.json").read_text() == "{}"


def test_what_became_newer_here_while_it_came_is_kept(pull: Pull) -> None:
    pull.there("x", "there", HOUR)
    request = pull.request("x")
    pull.here("x", "mine", 2 * HOUR)
    assert pull.take(pull.command(), request).kept == ("x",)
    assert (pull.project / "x").read_text() == "mine"


def test_what_moved_to_another_host_is_left_out_of_declared_globs(pull: Pull) -> None:
    for name in ("out/own", "out/moved", "out/plot"):
        pull.there(name)
    pull.pull("out/own", "out", declared=1, but=("out/moved",))
    assert sorted(path.name for path in (pull.project / "out").iterdir()) == ["own", "plot"]


def test_the_state_never_tells_of_a_result_that_was_not_looked_for(pull: Pull) -> None:
    """A job ends in the middle of a pull: the state that is pulled is the one from before the results were read."""
    pull.there("a", b"x" * (1 << 22))  # more than a pipe holds: the sender waits for us in the middle of it
    pull.paths.state.write_text("before")
    process = subprocess.Popen(pull.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        process.stdin.write(transfer_protocol.encode(pull.request("a", "b")))
        process.stdin.close()
        begun = process.stdout.read(1 << 10)
        new = pull.paths.root / "new"
        new.write_text("after")
        new.replace(pull.paths.state)
        answer = begun + process.stdout.read()
    assert b"before" in answer
    assert b"after" not in answer


def test_a_run_that_is_not_there_is_reported(pull: Pull) -> None:
    assert "the run no longer exists there" in (pull.pull("x", run_id="run-2").broken or "")
    assert "the run no longer exists there" in (pull.pull("x", run_id="../..").broken or "")


# -- cuts -------------------------------------------------------------------------------------------------------------


def test_cut_at_any_byte_and_pulled_again_it_ends_the_same(tmp_path: Path) -> None:
    pull = Pull(tmp_path)
    pull.there("out/a", "a" * 40)
    pull.there("out/b", "b" * 90)
    pull.paths.state.write_text("{}")
    answer = pull.stream("out")
    whole = {"my project/out/a": b"a" * 40, "my project/out/b": b"b" * 90, "mirror/queue_state.json": b"{}"}
    output = tmp_path / "said"
    output.write_bytes(answer)
    steps = range(0, len(answer), 3)
    for cut in steps:
        for top in (pull.project / "out" / "a", pull.project / "out" / "b", pull.store.folder / "queue_state.json"):
            top.unlink(missing_ok=True)
        pull.store.forget_parts()
        found = pull.take(["head", "-c", str(cut), str(output)], pull.request("out"))
        assert found.broken == "the connection was dropped"
        assert pull.tree().items() <= whole.items(), cut
        if cut % 10 == 0:
            assert pull.pull("out").broken is None
            assert pull.tree() == whole
    assert len(steps) > 100


def test_a_large_file_goes_on_where_it_was_cut_off(pull: Pull, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    pull.there("ckpt", data)
    output = tmp_path / "said"
    output.write_bytes(pull.stream("ckpt"))
    assert pull.take(["head", "-c", str(2 << 20), str(output)], pull.request("ckpt")).broken
    there = sum(pull.store.parts().values())
    assert there > 1 << 20
    found = pull.pull("ckpt")
    assert (found.files, found.size) == (1, len(data) - there)
    assert (pull.project / "ckpt").read_bytes() == data


def test_what_was_cut_off_and_is_damaged_or_of_another_version_is_not_used(pull: Pull, tmp_path: Path) -> None:
    pull.there("ckpt", b"1" * (1 << 20))
    output = tmp_path / "said"
    output.write_bytes(pull.stream("ckpt"))
    cut = ["head", "-c", str(1 << 19), str(output)]
    pull.take(cut, pull.request("ckpt"))
    (part,) = pull.store.staging.iterdir()
    with part.open("r+b") as file:
        file.write(b"damaged")
    assert "was damaged on the way" in (pull.pull("ckpt").broken or "")
    assert not (pull.project / "ckpt").exists()
    assert pull.pull("ckpt").files == 1
    pull.there("ckpt", b"2" * (1 << 20), 2 * HOUR)
    (pull.project / "ckpt").unlink()
    pull.take(cut, pull.request("ckpt"))
    assert pull.pull("ckpt").size == 1 << 20
    assert (pull.project / "ckpt").read_bytes() == b"2" * (1 << 20)
    assert list(pull.store.staging.iterdir()) == []


def test_it_ends_at_once_when_it_is_to_stop(pull: Pull) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    begin = time.monotonic()
    with pull.gate(pull.request("x")) as gate:
        found = receive(["sleep", "600"], pull.home, pull.request("x"), pull.store, gate, stop)
    assert found.broken == "interrupted by Ctrl-C"
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("far", [False, True], ids=["one disk", "two disks"])
def test_whoever_looks_sees_the_old_file_or_the_whole_new_one(tmp_path: Path, far: bool) -> None:
    shm = Path("/dev/shm")
    assert not far or shm.stat().st_dev != tmp_path.stat().st_dev, "this test needs /dev/shm to be a disk of its own"
    with tempfile.TemporaryDirectory(dir=shm if far else tmp_path) as folder:
        store = Store(Path(folder), tmp_path / "mirror")
        store.make()
        target = _put(store.results / "x", "old", HOUR)
        asked = {"gpu": Wanted(("x",), 1, (), ())}
        size = 64 << 20
        store.part("part").write_bytes(bytes(size))
        seen, over = set(), threading.Event()

        def watch() -> None:
            while not over.is_set():
                seen.add(target.stat().st_size)

        thread = threading.Thread(target=watch)
        thread.start()
        wait_for(lambda: seen, say="the first look")
        try:
            with Gate(tmp_path / "written.jsonl", store.results, asked, {"gpu": True}) as gate:
                assert (
                    store.settle_result("part", "x", 0, Seen(size, 2 * HOUR), gate.of("gpu")) == transfer_protocol.TAKE
                )
        finally:
            over.set()
            thread.join()
        assert seen <= {3, size}
        assert (target.stat().st_size, target.stat().st_mtime_ns) == (size, 2 * HOUR)
        assert os.listdir(folder) == ["x"]


# -- links ------------------------------------------------------------------------------------------------------------


def test_nothing_comes_through_a_link_out_of_the_run(pull: Pull) -> None:
    secret = _put(pull.home / "secret", "key", HOUR)
    (pull.cwd / "file").symlink_to(secret)
    (pull.cwd / "out").symlink_to(pull.home)
    (pull.cwd / "dir").mkdir()
    (pull.cwd / "dir" / "deep").symlink_to(pull.home)
    (pull.cwd / "dir" / "dead").symlink_to("nowhere")
    os.mkfifo(pull.cwd / "fifo")
    (pull.paths.log_dir / "j.log").symlink_to(secret)
    pull.paths.summary.symlink_to(secret)
    found = pull.pull("file", "out/secret", "dir", "fifo")
    assert dict(found.refused) == {
        "file": "is a link that leads out of the run's directory",
        "out": "is a link that leads out of the run's directory",
        "dir/deep": "is a link that leads out of the run's directory",
        "dir/dead": "No such file or directory",
        "fifo": "is not a regular file",
        "logs/j.log": "is a link that leads out of the run's directory",
        "summary.md": "is a link that leads out of the run's directory",
    }
    assert found.broken is None
    assert pull.tree() == {}


def test_a_link_inside_of_the_run_is_followed(pull: Pull) -> None:
    pull.there("data/x", "1")
    (pull.cwd / "out").symlink_to("data")
    (pull.cwd / "y").symlink_to("data/x")
    assert pull.pull("out/x", "y").refused == ()
    assert pull.tree() == {"my project/out/x": b"1", "my project/y": b"1"}
    assert not (pull.project / "out").is_symlink()


def test_nothing_is_written_through_a_link_here_that_leads_out_of_the_project(pull: Pull, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (pull.project / "out").symlink_to(outside)
    (pull.project / "file").symlink_to(outside / "file")
    for name in ("out/x", "file", "fine"):
        pull.there(name)
    request = pull.request("out/x", "file", "fine")
    found = pull.take(pull.command(), request)
    assert [name for name, _ in found.refused] == ["out/x", "file"]
    assert "link" in found.refused[0][1]
    # A host that sends it all the same has lied about it, and a link that was made meanwhile is no better.
    late = pull.take(pull.command(), request._replace(closed=()))
    assert [name for name, _ in late.refused] == ["out/x", "file"]
    assert list(outside.iterdir()) == []
    assert (pull.project / "file").is_symlink()
    assert (pull.project / "fine").read_text() == "x"


def test_a_link_here_that_stays_in_the_project_is_followed(pull: Pull) -> None:
    (pull.project / "big").mkdir()
    (pull.project / "out").symlink_to("big")
    pull.there("out/x")
    assert pull.pull("out/x").files == 1
    assert (pull.project / "big" / "x").read_text() == "x"
    assert pull.pull("out/x").same == 1


def test_a_directory_here_is_not_replaced_by_a_file(pull: Pull) -> None:
    pull.here("x/inner")
    pull.there("x")
    assert pull.pull("x").refused == (("x", "is a directory here"),)


# -- a host that lies -------------------------------------------------------------------------------------------------


def _row(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _file(name: str = "x", **fields: Any) -> bytes:
    row = {"file": name, "place": RESULTS, "by": 0, "size": 1, "mtime_ns": HOUR, "begin": 0, **fields}
    return (
        _row(**row)
        + b"A" * 1
        + _row(sha256="559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd", fault=None)
    )


END = _row(end=True, same=0)


def test_an_honest_answer_made_by_hand_is_taken(pull: Pull, tmp_path: Path) -> None:
    assert pull.lie(_file() + END, pull.request("x"), tmp_path) == Received(files=1, size=1)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "dropped"),
        (b"\0\xff\n", "something other"),
        (b"[1]\n", "something other"),
        (b"[" * 50_000 + b"\n", "something other"),
        (b"x" * 200_000, "endless line"),
        (_row(what=1), "something other"),
        (_row(file=3), "something other"),
        (_row(skip="x", why=3), "something other"),
        (_row(fault="\x1b[2J"), "refuses"),
        (_file("../x"), "leads out"),
        (_file("/etc/x"), "absolute"),
        (_file("x\n\x1b[2J"), "control"),
        (_file("y"), "not asked for"),
        (_file(by=1), "not asked for"),
        (_file(by=-1), "not asked for"),
        (_file(by=True), "not asked for"),
        (_file(by=None), "not asked for"),
        (_file(place="here"), "not asked for"),
        (_file("manifest.json", place=HOST), "not asked for"),
        (_file("hosts.json", place=HOST), "not asked for"),
        (_file("logs/../../x", place=HOST), "leads out"),
        (_file(".git/config", by=1), "not asked for"),
        (_file(size=1 << 60), "more than was agreed"),
        (_file(size=-1), "something other"),
        (_file(size=1.5), "something other"),
        (_file(size=1 << 70), "something other"),
        (_file(begin=1), "more than was agreed"),
        (_file(size=0, begin=1), "more than was agreed"),
        (_file(size=2), "something other"),
        (_file()[:-1] + b" and more\n", "something other"),
        (_file().replace(b"559aead", b"0000000"), "was damaged on the way"),
        (_row(file="x", place=RESULTS, by=0, size=1, mtime_ns=HOUR, begin=0) + b"A" * 5_000_000, "endless line"),
    ],
)  # fmt: skip
def test_a_host_that_lies_harms_nothing_here(pull: Pull, tmp_path: Path, data: bytes, says: str) -> None:
    found = (
        pull.lie(data + END, pull.request("x", "sub"), tmp_path) if data else pull.lie(b"", pull.request("x"), tmp_path)
    )
    assert says in (found.broken or ""), found
    assert (found.broken or "").isprintable()
    assert pull.tree() == {}


def test_what_a_host_calls_its_files_harms_no_terminal(pull: Pull, tmp_path: Path) -> None:
    rows = _row(skip="\x1b[2J", why="\x07bell") + _row(keep="a\nb") + END
    found = pull.lie(rows, pull.request("x"), tmp_path)
    assert all(text.isprintable() for text in (*found.kept, *found.refused[0]))


def test_a_file_that_changed_while_it_was_read_is_left_for_the_next_time(pull: Pull, tmp_path: Path) -> None:
    changed = _file().replace(b'"fault": null', b'"fault": "changed"')
    assert pull.lie(changed + END, pull.request("x"), tmp_path).later == ("x",)
    assert pull.tree() == {}


@pytest.mark.parametrize("noise", ["yes hello", "cat /dev/zero", "echo Welcome; echo motd >&2; printf '\\033[2J'"])
def test_what_a_shell_writes_before_our_end_is_not_read(pull: Pull, noise: str) -> None:
    pull.there("x")
    command = ["sh", "-c", f'{noise}; exec "$@"', "sh", *pull.command()]
    found = pull.take(command, pull.request("x"))
    if noise.startswith("echo"):
        assert (found.files, found.broken) == (1, None)
    else:
        assert found.broken == "it sends something other than it was asked for"


def test_why_a_host_could_not_answer_is_what_it_said(pull: Pull) -> None:
    found = pull.take(["sh", "-c", "printf 'a\\nNo \\033module\\n' >&2; exit 3"], pull.request("x"))
    assert (found.broken, found.dropped) == (r"a / No \x1bmodule", False)
    assert pull.take(["sh", "-c", "exit 255"], pull.request("x")).dropped


def test_a_host_that_falls_silent_is_given_up(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "SILENCE", 0.1)
    assert pull.take(["sleep", "60"], pull.request("x")).broken == "nothing was received for 0 s"


def test_what_the_disk_here_has_no_room_for_is_not_sent(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    pull.there("x", "123")
    full = pull.pull("x", room=2)
    assert (full.files, full.broken) == (0, None)
    assert "than the free disk space here" in dict(full.refused)["x"]
    request = pull.request("x")
    monkeypatch.setattr(local_store, "MARGIN", 1 << 60)
    assert "the disk here has no room" in (pull.take(pull.command(), request).broken or "")
    assert pull.tree() == {}
