"""What a launcher promises, over each of the table; and what only screen can get wrong."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from queue_manager.adapters import processes
from queue_manager.adapters.processes import Stat
from queue_manager.core.launchers import LAUNCHERS, OF_SPECS
from queue_manager.core.layout import RunPaths
from queue_manager.core.readings import Unreadable
from queue_manager.launchers import screen, script
from queue_manager.launchers.launcher import Launcher
from queue_manager.launchers.process import Process
from queue_manager.launchers.screen import Screen, parse_sessions
from queue_manager.launchers.table import MAKE
from tests.e2e.runs import PATIENCE, ROOT, World, wait_for

CASES = sorted((Path(__file__).resolve().parents[1] / "data" / "screen").glob("*.json"))


class Desk:
    """A launcher with a place for logs and gates. Its sessions have names that no other test's have."""

    def __init__(self, launcher: Launcher, root: Path) -> None:
        self.launcher, self.root = launcher, root
        self.log = root / "job.log"
        self._prefix = f"wq.{root.parent.name[-8:]}{os.getpid()}."
        self._begun: list[subprocess.Popen[bytes]] = []

    def name(self, session: str) -> str:
        return self._prefix + session

    def start(self, session: str, *argv: str, log: Path | None = None) -> int:
        """Start a session, and wait until it is listed; its process id."""
        begun = self.launcher.start(self.name(session), argv, log or self.log, self.root / "complaint")
        self._begun.append(begun)

        def pid() -> int | None:
            assert not begun.poll(), (self.root / "complaint").read_text()
            return self.listed().get(session)

        found: int = wait_for(pid, say=f"{session} to be listed")
        return found

    def listed(self) -> dict[str, int]:
        sessions = self.launcher.sessions()
        assert not isinstance(sessions, Unreadable), sessions.reason
        length = len(self._prefix)
        return {name[length:]: pid for name, pid in sessions.items() if name.startswith(self._prefix)}

    def close(self, pid: int, session: str) -> None:
        self.launcher.close(pid, self.name(session))

    def gate(self, name: str = "gate") -> Path:
        """A FIFO: who reads from it waits until it is opened."""
        os.mkfifo(self.root / name)
        return self.root / name

    def wait_gone(self, pid: int) -> None:
        stat = processes.look_up(pid)
        if isinstance(stat, Stat):
            wait_for(lambda: processes.alive(stat.proc) is False, say=f"the end of process {pid}")

    def reap(self) -> None:
        for pid in self.listed().values():
            os.kill(pid, signal.SIGKILL)
        for one in self._begun:
            one.wait(150)


@pytest.fixture
def screenrc(world: World) -> Path:
    path = RunPaths.of(world.root / "run").screenrc
    path.parent.mkdir()
    path.write_text(script.SCREENRC)
    return path


@pytest.fixture(params=MAKE)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def desk(kind: str, world: World, screenrc: Path) -> Iterator[Desk]:
    made = Desk(MAKE[kind](RunPaths.of(screenrc.parent), world.host, world.environment), world.root)
    yield made
    made.reap()


def test_all_that_a_spec_may_name_is_there() -> None:
    assert tuple(MAKE) == OF_SPECS


def test_output_comes_as_it_is_written(desk: Desk, kind: str) -> None:
    gate = desk.gate()
    has_begun = gate.with_name("said")
    pid = desk.start(
        "s", "sh", "-c", f"test -t 0 && test -t 1; echo $? $$; : > {has_begun}; cat {gate}; echo later >&2"
    )
    wait_for(has_begun.exists, say="the session's start")
    # Left to itself, screen would hold it back for ten seconds.
    wait_for(lambda: desk.log.exists() and desk.log.read_bytes().endswith(b"\n"), 8, say="the first line")
    no_terminal, command = map(int, desk.log.read_text().split())
    assert (no_terminal == 0) == LAUNCHERS[kind].has_terminal
    stat = processes.look_up(command)
    assert isinstance(stat, Stat)
    assert desk.launcher.leader(stat).pid == pid
    assert os.getsid(pid) == pid != os.getpid()  # it does not end with whoever started it
    gate.write_text("through\n")
    desk.wait_gone(pid)
    assert desk.log.read_text().split()[2:] == ["through", "later"]
    assert desk.listed() == {}


