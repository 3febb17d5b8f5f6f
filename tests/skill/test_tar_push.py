"""Code by tar to a host that is this machine: holes stay holes, and a push that was cut off goes on from there."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.hosts import code_push, tar_push
from skill.hosts.code_push import Pushed
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.registry import Worker
from skill.hosts.tar_push import BLOCK, Range

MIB = 1 << 20


class Wire(Host):
    """A host that is this machine. `cut`: after which so many scripts that take input the connection drops, in the
    middle of what the next one is given; `sent`: bytes of input that went there."""

    def __init__(self, root: Path) -> None:
        super().__init__(Worker("a", kind="local"), root / "known_hosts")
        self.cut: int | None = None
        self.sent = 0

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        shown: str = "",
        timeout: float = 30.0,
        limit: int = 64 << 20,
    ) -> CommandResult | Unreachable:
        is_last = bool(stdin) and self.cut == 0
        if stdin and self.cut is not None:
            self.cut -= 1
        given = stdin[: len(stdin) // 2] if is_last else stdin
        self.sent += len(given)
        result = super().run(argv, stdin=given, shown=shown, timeout=timeout, limit=limit)
        return Unreachable("the connection was lost", "dropped") if is_last else result


class Place:
    """A project and the workspace that it goes to."""

    def __init__(self, root: Path) -> None:
        self.source, self.there = root / "project", root / "work of 'mine'"
        self.source.mkdir()
        self.host = Wire(root)
        self.output: list[str] = []

    def sparse(self, name: str, size: int, parts: dict[int, bytes], mode: int = 0o644) -> None:
        with (self.source / name).open("wb") as file:
            file.truncate(size)
            for begin, data in parts.items():
                file.seek(begin)
                file.write(data)
        (self.source / name).chmod(mode)
        os.utime(self.source / name, (1_600_000_000, 1_600_000_000))

    def push(self) -> Pushed | str | Unreachable:
        names = sorted(path.relative_to(self.source).as_posix() for path in self.source.rglob("*") if path.is_file())
        return code_push._by_tar(self.host, self.source, str(self.there), names, self.output.append)

    def visible(self) -> list[str]:
        return sorted(path.name for path in self.there.iterdir() if path.name != ".wavequeue")

    def staged(self) -> list[Path]:
        return list((self.there / ".wavequeue").glob("push.*"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(code_push, "_PAUSE", 0.0)
    made = Place(tmp_path)
    made.there.mkdir()
    return made


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_a_sparse_file_costs_its_data_on_the_wire_and_on_the_disk_there(place: Place) -> None:
    parts = {5000: noise(MIB), 700 * MIB + 3: noise(MIB // 2, 1), 1024 * MIB - 100: noise(100, 2)}
    place.sparse("a file.bin", 1024 * MIB, parts, 0o640)
    (place.source / "train.py").write_text("pass")
    found = place.push()
    assert isinstance(found, Pushed)
    assert (found.files, found.how) == (2, "tar")
    assert found.bytes < 2 * MIB
    assert place.host.sent < 2 * MIB
    there = place.there / "a file.bin"
    info = there.stat()
    assert (info.st_size, int(info.st_mtime), info.st_mode & 0o777) == (1024 * MIB, 1_600_000_000, 0o640)
    assert info.st_blocks * 512 < 3 * MIB
    with there.open("rb") as file:
        for begin, data in parts.items():
            file.seek(begin)
            assert file.read(len(data)) == data
        for hole in (0, 3 * MIB, 900 * MIB):
            file.seek(hole)
            assert file.read(1000) == bytes(1000)
    assert place.visible() == ["a file.bin", "train.py"]
    assert place.staged() == []
    assert place.push() == Pushed(0, 0, "tar")


@pytest.mark.parametrize("after", [1, 2, 3, 4], ids=["first piece", "second piece", "third piece", "archive"])
def test_a_push_that_was_cut_leaves_nothing_to_be_seen_and_goes_on_from_there(
    after: int, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_push, "_PIECE", MIB)
    place.sparse("big.bin", 9 * MIB, {k * 4 * MIB: noise(MIB - 7, k) for k in range(3)})
    (place.source / "train.py").write_text("new")
    (place.there / "train.py").write_text("an old one")
    monkeypatch.setattr(code_push, "TRIES", 1)
    place.host.cut = after
    found = place.push()
    assert isinstance(found, Unreachable)
    assert found.kind == "dropped"
    assert place.visible() == ["train.py"]
    assert (place.there / "train.py").read_text() == "an old one"
    place.host.cut, place.host.sent = None, 0
    assert isinstance(place.push(), Pushed)
    assert place.host.sent < (4 - after) * 1.1 * MIB + 10_000
    assert (place.there / "big.bin").read_bytes() == (place.source / "big.bin").read_bytes()
    assert (place.there / "train.py").read_text() == "new"
    assert place.staged() == []


def test_one_push_tries_again_by_itself(place: Place) -> None:
    place.sparse("big.bin", 4 * MIB, {0: noise(MIB)})
    place.host.cut = 1
    assert isinstance(place.push(), Pushed)
    assert len(place.output) == 1
    assert (place.there / "big.bin").read_bytes() == (place.source / "big.bin").read_bytes()


def test_a_file_without_data_and_one_that_is_only_large_arrive(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_push, "LARGE", MIB)
    place.sparse("deep-hole.bin", 3 * MIB, {})
    place.sparse("large.bin", 3 * MIB + 11, {0: noise(3 * MIB + 11)})
    (place.source / "data").mkdir()
    place.sparse("data/-n it's.bin", 2 * MIB, {MIB: b"x"})
    assert isinstance(place.push(), Pushed)
    for name in ("deep-hole.bin", "large.bin", "data/-n it's.bin"):
        assert (place.there / name).read_bytes() == (place.source / name).read_bytes()


def test_a_fault_there_is_reported_and_leaves_nothing(place: Place) -> None:
    place.sparse("big.bin", 4 * MIB, {0: noise(MIB)})
    (place.there / "big.bin").mkdir()
    assert place.push() == "tar on a failed with exit code 1: ./big.bin is a directory there"
    assert place.staged() == []


def test_the_latest_of_two_pushes_of_the_same_files_has_the_stage(place: Place) -> None:
    place.sparse("big.bin", 4 * MIB, {0: noise(MIB)})
    name = tar_push.token(place.source, ["big.bin"])
    first = tar_push.Stage(place.host, str(place.there), name, "first")
    assert first.run(tar_push._BEGIN) == b""
    assert tar_push.Stage(place.host, str(place.there), name, "second").run(tar_push._BEGIN) == b""
    found = first.run(tar_push._OURS + tar_push._PUBLISH)
    assert isinstance(found, str)
    assert "another push of the same files has gone on with it" in found
    assert len(place.staged()) == 1


def test_a_file_that_is_written_meanwhile_is_reported(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.sparse("big.bin", 4 * MIB, {0: noise(MIB)})
    read = tar_push._read

    def written(*rest: object) -> bytes | None:
        found = read(*rest)  # type: ignore[arg-type]
        with (place.source / "big.bin").open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(tar_push, "_read", written)
    assert place.push() == "big.bin was changed here while it was being copied; run the same command again"
    assert place.visible() == []
    assert place.staged() == []


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 3 * BLOCK)), max_size=8))
def test_pieces_are_all_of_the_data_in_order_and_bounded(rows: list[tuple[int, int]]) -> None:
    ranges, at = [], 0
    for gap, size in rows:
        ranges.append(Range((at + gap) * BLOCK, size))
        at += gap + -(-size // BLOCK)
    groups = tar_push.pieces(ranges)
    flat = [one for group in groups for one in group]
    assert sum(one.size for one in flat) == sum(one.size for one in ranges)
    assert all(one.begin % BLOCK == 0 and one.size > 0 for one in flat)
    assert all(a.begin + a.size <= b.begin for a, b in zip(flat, flat[1:], strict=False))
    assert all(sum(one.size for one in group) <= tar_push._PIECE for group in groups)


def test_archives_are_bounded_and_each_file_is_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_push, "_PIECE", 1000)
    monkeypatch.setattr(tar_push, "_MOST_FILES", 3)
    names = [f"f{number}" for number in range(9)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"x" * (10 if number < 5 else 600))
    meant = tar_push.plan(tmp_path, names)
    assert [name for archive in meant.archives for name in archive] == names
    assert [len(archive) for archive in meant.archives] == [3, 3, 1, 1, 1]
    assert meant.large == ()
