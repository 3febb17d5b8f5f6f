"""What a launcher promises, over the real screen and over the fake; and what only screen can get wrong."""

from __future__ import annotations

import json
import os
import select
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pytest

from queue_manager.adapters import processes
from queue_manager.adapters.processes import Stat
from queue_manager.core.readings import Unreadable
from queue_manager.launchers import screen, script
from queue_manager.launchers.screen import Screen, parse_sessions
from tests.e2e.runs import World, wait_for
from tests.fakes_screen import FakeScreen

CASES = sorted((Path(__file__).resolve().parents[1] / "data" / "screen").glob("*.json"))


class Launcher(Protocol):
    """The port."""

    def start(self, session: str, argv: Sequence[str], log: Path, complaint: Path) -> subprocess.Popen[bytes]: ...

    def sessions(self) -> dict[str, int] | Unreadable: ...

    def quit(self, pid: int, session: str) -> None: ...


class Desk:
    """A launcher with a place for logs and gates."""

    def __init__(self, launcher: Launcher, root: Path) -> None:
        self.launcher, self.root = launcher, root
        self.log = root / "job.log"

    def start(self, session: str, *argv: str, log: Path | None = None) -> int:
        """Start a session, and wait until it is listed; its process id."""
        frontend = self.launcher.start(session, argv, log or self.log, self.root / "complaint")
        assert frontend.wait(20) == 0, (self.root / "complaint").read_text()

        def pid() -> int | None:
            return self.listed().get(session)

        found: int = wait_for(pid, say=f"{session} to be listed")
        return found

    def listed(self) -> dict[str, int]:
        sessions = self.launcher.sessions()
        assert not isinstance(sessions, Unreadable), sessions.reason
        return sessions

    def gate(self, name: str = "gate") -> Path:
        """A FIFO: who reads from it waits until it is opened."""
        os.mkfifo(self.root / name)
        return self.root / name

    def wait_gone(self, pid: int) -> None:
        stat = processes.look_up(pid)
        if isinstance(stat, Stat):
            wait_for(lambda: processes.alive(stat.proc) is False, say=f"the end of process {pid}")


@pytest.fixture
def screenrc(tmp_path: Path) -> Path:
    path = tmp_path / "screenrc"
    path.write_text(script.SCREENRC)
    return path


@pytest.fixture(params=["screen", "fake"])
def desk(request: pytest.FixtureRequest, world: World, screenrc: Path) -> Desk:
    kind = Screen(screenrc, world.environment) if request.param == "screen" else None
    return Desk(kind or FakeScreen(world.screens, world.environment), world.root)


def test_a_session_has_a_terminal_and_its_output_comes_as_it_is_written(desk: Desk) -> None:
    gate = desk.gate()
    pid = desk.start("s", "sh", "-c", f"test -t 0 && test -t 1 && echo tty $PPID; cat {gate}; echo later >&2")
    # Left to itself, screen would hold it back for ten seconds.
    wait_for(lambda: desk.log.exists() and b"tty" in desk.log.read_bytes(), 8, say="the first line")
    assert desk.log.read_text().split() == ["tty", str(pid)]  # the session is the parent of what it runs
    me = os.getpid()
    assert os.getsid(pid) not in (os.getsid(me), me)  # nor does it end with whoever started it
    gate.write_text("through\n")
    desk.wait_gone(pid)
    assert desk.log.read_text().split() == ["tty", str(pid), "through", "later"]
    assert desk.listed() == {}


@pytest.mark.parametrize("turn", range(3))
def test_the_log_is_whole_when_the_session_has_ended(desk: Desk, turn: int) -> None:
    gate = desk.gate()
    pid = desk.start("s", "sh", "-c", f"cat {gate}; seq 2000; exit {turn}")
    stat = processes.look_up(pid)
    assert isinstance(stat, Stat)
    fd = processes.open_pidfd(stat.proc)
    assert fd is not None
    gate.write_text("")
    assert select.select([fd], [], [], 30)[0]
    lines = desk.log.read_text().split()
    os.close(fd)
    assert lines == [str(n) for n in range(1, 2001)]


