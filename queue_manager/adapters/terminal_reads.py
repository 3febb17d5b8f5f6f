"""Whether a job is waiting for input on its terminal: what is in the foreground there sleeps in a read of it.

The kernel says what call a process sleeps in (/proc/PID/syscall), or, where that may not be read, as under Yama, in
which of its functions (/proc/PID/wchan), which a read of a terminal shares with some others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.events import Proc


class _Calls(NamedTuple):
    """Numbers of system calls: that read, that wait for the first N descriptors, that wait for a list of them."""

    read: frozenset[int]
    select: frozenset[int]
    poll: frozenset[int]


_GENERIC = _Calls(frozenset({63, 65}), frozenset({72}), frozenset({22, 73, 441}))
_CALLS = {
    "x86_64": _Calls(frozenset({0, 19}), frozenset({23, 270}), frozenset({7, 232, 271, 281, 441})),
    "aarch64": _GENERIC,
    "riscv64": _GENERIC,
}
_READING = re.compile(r"n_tty_read|tty_read|read_chan")
_MAYBE = re.compile(r"0?$|wait_woken|poll_schedule_timeout|do_select|do_sys_poll|do_poll|ep_poll|do_epoll_wait")
_TERMINAL = re.compile(r"/dev/(?:tty|pts/\d+)$")
_OWN = "/dev/tty"


class Place(NamedTuple):
    """Where a process stands, from /proc/PID/stat: its state, its group, its terminal (0: none), and the group that is
    in the foreground there."""

    state: str
    group: int
    terminal: int
    foreground: int


def parse_place(line: str) -> Place | None:
    """Read a line of /proc/PID/stat; None if it is cut off."""
    fields = line[line.rfind(")") + 1 :].split()
    try:
        return Place(fields[0], int(fields[2]), int(fields[4]), int(fields[5]))
    except (IndexError, ValueError):
        return None


def parse_syscall(line: str, machine: str) -> tuple[str, int] | None:
    """Read /proc/PID/syscall: `read`, `select`, `poll` or `other`, and the first argument. None if it does not say what
    the process sleeps in, or the machine's calls are not known."""
    calls, fields = _CALLS.get(machine), line.split()
    try:
        number, first = int(fields[0]), int(fields[1], 16)
    except (IndexError, ValueError):
        return None
    if calls is None or number < 0:
        return None
    kinds = (("read", calls.read), ("select", calls.select), ("poll", calls.poll))
    return next((kind for kind, numbers in kinds if number in numbers), "other"), first


def reads(procs: Iterable[Proc], leader: Proc) -> bool | None:
    """Whether one of these processes sleeps in a read of the terminal that `leader` is on; None where one may, and the
    kernel does not tell."""
    home = _place(leader.pid)
    if home is None or home.terminal == 0:
        return False
    found: bool | None = False
    for proc in procs:
        place = _place(proc.pid)
        if place is None or place.state != "S" or place.terminal != home.terminal or place.group != place.foreground:
            continue
        one = _sleeps_in_read(proc.pid)
        if one:
            return True
        found = None if one is None else found
    return found


def _sleeps_in_read(pid: int) -> bool | None:
    call = parse_syscall(_text(pid, "syscall"), os.uname().machine)
    if call is not None:
        kind, first = call
        if kind == "read":
            return _is_terminal(pid, first)
        if kind == "select" and first == 1:  # for nothing but its standard input, as readline does
            return _is_terminal(pid, 0)
        return None if kind != "other" and _has_terminal(pid) else False
    wchan = _text(pid, "wchan")
    if _READING.match(wchan):
        return True
    return None if _MAYBE.match(wchan) and _has_terminal(pid) else False


def _has_terminal(pid: int) -> bool:
    """Whether a process could read the terminal: as its standard input, or because it opened it."""
    if _is_terminal(pid, 0):
        return True
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_link(pid, name) == _OWN for name in names)


def _is_terminal(pid: int, fd: int) -> bool:
    return _TERMINAL.match(_link(pid, str(fd))) is not None


def _link(pid: int, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""


def _place(pid: int) -> Place | None:
    return parse_place(_text(pid, "stat"))


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
