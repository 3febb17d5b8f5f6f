"""Code up to real hosts, by rsync and by tar: what is carried arrives as it was, and nothing there is lost or half."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skill.hosts import code_push
from skill.hosts.code_push import Pushed
from skill.hosts.connection import Host
from skill.hosts.registry import Worker
from skill.transfer.code_files import select
from tests.e2e.runs import wait_for
from tests.sshd import Sshd

ODD = [
    "a b.py",
    "it's;x",
    'say "x"',
    "two\nlines",
    "$HOME `id`",
    "-n",
    "ü",
    "deep/er one/[x]*.py",
    "#x",
    ";y",
    "back\\slash",
]
WORKSPACE = "~/work of 'mine'"


class Place:
    """A host with the way to it, and a project here."""

    def __init__(self, root: Path, *, bare: bool) -> None:
        self.how = "tar" if bare else "rsync"
        self.server = Sshd(root / "host", bare=bare)
        self.host = Host(self.server.worker("a"), root / "known_hosts")
        self.source = root / "the project"
        self.there = self.server.home / "work of 'mine'"
        self.source.mkdir()
        self.second = 1_600_000_000

    def link(self, name: str, to: str) -> None:
        path = self.source / name
        path.unlink(missing_ok=True)
        path.symlink_to(to)
        self.second += 1
        os.utime(path, (self.second, self.second), follow_symlinks=False)

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)
        self.second += 1
        os.utime(path, (self.second, self.second))
        return path

    def push(self, *excludes: str) -> Pushed:
        found = code_push.push_files(self.host, self.source, WORKSPACE, select(self.source, excludes))
        assert isinstance(found, Pushed), found
        assert found.how == self.how
        return found

    def arrived(self) -> dict[str, str]:
        """Every file there, with its content or where it leads to."""
        return {
            path.relative_to(self.there).as_posix(): os.readlink(path) if path.is_symlink() else path.read_text()
            for path in self.there.rglob("*")
            if (path.is_file() or path.is_symlink()) and ".wavequeue" not in path.parts
        }


@pytest.fixture(params=[False, True], ids=["rsync", "tar"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, bare=request.param)
    yield made
    made.host.close()
    made.server.close()


def test_names_modes_times_and_links_arrive_as_they_were_and_once(place: Place) -> None:
    for name in ODD:
        place.write(name, name)
    place.write("run.sh", "x", 0o755)
    place.write("kept.py", "x", 0o444)
    for name, to in (("link", "run.sh"), ("folder link", "deep"), ("nowhere", "/no/such/place")):
        place.link(name, to)
    os.utime(place.source / "run.sh", (1_500_000_000, 1_500_000_000))
    assert place.push().files == len(ODD) + (2 if place.how == "rsync" else 5)  # rsync counts no links
    links = {"link": "run.sh", "folder link": "deep", "nowhere": "/no/such/place"}
    assert place.arrived() == {**{name: name for name in ODD}, "run.sh": "x", "kept.py": "x", **links}
    for name, mode in (("run.sh", 0o755), ("kept.py", 0o444)):
        assert stat.S_IMODE((place.there / name).stat().st_mode) == mode
    assert int((place.there / "run.sh").stat().st_mtime) == 1_500_000_000
    assert place.push() == Pushed(0, 0, place.how)


def test_a_sparse_file_stays_sparse(place: Place) -> None:
    with place.write("sparse.bin", "x").open("r+b") as file:
        file.truncate(16 << 20)
    place.write("a.py", "one")
    place.push()
    assert (place.there / "sparse.bin").stat().st_size == 16 << 20
    assert (place.there / "sparse.bin").stat().st_blocks * 512 < 1 << 20
    assert (place.there / "sparse.bin").read_bytes() == b"x" + bytes((16 << 20) - 1)
    assert not list(place.there.glob(".wavequeue/push.*"))


def test_only_what_changed_is_sent_and_nothing_there_is_deleted(place: Place) -> None:
    for name in ("a.py", "b.py", "c.py", "d.py", "gone.py"):
        place.write(name, "one")
    place.link("was_link", "a.py")
    place.push()
    (place.there / "result.json").write_text("theirs")
    place.write("a.py", "another")
    place.write("b.py", "read-only now", 0o444)
    place.write("was_link", "a file now")
    place.link("c.py", "a.py")
    (place.source / "gone.py").unlink()
    assert place.push().files == (3 if place.how == "rsync" else 4)
    place.write("b.py", "changed again", 0o444)
    assert place.push().files == 1
    assert place.arrived() == {
        "a.py": "another", "b.py": "changed again", "c.py": "a.py", "d.py": "one", "gone.py": "one",
        "was_link": "a file now", "result.json": "theirs",
    }  # fmt: skip


def test_a_file_that_was_just_written_is_read_when_its_second_is_over(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x")
    code_push.let_second_pass(tmp_path, ["a.py"])
    assert int(time.time()) > int((tmp_path / "a.py").stat().st_mtime)


def test_a_folder_that_was_moved_to_another_disk_there_stays_moved(place: Place) -> None:
    place.write("data/x", "one")
    place.push()
    (place.there / "data").rename(place.server.home / "big")
    (place.there / "data").symlink_to(place.server.home / "big")
    place.write("data/x", "another")
    assert isinstance(code_push.push_files(place.host, place.source, WORKSPACE, select(place.source)), Pushed)
    assert (place.there / "data").is_symlink()
    assert (place.server.home / "big" / "x").read_text() == "another"


def test_what_git_ignores_and_what_is_secret_stays_here(place: Place) -> None:
    for name in ("a.py", "a.log", "deep/b.py", "deep/c.tmp", "data/x.npy", "out/keep.txt", "notes/n.txt", ".env",
                 "workers.yaml", ".wavequeue/known_hosts", "experiment_queue/r/manifest.json"):  # fmt: skip
        place.write(name, "x")
    place.write(".gitignore", "*.log\n/data\n")
    place.write("deep/.gitignore", "*.tmp\n")
    place.push("notes", "out/*")
    assert sorted(place.arrived()) == [".gitignore", "a.py", "deep/.gitignore", "deep/b.py"]


def test_a_cut_in_the_middle_leaves_whole_files_and_is_made_good(place: Place) -> None:
    """The connection is killed while a large file is on its way; the push itself tries again."""
    place.write("a.py", "one")
    place.write("big.bin", "old")
    place.push()
    place.write("a.py", "another")
    (place.source / "big.bin").write_bytes(os.urandom(8 << 20))
    seen: list[str] = []

    def underway() -> bool:
        return any(path.is_file() and path.stat().st_size > 1 << 16 for path in place.there.rglob("*"))

    def cut() -> None:
        wait_for(underway, say="the large file to be on its way")
        place.server.kill_all()

    def retried(text: str) -> None:
        seen.append(text)
        killer.join()  # or it ends the next try as well
        if place.server.process is None:
            assert (place.there / "big.bin").read_bytes() == b"old"
            assert (place.there / "a.py").read_text() in ("one", "another")
            place.server.start()

    killer = threading.Thread(target=cut)
    killer.start()
    found = code_push.push_files(place.host, place.source, WORKSPACE, select(place.source), say=retried)
    killer.join()
    assert isinstance(found, Pushed), found
    assert len(seen) == 1
    assert "a: the connection was dropped" in seen[0]
    assert (place.there / "big.bin").read_bytes() == (place.source / "big.bin").read_bytes()
    assert (place.there / "a.py").read_text() == "another"


def test_a_workspace_that_cannot_be_made_says_why(place: Place) -> None:
    found = code_push.push_files(place.host, place.source, "/dev/null/x", select(place.source))
    assert isinstance(found, str)
    assert "the workspace /dev/null/x cannot be created on a: " in found


def test_where_a_folder_stands_in_the_way_of_a_file_it_is_named_and_stays(place: Place) -> None:
    place.write("a", "x")
    (place.there / "a").mkdir(parents=True)
    (place.there / "a" / "theirs").write_text("x")
    found = code_push.push_files(place.host, place.source, WORKSPACE, select(place.source))
    assert isinstance(found, str), found
    assert place.arrived() == {"a/theirs": "x"}


def test_an_rsync_there_that_does_not_work_is_done_without(tmp_path: Path) -> None:
    place = Place(tmp_path, bare=True)
    try:
        rsync = place.server.bin / "rsync"
        rsync.write_text("#!/bin/sh\necho 'rsync: unknown option' >&2; exit 1\n")
        rsync.chmod(0o755)
        place.write("a.py", "x")
        assert place.push().files == 1
        assert place.arrived() == {"a.py": "x"}
    finally:
        place.host.close()
        place.server.close()


def test_this_machine_gets_a_copy_and_none_onto_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    host = Host(Worker("here", kind="local"), tmp_path / "known_hosts")
    source = tmp_path / "project"
    source.mkdir()
    (source / "a.py").write_text("x")
    assert code_push.push_files(host, source, "~/copy", select(source)) == Pushed(1, 1, "rsync")
    assert (tmp_path / "copy" / "a.py").read_text() == "x"
    assert code_push.push_files(host, source, "~/project", select(source)) == Pushed(0, 0, "in place")