def test_a_session_outlives_who_began_it_and_all_its_group(desk: Desk, kind: str, screenrc: Path) -> None:
    gate, name = desk.gate(), desk.name("s")
    program = (
        "import os, signal; from pathlib import Path; from queue_manager.launchers.table import MAKE;"
        "from queue_manager.core.layout import HostPaths, RunPaths;"
        f"one = MAKE[{kind!r}](RunPaths.of(Path({str(screenrc.parent)!r})), HostPaths.of(Path.home()), os.environ);"
        f"one.start({name!r}, ['sh', '-c', 'cat {gate}; echo $PPID'], Path({str(desk.log)!r}), Path('complaint'));"
        "signal.pause()"
    )
    environment = {**desk.launcher.environment, "PYTHONPATH": str(ROOT)}
    began = subprocess.Popen([sys.executable, "-c", program], cwd=desk.root, env=environment, start_new_session=True)
    pid: int = wait_for(lambda: desk.listed().get("s"), say="the session")
    os.killpg(began.pid, signal.SIGKILL)
    assert began.wait() == -signal.SIGKILL
    gate.write_text("here\n")
    desk.wait_gone(pid)
    assert desk.log.read_text().split()[0] == "here"


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
    names = ["run.seed1.1", "run.seed1.10", "run.seed1", "un.seed1.1"]
    pids = {name: desk.start(name, "sleep", "1000") for name in names}
    assert desk.listed() == pids
    desk.close(pids["run.seed1"], "run.seed1")
    desk.wait_gone(pids["run.seed1"])
    left = {name: pid for name, pid in pids.items() if name != "run.seed1"}
    assert desk.listed() == left
    # That one has gone: asked again, nobody else may answer for it, nor for a part of a number.
    desk.close(pids["run.seed1"], "run.seed1")
    desk.close(pids["run.seed1.10"] // 10, "run.seed1.10")
    assert desk.listed() == left


def test_quit_ends_what_runs_in_the_session(desk: Desk) -> None:
    pid = desk.start("s", "sh", "-c", "echo $$; sleep 1000; :")
    job = int(wait_for(lambda: desk.log.exists() and desk.log.read_text(), say="the job"))
    desk.close(pid, "s")
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


def test_it_says_why_it_cannot_start(desk: Desk, kind: str) -> None:
    program = LAUNCHERS[kind].program or "bash"
    environment = {**desk.launcher.environment, "PATH": str(desk.root)}
    launcher = Screen(desk.root / "rc", environment) if kind == "screen" else Process(environment)
    with pytest.raises(FileNotFoundError) as error:
        launcher.start(desk.name("s"), ["bash", "-c", ":"], desk.log, desk.root / "complaint")
    assert error.value.filename == program


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
    launcher.close(1, "s")
    launcher.clean_up(lambda _name: True)


def test_a_directory_that_screen_cannot_use(world: World, screenrc: Path) -> None:
    unusable = world.root / "file"
    unusable.write_text("")
    launcher = Screen(screenrc, {**os.environ, "SCREENDIR": str(unusable)})
    complaint = world.root / "complaint"
    frontend = launcher.start("s", ["sleep", "1000"], world.root / "log", complaint)
    assert frontend.wait(PATIENCE) != 0
    assert str(unusable) in complaint.read_text()
    assert isinstance(launcher.sessions(), Unreadable)


def test_a_list_that_is_no_utf8_can_be_read(world: World, screenrc: Path) -> None:
    fake = world.home / "screen"
    rows = b"\t7.a\t(d\xe9c.)\t(Detached)\n\t8.\xfc\t(Detached)\n"
    fake.write_bytes(b"#!/bin/sh\ncat <<'.'\nThere are screens on:\n" + rows + b"2 Sockets in x.\n.\n")
    fake.chmod(0o755)
    found = Screen(screenrc, {"PATH": f"{world.home}:{os.environ['PATH']}"}).sessions()
    assert found == {"a": 7, "\ufffd": 8}


def test_a_screen_that_fails_is_reported_in_its_own_words(world: World, screenrc: Path) -> None:
    fake = world.home / "screen"
    fake.write_text("#!/bin/sh\necho 'screen: libtinfo.so.6: cannot open shared object file' >&2\nexit 127\n")
    fake.chmod(0o755)
    found = Screen(screenrc, {"PATH": f"{world.home}:{os.environ['PATH']}"}).sessions()
    assert isinstance(found, Unreadable)
    assert "libtinfo.so.6: cannot open shared object file" in found.reason


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
    launcher.clean_up(lambda name: name in (desk.name("a"), desk.name("b")))
    assert sorted(world.sessions()) == sorted([f"{living}.{desk.name('b')}", f"{other}.{desk.name('a0')}"])


def test_screen_is_not_asked_for_sockets_where_none_of_ours_can_be(
    world: World, screenrc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def listed(environment: Mapping[str, str]) -> str:
        asked.append(environment.get("SCREENDIR", ""))
        return ""

    monkeypatch.setattr(screen, "_listed", listed)
    (world.screens / "7.theirs").touch()
    Screen(screenrc, world.environment).clean_up(lambda name: name == "ours")
    assert asked == []
    (world.screens / "8.ours").touch()
    Screen(screenrc, world.environment).clean_up(lambda name: name == "ours")
    elsewhere = {name: value for name, value in world.environment.items() if name != "SCREENDIR"}
    Screen(screenrc, elsewhere).clean_up(lambda name: name == "ours")
    assert asked == [str(world.screens), ""]


@pytest.mark.parametrize(("usable", "screendir"), [(True, False), (False, False), (False, True)])
def test_directory_fault(world: World, usable: bool, screendir: bool) -> None:
    words = "No Sockets found in /x." if usable else "Directory /run/screen must have mode 777."
    fake = world.home / "screen"
    fake.write_text(f"#!/bin/sh\necho '{words}'\nexit 1\n")
    fake.chmod(0o755)
    environment = {"PATH": f"{world.home}:{os.environ['PATH']}", **({"SCREENDIR": "/x"} if screendir else {})}
    fault = screen.directory_fault(environment)
    assert fault is None if usable or screendir else fault is not None and "mode 777" in fault
