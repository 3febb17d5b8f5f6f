"""Faults of this side, found before a machine is paid for, with the real ssh."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from skill.fleet.startup import is_alike
from skill.hosts import ssh_preflight, ssh_settings

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGm9 me"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ~/.ssh/config of a home of its own. ssh itself asks the user database where the home is."""
    use_config_of_home(tmp_path, monkeypatch)
    path = tmp_path / ".ssh" / "config"
    path.parent.mkdir(mode=0o700)
    return path


def use_config_of_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = home / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F "$HOME/.ssh/config" "$@"\n')
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


@pytest.mark.parametrize("text", ["", "Host gpu-a\n  User ana\n", "Host *\n  ServerAliveInterval 30\n"])
def test_nothing_is_reported_against_what_can_be_used(config: Path, text: str) -> None:
    config.write_text(text)
    assert ssh_preflight.fault("~/.ssh/id_ed25519", PUBLIC) is None


@pytest.mark.parametrize("text", ["Host *\n  Prot 22\n", "Host *\n  Port abc\n", "ProxyJump\n"])
def test_a_line_that_ssh_does_not_understand_is_named_in_its_words(config: Path, text: str) -> None:
    config.write_text(text)
    fault = ssh_preflight.fault("~/.ssh/id_ed25519", PUBLIC)
    assert fault is not None
    assert fault.startswith(f"your ssh configuration cannot be read: {config}")
    assert f"line {len(text.splitlines())}" in fault


@pytest.mark.parametrize("of", ["203.*", "*.vast.ai", "*.example 203.0.113.*"])
def test_a_jump_host_that_is_down_is_named(config: Path, of: str) -> None:
    config.write_text(f"Host {of}\n  ProxyJump root@127.0.0.1:1\n")
    fault = ssh_preflight.fault("~/.ssh/id_ed25519", PUBLIC)
    assert fault is not None
    assert fault.startswith("the jump host root@")  # some versions of ssh put the address into brackets
    assert "of your ssh configuration cannot be entered: " in fault
    assert "refused" in fault


def test_a_proxy_command_that_fails_is_named(config: Path) -> None:
    config.write_text("Host *.vast.ai\n  ProxyCommand echo no such corkscrew >&2; exit 1\n")
    fault = ssh_preflight.fault("~/.ssh/id_ed25519", PUBLIC)
    assert fault is not None
    assert fault.startswith(
        "the ProxyCommand of your ssh configuration does not reach ssh1.vast.ai: echo no such corkscrew"
    )


@pytest.mark.parametrize(
    ("code", "err", "is_open"),
    [
        (255, "root@ssh1.vast.ai: Permission denied (publickey).", True),
        (255, "Host key verification failed.", True),
        (0, "", True),
        (1, "", True),
        (255, "Connection closed by UNKNOWN port 65535", False),
        (None, "", False),
    ],
)
def test_a_proxy_command_serves_where_a_server_answers(
    code: int | None, err: str, is_open: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = None if code is None else subprocess.CompletedProcess([], code, "", err)
    monkeypatch.setattr(ssh_preflight, "_run", lambda _argv: done)
    assert (ssh_preflight._proxy_fault("corkscrew proxy 80") is None) == is_open


@pytest.mark.parametrize(
    ("printed", "chain"),
    [
        ("host 203.0.113.1\nport 22\n", []),
        ("port 22\nproxyjump none\n", []),
        ("proxyjump bastion\n", ["bastion"]),
        ("ProxyJump ana@outer:2222,inner\nproxyjump other\n", ["ana@outer:2222,inner"]),
    ],
)
def test_the_jump_hosts_that_ssh_would_take(printed: str, chain: list[str]) -> None:
    assert ssh_preflight.jumps(ssh_settings.parse("root@203.0.113.1", printed)) == chain


def test_the_last_jump_host_is_entered_by_the_others_and_asks_nothing() -> None:
    argv = ssh_preflight.command("ana@outer:2222,mid,inner")
    assert argv[-4:] == ["-J", "ana@outer:2222,mid", "ssh://inner", "true"]
    assert argv[:2] == ["ssh", "-n"]
    assert "BatchMode=yes" in argv
    assert "-J" not in ssh_preflight.command("ssh://inner:22")
    assert ssh_preflight.command("ssh://inner:22")[-2:] == ["ssh://inner:22", "true"]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("root@127.0.0.2:40001 takes no key (for 61 s)", "root@127.0.0.3:53 takes no key (for 8 s)", True),
        ("root@127.0.0.2:40001 takes no key", "root@127.0.0.2:40001 refuses the connection", False),
    ],
)
def test_two_machines_that_fail_in_the_same_words_fail_alike(one: str, other: str, alike: bool) -> None:
    assert is_alike(one, other) is alike
