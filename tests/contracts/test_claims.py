"""A claim that is cut off: told by who may have written it, never given twice, never waited for in vain."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.adapters import claims, processes
from queue_manager.adapters.run_dir import RunDir
from queue_manager.core.boundary import Claim, Revoked
from queue_manager.core.layout import AttemptPaths, RunPaths
from queue_manager.core.readings import Unreadable
from queue_manager.launchers import script

REVOKED = "revoked\n"
SOME = (0, 1, 20)
"""Where a line may be cut; all are looked at, and taking back after each would sync the disk hundreds of times."""


@pytest.fixture
def directory(tmp_path: Path) -> RunDir:
    made = RunDir(RunPaths.of(tmp_path / "run"))
    made.prepare()
    return made


@pytest.fixture
def files(directory: RunDir) -> AttemptPaths:
    return directory.prepare_attempt("a", 1, "echo ran >> ../ran", {"a"})


@pytest.fixture
def wrapper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that may be a wrapper."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def line_of(process: subprocess.Popen[bytes]) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text()


def test_a_claim_cut_at_any_byte(
    files: AttemptPaths, wrapper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "SETTLES", 0.0)
    line = line_of(wrapper)
    (files.root / f"wrapper.{wrapper.pid}").write_text(line)
    for end in range(len(line)):
        files.claim.write_text(line[:end])
        found = claims.read(files)
        assert isinstance(found, Unreadable), end
        assert f"process {wrapper.pid} is about to claim it" in found.reason
        if end in SOME:
            claims.revoke(files)
            assert files.claim.read_text() == line[:end], "taken from a wrapper that may go on"
    wrapper.kill()
    wrapper.wait()
    for end in range(len(line)):
        files.claim.write_text(line[:end])
        assert claims.read(files) is None, end
        if end in SOME:
            claims.revoke(files)
            assert claims.read(files) == Revoked()
    files.claim.write_text(line)
    claims.revoke(files)
    found = claims.read(files)
    assert isinstance(found, Claim)
    assert found.wrapper.pid == wrapper.pid


def test_only_who_may_have_written_it_counts(files: AttemptPaths, wrapper: subprocess.Popen[bytes]) -> None:
    """Another wrapper that came late says nothing about a line that it has not begun."""
    dead = line_of(wrapper).replace(f"{wrapper.pid} ", "1999999999 ", 1)
    (files.root / f"wrapper.{wrapper.pid}").write_text(line_of(wrapper))
    files.claim.write_text(dead[:12])
    assert claims.read(files) == Unreadable(f"{files.claim} cannot be parsed")
    (files.root / "wrapper.1999999999").write_text(dead[:-1])  # it had not even said who it is
    assert claims.read(files) == Unreadable(f"{files.claim} cannot be parsed")
    (files.root / "wrapper.1999999999").write_text(dead)
    assert claims.read(files) is None
    files.claim.write_text("")
    assert isinstance(claims.read(files), Unreadable)


def test_a_wrapper_that_cannot_be_looked_up_may_live(
    files: AttemptPaths, wrapper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (files.root / f"wrapper.{wrapper.pid}").write_text(line_of(wrapper))
    files.claim.write_text("")
    monkeypatch.setattr(processes, "alive", lambda _proc: Unreadable("no /proc"))
    assert claims.read(files) == Unreadable(f"{files.claim}: no /proc")


def test_a_claim_that_is_finished_while_it_is_looked_at(
    files: AttemptPaths, wrapper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its wrapper wrote the rest, ran the job and ended, all between two looks of the manager."""
    line = line_of(wrapper)
    (files.root / f"wrapper.{wrapper.pid}").write_text(line)
    files.claim.write_text("")

    def ended(_proc: object) -> bool:
        files.claim.write_text(line)
        return False

    monkeypatch.setattr(processes, "alive", ended)
    found = claims.read(files)
    assert isinstance(found, Claim)
    assert found.wrapper.pid == wrapper.pid


@pytest.mark.parametrize("end", range(len(REVOKED)))
def test_a_manager_that_died_while_it_took_an_attempt_back(
    files: AttemptPaths, monkeypatch: pytest.MonkeyPatch, end: int
) -> None:
    """Where there are no hard links, it writes the claim as a wrapper does."""

    def refuse(*_arguments: object, **_options: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    files.revoking.write_text(REVOKED)
    files.claim.write_text(REVOKED[:end])
    assert claims.read(files) is None
    claims.revoke(files)
    assert claims.read(files) == Revoked()
    claims.revoke(files)
    assert claims.read(files) == Revoked()


@pytest.mark.parametrize("fault", ["kill -KILL $$", "trap '' XFSZ; ulimit -f 0; printf x >&9"])
def test_a_wrapper_that_dies_between_making_the_claim_and_saying_who_it_is(directory: RunDir, fault: str) -> None:
    files = directory.prepare_attempt("a", 1, "echo ran >> ../ran", {"a"})
    claiming = "{ printf '%s\\n' \"$me\" > claim; }"
    assert claiming in script.WRAPPER
    broken = directory.paths.root / "broken.sh"
    broken.write_text(script.WRAPPER.replace(claiming, f"exec 9> claim; {fault}"))
    subprocess.run(["bash", "-p", str(broken), str(files.root), "tag"], check=False, capture_output=True)
    assert files.claim.read_bytes() == b""
    assert directory.claim("a", 1) is None
    late = ["bash", "-p", str(directory.paths.wrapper), str(files.root), "tag"]
    subprocess.run(late, check=True)
    assert directory.claim("a", 1) is None
    directory.revoke("a", 1, {"a"})
    assert directory.claim("a", 1) == Revoked()
    subprocess.run(late, check=True)
    assert not (directory.paths.attempts / "ran").exists()


def test_a_claim_is_made_only_where_there_is_none(directory: RunDir) -> None:
    """By the kernel, in one step: bash asks for O_EXCL where it saw no file before."""
    files = directory.prepare_attempt("a", 1, "echo ran >> ../ran", {"a"})
    for text in ("", REVOKED):
        files.claim.write_text(text)
        subprocess.run(["bash", "-p", str(directory.paths.wrapper), str(files.root), "tag"], check=True)
        assert files.claim.read_text() == text
    files.claim.unlink()
    files.claim.mkdir()  # as an earlier version's wrapper makes it where there are no hard links
    subprocess.run(["bash", "-p", str(directory.paths.wrapper), str(files.root), "tag"], check=True)
    assert not (directory.paths.attempts / "ran").exists()