def test_arguments_arrive_as_they_are(desk: Desk) -> None:
    words = ["a b", "it's", '"q"', "%n", "$HOME", "x;y", "\\", "ü", ""]
    gate = desk.gate()
    pid = desk.start("s", "sh", "-c", 'gate=$1; shift; printf "<%s>" "$@"; cat "$gate"', "sh", str(gate), *words)
    gate.write_text("")
    desk.wait_gone(pid)
    assert desk.log.read_text() == "".join(f"<{word}>" for word in words)


def test_quit_closes_the_very_session(desk: Desk) -> None:
    names = ["wq.run.seed1.1", "wq.run.seed1.10", "wq.run.seed1", "q.run.seed1.1"]
    pids = {name: desk.start(name, "sleep", "1000") for name in names}
    assert desk.listed() == pids
    desk.launcher.quit(pids["wq.run.seed1"], "wq.run.seed1")
    desk.wait_gone(pids["wq.run.seed1"])
    left = {name: pid for name, pid in pids.items() if name != "wq.run.seed1"}
    assert desk.listed() == left
    # That one has gone: asked again, nobody else may answer for it, nor for a part of a number.
    desk.launcher.quit(pids["wq.run.seed1"], "wq.run.seed1")
    desk.launcher.quit(pids["wq.run.seed1.10"] // 10, "wq.run.seed1.10")
    assert desk.listed() == left


def test_quit_ends_what_runs_in_the_session(desk: Desk) -> None:
    pid = desk.start("s", "sh", "-c", "echo $$; exec sleep 1000")
    job = int(wait_for(lambda: desk.log.exists() and desk.log.read_text(), say="the job"))
    desk.launcher.quit(pid, "s")
    desk.wait_gone(pid)
    desk.wait_gone(job)


@pytest.mark.parametrize(
    "name",
    [
        "a b", "it's", 'say "so"', "100%n", "%%", "a;b", "$HOME", "${HOME}", "back\\slash", "^A", "^^", "#1", "~",
        "ü日", "[x]*?", "`id`", "tab\there", "line\nbreak", "-dash", " edge ", "n" * 200,
    ],
)  # fmt: skip
def test_the_log_may_lie_anywhere(desk: Desk, name: str) -> None:
    directory = desk.root / "logs" / name
    directory.mkdir(parents=True)
    gate = desk.gate()
    pid = desk.start("s", "sh", "-c", 'cat "$1"; echo here', "sh", str(gate), log=directory / "job.log")
    gate.write_text("")
    desk.wait_gone(pid)
    assert (directory / "job.log").read_text().split() == ["here"]
    assert [path.name for path in (desk.root / "logs").iterdir()] == [name]


def test_a_second_session_goes_on_in_the_same_log(desk: Desk) -> None:
    desk.log.write_text("before\n")
    gate = desk.gate()
    pid = desk.start("s", "sh", "-c", f"cat {gate}; echo after")
    gate.write_text("")
    desk.wait_gone(pid)
    assert desk.log.read_text().split() == ["before", "after"]


def test_it_says_why_it_cannot_start(desk: Desk, screenrc: Path) -> None:
    unusable = desk.root / "file"
    unusable.write_text("")
    environment = {**os.environ, "SCREENDIR": str(unusable)}
    real = isinstance(desk.launcher, Screen)
    launcher: Launcher = Screen(screenrc, environment) if real else FakeScreen(unusable, environment)
    complaint = desk.root / "complaint"
    frontend = launcher.start("s", ["sleep", "1000"], desk.log, complaint)
    assert frontend.wait(20) != 0
    assert str(unusable) in complaint.read_text()
    assert isinstance(launcher.sessions(), Unreadable)


# -- screen alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_parse_sessions(path: Path) -> None:
    case = json.loads(path.read_text())
    found = parse_sessions("\n".join(case["output"]))
    if "unreadable" in case:
        assert isinstance(found, Unreadable)
        assert case["unreadable"] in found.reason
    else:
        assert found == case["sessions"]


def test_the_environment_of_a_session() -> None:
    outer = {"STY": "1.outer", "WINDOW": "3", "A": "1", "TERM": "xterm-256color"}
    built = screen.build_environment(outer, Path("/x/100%^/a.log"))
    assert built == {"A": "1", "TERM": "xterm-256color", "WAVEQUEUE_LOG": "/x/100%%^^/a.log"}
    assert screen.build_environment({}, Path("a.log"))["TERM"]  # without one, screen does not start


def test_without_screen(world: World, screenrc: Path) -> None:
    environment = {**world.environment, "PATH": str(world.home)}
    launcher = Screen(screenrc, environment)
    with pytest.raises(FileNotFoundError) as error:
        launcher.start("s", ["true"], world.root / "log", world.root / "complaint")
    assert error.value.filename == "screen"
    assert isinstance(launcher.sessions(), Unreadable)
    launcher.quit(1, "s")
    launcher.wipe(lambda _name: True)


def test_a_list_that_is_no_utf8_can_be_read(world: World, screenrc: Path) -> None:
    fake = world.home / "screen"
    rows = b"\t7.a\t(d\xe9c.)\t(Detached)\n\t8.\xfc\t(Detached)\n"
    fake.write_bytes(b"#!/bin/sh\ncat <<'.'\nThere are screens on:\n" + rows + b"2 Sockets in x.\n.\n")
    fake.chmod(0o755)
    found = Screen(screenrc, {"PATH": f"{world.home}:{os.environ['PATH']}"}).sessions()
    assert found == {"a": 7, "\ufffd": 8}


def test_settings_of_the_user_the_machine_and_an_outer_session_do_no_harm(world: World, screenrc: Path) -> None:
    other = world.home / "other.log"
    hostile = f"zombie kr\ndeflog off\nlogfile {shlex.quote(str(other))}\nlogtstamp on\nshell /bin/false\n"
    for path in (world.home / ".screenrc", world.home / "machine.rc"):
        path.write_text(hostile)
    environment = {
        **world.environment,
        "SCREENRC": str(world.home / ".screenrc"),
        "SYSSCREENRC": str(world.home / "machine.rc"),
        "STY": "1.outer",
        "WINDOW": "3",
    }
    environment.pop("TERM", None)
    desk = Desk(Screen(screenrc, environment), world.root)
    gate = desk.gate()
    pid = desk.start("wq.run.a.1", "sh", "-c", f"cat {gate}; echo here")
    gate.write_text("")
    desk.wait_gone(pid)
    assert desk.log.read_text().split() == ["here"]
    assert not other.exists()
    assert world.sessions() == []


def test_sessions_that_other_people_named_do_not_hide_ours(world: World, screenrc: Path) -> None:
    desk = Desk(Screen(screenrc, world.environment), world.root)
    names = ["my work", "p(x)", "wq.run.a.1"]
    pids = {name: desk.start(name, "sleep", "1000") for name in names}
    assert desk.listed() == pids


def test_a_killed_session_is_none_and_its_socket_can_be_wiped(world: World, screenrc: Path) -> None:
    launcher = Screen(screenrc, world.environment)
    desk = Desk(launcher, world.root)
    killed, living, other = (desk.start(name, "sleep", "1000") for name in ("a", "b", "a0"))
    for pid in (killed, other):
        os.kill(pid, 9)
        desk.wait_gone(pid)
    assert desk.listed() == {"b": living}
    launcher.wipe(lambda name: name in ("a", "b"))
    assert sorted(world.sessions()) == sorted([f"{living}.b", f"{other}.a0"])


@pytest.mark.parametrize(("usable", "screendir"), [(True, False), (False, False), (False, True)])
def test_directory_fault(world: World, monkeypatch: pytest.MonkeyPatch, usable: bool, screendir: bool) -> None:
    words = "No Sockets found in /x." if usable else "Directory /run/screen must have mode 777."
    fake = world.home / "screen"
    fake.write_text(f"#!/bin/sh\necho '{words}'\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{world.home}:{os.environ['PATH']}")
    monkeypatch.delenv("SCREENDIR", raising=False)
    if screendir:
        monkeypatch.setenv("SCREENDIR", "/x")
    fault = screen.directory_fault()
    assert fault is None if usable or screendir else fault is not None and "mode 777" in fault
