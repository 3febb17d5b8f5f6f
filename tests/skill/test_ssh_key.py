"""The key for rented machines: what cannot be used is told apart, by what ssh-keygen and ssh-add say."""

from __future__ import annotations

from pathlib import Path

import pytest

from skill.common.errors import UseError
from skill.fleet import ssh_key

PUBLIC = "ssh-ed25519 AAAAC3 me"
LOCKED = 'Load key "k": incorrect passphrase supplied to decrypt private key'
OPEN = "Permissions 0644 for 'k' are too open. Load key \"k\": bad permissions"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing in it, and a home with a key."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "k").write_text("private")
    (tmp_path / ".ssh" / "k.pub").write_text(PUBLIC)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, code: int, out: str = "", err: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\nprintf '%s\\n' '{out}'\nprintf '%s\\n' \"{err}\" >&2\nexit {code}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("keygen", "agent", "says"),
    [
        ((0, ""), None, None),
        ((255, LOCKED), (0, PUBLIC), None),
        (
            (255, LOCKED),
            (0, "ssh-rsa BBBB"),
            "it needs its passphrase, and no agent has it; give it to one: ",
        ),
        ((255, LOCKED), (1, ""), "it needs its passphrase, and no agent has it; give it to one: ssh-add"),
        ((255, LOCKED), (2, ""), "it needs its passphrase, and no agent is reached; start one with: "),
        ((255, LOCKED), None, "it is unknown whether an agent has it (ssh-add is not installed)"),
        ((255, OPEN), (1, ""), "ssh-keygen says: Permissions 0644 for 'k' are too open."),
        (None, (1, ""), "ssh-keygen says: ssh-keygen is not installed; and no agent has it"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_for_what_was_said(
    keygen: tuple[int, str] | None, agent: tuple[int, str] | None, says: str | None, programs: Path
) -> None:
    if keygen is not None:
        program(programs, "ssh-keygen", keygen[0], err=keygen[1].replace('"', r"\""))
    if agent is not None:
        program(programs, "ssh-add", agent[0], out=agent[1])
    if says is None:
        assert ssh_key.find_key("~/.ssh/k") == ssh_key.Key(PUBLIC, "~/.ssh/k")
        return
    with pytest.raises(UseError) as error:
        ssh_key.find_key("~/.ssh/k")
    assert "the ssh key ~/.ssh/k of vast.yaml cannot be used: " in str(error.value)
    assert says in str(error.value)


def test_a_public_half_that_is_missing_is_made_from_the_private_one(programs: Path) -> None:
    (programs.parent / ".ssh" / "k.pub").unlink()
    with pytest.raises(UseError, match=r"does not exist; create it: ssh-keygen -y -f ~/.ssh/k > ~/.ssh/k.pub"):
        ssh_key.find_key("~/.ssh/k")
    with pytest.raises(UseError, match=r"does not exist; create it: ssh-keygen -f none$"):
        ssh_key.find_key("none")


def test_a_public_half_that_cannot_be_read_is_not_taken_for_missing(programs: Path) -> None:
    (programs.parent / ".ssh" / "k.pub").write_bytes(b"\xff")
    with pytest.raises(UseError, match=r"k\.pub cannot be read: it is not text"):
        ssh_key.find_key("~/.ssh/k")


def test_where_no_key_can_be_made_it_says_why(programs: Path) -> None:
    with pytest.raises(UseError, match="none could be created: ssh-keygen is not installed"):
        ssh_key.find_key(None)
    program(programs, "ssh-keygen", 1, err="no entropy")
    with pytest.raises(UseError, match="none could be created: no entropy"):
        ssh_key.find_key(None)
