"""Whether a process is waiting for input on its terminal, by the real kernel and real terminals."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from queue_manager.adapters import processes, terminal_reads
from queue_manager.adapters.terminal_reads import Place, parse_place, parse_syscall
from queue_manager.core.events import Proc
from tests.e2e.runs import wait_for

PYTHON = shlex.quote(sys.executable)
ASKS = {
    "read": "read -p 'Continue? ' answer; :",
    "behind a pipe": "{ read answer; } | cat",
    "its own opening": "read answer < /dev/tty; :",
    "input": f"{PYTHON} -c 'input()'; :",
    "pdb": f"{PYTHON} -c 'breakpoint(); x = 1'; :",
}
OTHERS = {
    "a wait": "sleep 1000; :",
    "a pipe": "mkfifo gate; read answer < gate; :",
    "another input": f"{PYTHON} -c 'import sys; sys.stdin.read()' < <(sleep 1000)",
    "a lock": f"{PYTHON} -c 'import threading; threading.Event().wait()'; :",
}


class Terminal:
    """A terminal and what runs on it."""

    def __init__(self, command: str, cwd: str) -> None:
        self._ours, theirs = os.openpty()
        argv = ["setsid", "--ctty", "bash", "-c", command]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONBREAKPOINT"}
        self.process = subprocess.Popen(
            argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env={**environment, "TERM": "xterm"}
        )
        os.close(theirs)
        wait_for(lambda: self._place(self.process.pid).group == self.process.pid, say="a session of its own")
        wait_for(lambda: self._place(self.process.pid).terminal != 0, say="its terminal")

    def _place(self, pid: int) -> Place:
        return terminal_reads._place(pid) or Place("X", 0, 0, 0)

    def procs(self) -> list[Proc]:
        """All that runs on it: the shell has no job control, so that it is one group."""
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
        found = [processes.look_up(pid) for pid in pids if self._place(pid).group == self.process.pid]
        return [stat.proc for stat in found if isinstance(stat, processes.Stat)]

    def reads(self) -> bool | None:
        (leader,) = (proc for proc in self.procs() if proc.pid == self.process.pid)
        return terminal_reads.reads(self.procs(), leader)

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def run(tmp_path: os.PathLike[str]) -> Iterator[Callable[[str], Terminal]]:
    begun: list[Terminal] = []

    def start(command: str) -> Terminal:
        begun.append(Terminal(command, os.fspath(tmp_path)))
        return begun[-1]

    yield start
    for terminal in begun:
        terminal.close()


@pytest.mark.parametrize("name", ASKS)
def test_what_reads_its_terminal_is_seen(run: Callable[[str], Terminal], name: str) -> None:
    terminal = run(ASKS[name])
    # Where the kernel does not tell, and with a Python that polls its terminal, it is a maybe.
    pid = terminal.process.pid
    tells = name != "pdb" and terminal_reads._text(pid, "syscall") and platform.machine() in terminal_reads._CALLS
    wait_for(lambda: terminal.reads() in ((True,) if tells else (True, None)), say="a read of the terminal")


def test_where_the_kernel_hides_the_call_it_is_a_maybe(
    run: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = terminal_reads._text
    monkeypatch.setattr(terminal_reads, "_text", lambda pid, name: "" if name == "syscall" else text(pid, name))
    terminal = run(ASKS["read"])
    wait_for(lambda: terminal.reads() is not False, say="a sleep that may be a read")
    waits = run(OTHERS["a wait"])
    wait_for(lambda: len(waits.procs()) == 2, say="sleep")
    wait_for(lambda: waits.reads() is False, say="a sleep that is none")


@pytest.mark.parametrize("name", OTHERS)
def test_what_waits_for_something_else_reads_no_terminal(run: Callable[[str], Terminal], name: str) -> None:
    terminal = run(OTHERS[name])
    seen = {terminal.reads() for _ in range(20)}
    assert True not in seen


def test_one_that_reads_beside_the_terminal_of_the_attempt_counts_for_nothing(run: Callable[[str], Terminal]) -> None:
    asks, other = run(ASKS["read"]), run(OTHERS["a wait"])
    wait_for(lambda: asks.reads() is not False, say="a read of the terminal")
    (leader,) = (proc for proc in other.procs() if proc.pid == other.process.pid)
    assert terminal_reads.reads(asks.procs(), leader) is False
    assert terminal_reads.reads(asks.procs(), Proc(2**22 + 1, 1)) is False


@pytest.mark.parametrize(
    ("line", "machine", "call"),
    [
        ("0 0x0 0x7ffe 0x400 0x0 0x0 0x0 0x7ffe 0x7f81", "x86_64", ("read", 0)),
        ("0 0x13 0x7ffe", "x86_64", ("read", 19)),
        ("63 0x0 0x7ffe", "aarch64", ("read", 0)),
        ("270 0x1 0x7ffd63fdfe90 0x0", "x86_64", ("select", 1)),
        ("72 0x1 0x7ffd63fdfe90 0x0", "aarch64", ("select", 1)),
        ("7 0x7ffd 0x1 0xffffffff", "x86_64", ("poll", 0x7FFD)),
        ("202 0x5581 0x189", "x86_64", ("other", 0x5581)),
        ("running", "x86_64", None),
        ("-1 0x7ffc 0x7f81", "x86_64", None),
        ("", "x86_64", None),
        ("0 0x0 0x7ffe", "sparc64", None),
    ],
)
def test_parse_syscall(line: str, machine: str, call: tuple[str, int] | None) -> None:
    assert parse_syscall(line, machine) == call


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("30524 (py) x (3) S 30522 30524 30524 34816 30524 4194560 0", Place("S", 30524, 34816, 30524)),
        ("7 (sh) R 1 7 7 0 -1 0", Place("R", 7, 0, -1)),
        ("7 (sh) R 1 7", None),
        ("", None),
    ],
)
def test_parse_place(line: str, place: Place | None) -> None:
    assert parse_place(line) == place
