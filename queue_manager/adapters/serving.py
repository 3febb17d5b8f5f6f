"""Find processes that only wait for others: a server without a client, the reader of a pipe or a terminal.

What sleeps for a time, or waits for a child, continues on its own; so may anything that this cannot determine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from queue_manager.adapters import processes, terminal_reads
from queue_manager.core.events import Proc

_LISTENS = "0A"
"""State of a TCP socket in /proc/net/tcp."""
_ACCEPTS = 0x10000
"""Flag of a Unix socket in /proc/net/unix."""
_SOCKET = re.compile(r"socket:\[(\d+)\]$")
_READ_OF = re.compile(r"pipe:|/dev/(?:tty|pts/\d+)$")
_READING = re.compile(r"(?:anon_)?pipe_(?:read|wait_readable)|n_tty_read|tty_read|read_chan")


def serving(procs: Iterable[Proc]) -> set[Proc]:
    """Those of these processes that only wait for others, as far as the kernel tells."""
    found: set[Proc] = set()
    listeners: set[str] | None = None
    for proc in procs:
        sockets = {match.group(1) for name in processes.open_files(str(proc.pid)) if (match := _SOCKET.match(name))}
        if sockets and listeners is None:
            listeners = _listeners(proc.pid)
        if (listeners is not None and not listeners.isdisjoint(sockets)) or _sleeps_in_read(proc.pid):
            found.add(proc)
    return found


def parse_tcp(text: str) -> set[str]:
    """The inodes of the sockets that listen, from /proc/net/tcp or tcp6."""
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[9] for row in rows if len(row) > 9 and row[3] == _LISTENS}


def parse_unix(text: str) -> set[str]:
    """The inodes of the sockets that listen, from /proc/net/unix."""
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[6] for row in rows if len(row) > 6 and int(row[3], 16) & _ACCEPTS}


def _listeners(pid: int) -> set[str]:
    """The inodes of all sockets that listen in a process's network."""
    tcp = parse_tcp(_text(pid, "net/tcp")) | parse_tcp(_text(pid, "net/tcp6"))
    return tcp | parse_unix(_text(pid, "net/unix"))


def _sleeps_in_read(pid: int) -> bool:
    """Whether a process of one thread sleeps in a read of a pipe or a terminal."""
    fields = _text(pid, "stat").rpartition(")")[2].split()
    if len(fields) < 18 or fields[0] != "S" or fields[17] != "1":
        return False
    call = terminal_reads.parse_syscall(_text(pid, "syscall"), os.uname().machine)
    if call is None:
        return _READING.match(_text(pid, "wchan")) is not None
    kind, first = call
    try:
        return kind == "read" and _READ_OF.match(os.readlink(f"/proc/{pid}/fd/{first}")) is not None
    except OSError:
        return False


def _text(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""
