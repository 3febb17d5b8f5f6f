"""The ssh of a look is started early where it would be the same, and its being early changes nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from skill.common.errors import INTERRUPTED
from skill.hosts import early_ssh
from skill.hosts.connection import CommandResult, Host
from skill.hosts.known_hosts import replace_key
from skill.hosts.registry import Ssh, Worker
from tests.e2e.runs import wait_for

ROOT = Path(__file__).resolve().parents[2]
SSH = """\
#!/bin/sh
for last in "$@"; do :; done
while [ "$1" != -E ]; do shift; done
echo "Authenticated to host" >> "$2"
echo $$ >> "$HOME/started"
sh -c "$last"
code=$?
echo "rtype exit-status" >> "$2"
exit $code
"""
"""Lets everybody in, and writes down who it is."""
LOOK = ["sh", "-c", "cat; while [ -e hold ]; do sleep 0.05; done"]


class Home:
    """A home with a host whose ssh is a program of ours. Each `command` is a process's worth of early_ssh."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, monkeypatch
        (folder / "bin").mkdir()
        (folder / "bin" / "ssh").write_text(SSH)
        (folder / "bin" / "ssh").chmod(0o755)
        (folder / ".wavequeue").mkdir()
        (folder / "tmp").mkdir()
        self.memory = folder / ".wavequeue" / "early_ssh.json"
        self.known_hosts = folder / "known_hosts"
        replace_key(self.known_hosts, "a", "ssh-ed25519 " + "A" * 68)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("TMPDIR", str(folder / "tmp"))
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")

    def host(self, port: int = 22) -> Host:
        return Host(Worker("a", ssh=Ssh("fake.invalid", port, "me", "/key")), self.known_hosts, once=True)

    def begin(self, *arguments: str) -> int:
        """Begin the command in what is a process of its own to it; how many ssh it started early."""
        self._patch.setattr(early_ssh, "_this", early_ssh._Command())
        self._patch.setattr(early_ssh, "MARK", os.urandom(8).hex())
        early_ssh.begin(list(arguments))
        return len(early_ssh._this.waiting)

    def started(self) -> list[int]:
        path = self.folder / "started"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def logs(self) -> list[Path]:
        return list((self.folder / "tmp").iterdir())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = Home(tmp_path, monkeypatch)
    yield made
    early_ssh.abandon()
    assert made.logs() == []


def look(host: Host, text: str = "what") -> bytes:
    found = host.run(LOOK, shown=text)
    assert isinstance(found, CommandResult), found
    return found.out


def learn(home: Home) -> None:
    """Run `status` once, which nothing is known of."""
    assert home.begin("status") == 0
    assert look(home.host()) == b"what"
    early_ssh.end()


def test_what_was_started_early_is_the_one_that_is_used(home: Home) -> None:
    learn(home)
    for number in (2, 3):
        assert home.begin("status") == 1
        wait_for(lambda number=number: len(home.started()) == number, say="the early one")  # type: ignore[misc]
        assert look(home.host()) == b"what"
        assert len(home.started()) == number, "no second one was started"
        before = home.memory.stat().st_mtime_ns
        early_ssh.end()
        assert home.memory.stat().st_mtime_ns == before, "nothing new was to be kept"
    assert home.memory.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("other", [["status", "--jobs"], ["--help"], []])
def test_another_command_starts_nothing(home: Home, other: list[str]) -> None:
    learn(home)
    assert home.begin(*other) == 0


def test_in_another_directory_nothing_is_started(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    learn(home)
    monkeypatch.chdir(home.folder)
    assert home.begin("status") == 0


@pytest.mark.parametrize("change", ["written", "removed"])
def test_nothing_is_started_once_a_file_has_changed(home: Home, change: str) -> None:
    learn(home)
    if change == "written":
        replace_key(home.known_hosts, "a", "ssh-ed25519 " + "B" * 68)
    else:
        home.known_hosts.unlink()
    assert home.begin("status") == 0


@pytest.mark.parametrize("asked", [(2222, "what"), (22, "more")])
def test_where_the_words_are_others_the_early_one_is_ended(home: Home, asked: tuple[int, str]) -> None:
    learn(home)
    (home.folder / "hold").touch()
    assert home.begin("status") == 1
    wait_for(lambda: len(home.started()) == 2, say="the early one")
    early = home.started()[1]
    (home.folder / "hold").unlink()
    assert look(home.host(asked[0]), asked[1]) == asked[1].encode()
    assert len(home.started()) == 3, "the right one was started"
    early_ssh.end()
    wait_for(lambda: _has_ended(early), say="the end of the early one")
    assert home.begin("status") == 1, "the newest words are the ones that are remembered"
    assert look(home.host(asked[0]), asked[1]) == asked[1].encode()
    assert len(home.started()) == 4


def test_what_takes_input_is_not_remembered(home: Home) -> None:
    assert home.begin("change") == 0
    found = home.host().run(["cat"], stdin=b"secret")
    assert isinstance(found, CommandResult)
    assert found.out == b"secret"
    early_ssh.end()
    assert not home.memory.exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o604])
def test_a_file_that_others_may_open_is_not_believed(home: Home, mode: int) -> None:
    learn(home)
    home.memory.chmod(mode)
    assert home.begin("status") == 0


def test_a_link_is_not_believed(home: Home) -> None:
    learn(home)
    home.memory.rename(home.folder / "elsewhere")
    home.memory.symlink_to(home.folder / "elsewhere")
    assert home.begin("status") == 0


def test_a_file_that_is_damaged_does_no_harm(home: Home) -> None:
    learn(home)
    whole = home.memory.read_text()
    key = next(iter(json.loads(whole)))
    for text in (whole[:-9], "", "[]", f'"{key}"', json.dumps({key: {}}), json.dumps({key: {"files": {}, "words": 1}})):
        home.memory.write_text(text)
        assert home.begin("status") == 0, text
        assert look(home.host()) == b"what"
        early_ssh.end()
        assert home.begin("status") == 1, "it was written anew"
        early_ssh.abandon()


def test_only_the_newest_commands_are_remembered(home: Home) -> None:
    for number in range(early_ssh._MOST + 2):
        home.begin("status", str(number))
        look(home.host())
        early_ssh.end()
    assert home.begin("status", "0") == 0
    assert home.begin("status", "2") == 1


def test_ctrl_c_ends_what_was_started_early(home: Home) -> None:
    """While the first module of the command is imported: silently, as ever."""
    program = """
import os, pathlib, signal, sys, time
class Finder:
    def find_spec(self, name, *_):
        if name == "skill.cli.main":
            while len((pathlib.Path.home() / "started").read_text().splitlines()) < 2:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)
from skill.__main__ import main
sys.meta_path.insert(0, Finder())
main()
"""
    learn(home)
    (home.folder / "hold").touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", program, "status"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "", "")
    early = home.started()[1]
    wait_for(lambda: _has_ended(early), say="the end of what was started early")
    (home.folder / "hold").unlink()


def _has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
