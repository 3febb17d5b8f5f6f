"""An ssh that is started early, over a real sshd: one login, made before the command gets to it, and used by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skill.hosts import early_ssh
from skill.hosts.connection import CommandResult, Host
from skill.hosts.known_hosts import replace_key
from tests.e2e.runs import wait_for
from tests.sshd import Sshd


def test_the_second_look_uses_the_login_that_was_begun_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".wavequeue").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    with Sshd(tmp_path / "host") as server:
        known_hosts = tmp_path / "known_hosts"
        replace_key(known_hosts, "a", " ".join((server.root / "host_key.pub").read_text().split()[:2]))

        def logins() -> int:
            return (server.root / "sshd.log").read_text().count("Accepted publickey")

        def begin() -> int:
            monkeypatch.setattr(early_ssh, "_this", early_ssh._Command())
            monkeypatch.setattr(early_ssh, "MARK", os.urandom(8).hex())
            early_ssh.begin(["status"])
            return len(early_ssh._this.waiting)

        def look(text: str) -> None:
            found = Host(server.worker("a"), known_hosts, once=True).run(["cat"], shown=text)
            assert isinstance(found, CommandResult), found
            assert found.out.decode() == text

        assert begin() == 0, "nothing is known of the first one"
        look("what")
        early_ssh.end()
        assert logins() == 1
        assert begin() == 1
        wait_for(lambda: logins() == 2, say="the early login")
        look("what")
        assert logins() == 2, "no second login"
        early_ssh.end()
        assert begin() == 1
        wait_for(lambda: logins() == 3, say="the early login")
        early_ssh.abandon()
        look("and now")
        assert logins() == 4, "an early one that was ended is not used"
