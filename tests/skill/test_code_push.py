"""What an exit code of rsync means: a fault that is told, a dropped connection, or that tar is to do it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from skill.hosts import code_push, rsync_process, rsync_route
from skill.hosts.code_push import Pushed
from skill.hosts.connection import CommandResult, Host, Unreachable
from skill.hosts.registry import Ssh, Worker
from skill.planning import host_needs
from skill.planning.host_needs import Way

TAR = Pushed(1, 4, "tar")


class Fake(Host):
    """A host that has rsync, and nothing of the code. `rsync`: how it ends there when it is asked for its version."""

    def __init__(self, rsync: int) -> None:
        super().__init__(Worker("gpu-a", ssh=Ssh("h", 22, "me", None)), Path("/none"))
        self.rsync = rsync

    def ssh_command(self) -> list[str]:
        return ["ssh"]

    def script(self, *_arguments: object, **_named: object) -> CommandResult:
        return CommandResult(0, b"/home/me/w\nrsync\n", "")

    def run(self, *_arguments: object, **_named: object) -> CommandResult:
        return CommandResult(self.rsync, b"", "" if self.rsync == 0 else "rsync: not found")


@pytest.mark.parametrize("code", [12, 255])
@pytest.mark.parametrize(
    "errors",
    [
        "me@h: Permission denied (publickey,password).",
        "Received disconnect from h port 22:2: Too many authentication failures\nDisconnected from h port 22",
        "Permission denied, please try again.",
        "Host key verification failed.",
    ],
)
def test_a_login_that_is_refused_is_not_tried_again_nor_called_a_dropped_connection(
    errors: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("pass")
    torn = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]\nrsync error: unexplained error"
    calls: list[object] = []

    def run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(arguments)
        return subprocess.CompletedProcess([], code, b"", f"{errors}\n{torn} (code {code})\n".encode())

    monkeypatch.setattr(code_push, "let_second_pass", lambda *_: None)
    monkeypatch.setattr(rsync_process, "run", run)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/rsync")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it is tried again"))
    monkeypatch.setattr(code_push, "_by_tar", lambda *_: pytest.fail("tar is tried"))
    found = code_push.push_files(Fake(0), tmp_path, "w", ["train.py"])
    assert isinstance(found, str)
    assert errors.splitlines()[0][-20:] in found
    assert "dropped" not in found
    assert len(calls) == 1


class Entered(Fake):
    """A host that fabric has entered; `ssh`: what stands in for OpenSSH."""

    def __init__(self, ssh: str) -> None:
        super().__init__(0)
        self.ssh = ssh

    def ssh_command(self) -> list[str]:
        return ["sh", "-c", self.ssh]


def test_the_way_of_rsync_is_tried_beside_that_of_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/rsync")
    denied = Entered("echo 'me@h: Permission denied (publickey).' >&2; exit 255")
    fault = rsync_route.fault(denied)
    assert fault == "code is sent by rsync over ssh, whose login fails: me@h: Permission denied (publickey)."
    assert rsync_route.fault(Entered("exit 0")) is None
    assert rsync_route.fault(Entered("echo no shell >&2; exit 1")) is None
    denied.is_quiet = False
    assert rsync_route.fault(denied) is None, "tar goes there"
    need = next(
        one for one in host_needs.needs({}, Way(no_route=fault), "gpu-a", on_cards=False) if one.check == "rsync"
    )
    assert (need.state, need.long) == (host_needs.FAULT, fault)


@pytest.mark.parametrize(
    ("code", "rsync", "tar", "says"),
    [
        (0, 0, TAR, None),
        (11, 0, TAR, "rsync to gpu-a failed with exit code 11: No space left on device"),
        (
            24,
            0,
            TAR,
            "files disappeared here while the code was being copied: No space left on device; run the same command",
        ),
        (23, 0, TAR, TAR),
        (127, 0, TAR, TAR),
        (23, 0, "tar on gpu-a failed", "tar on gpu-a failed; rsync, which was tried first, failed: No space left on"),
        (12, 127, TAR, TAR),
        (
            12,
            127,
            "tar on gpu-a failed",
            "tar on gpu-a failed; rsync, which was tried first, failed: it cannot run there",
        ),
        (12, 0, TAR, "dropped"),
        (30, 0, TAR, "dropped"),
    ],
)
def test_an_exit_code_of_rsync_is_taken_for_what_it_means(
    code: int, rsync: int, tar: Pushed | str, says: Pushed | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.py").write_text("pass")
    ended = subprocess.CompletedProcess([], code, b"", b"No space left on device\nrsync error: some (code 9)\n")
    monkeypatch.setattr(code_push, "let_second_pass", lambda *_: None)
    monkeypatch.setattr(rsync_process, "run", lambda *_: ended)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/rsync")
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(code_push, "_by_tar", lambda *_: tar)
    found = code_push.push_files(Fake(rsync), tmp_path, "w", ["train.py"])
    if isinstance(found, Unreachable):
        assert found.kind == says
    elif isinstance(found, str):
        assert isinstance(says, str)
        assert found.startswith(says)
    else:
        assert found == (says or Pushed(0, 0, "rsync"))
