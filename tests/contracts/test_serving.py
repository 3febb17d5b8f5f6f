"""Which processes only wait for others: the kernel's tables, and real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from queue_manager.adapters import serving
from queue_manager.adapters.processes import Stat, look_up
from queue_manager.core.events import Proc
from tests.e2e.runs import wait_for

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0 20 4 30 10 -1
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 4713 /tmp/tmux-0/default
0000000000000000: 00000003 00000000 00000000 0001 03 4714
"""


def test_sockets_that_listen_are_read_from_the_kernels_tables() -> None:
    assert serving.parse_tcp(TCP) == {"4711"}
    assert serving.parse_unix(UNIX) == {"4713"}
    assert serving.parse_tcp("") | serving.parse_unix("") == set()


LISTENS = "import socket; s = socket.socket({kind}); s.bind({name!r}); s.listen(); print(flush=True); s.accept()"


@pytest.fixture
def started() -> Iterator[list[Proc]]:
    """A server on TCP, one on a Unix socket, the reader of a pipe, one that sleeps, and one that waits for a child."""
    python = (sys.executable, "-c")
    commands = [
        (*python, LISTENS.format(kind="", name=("127.0.0.1", 0))),
        (*python, LISTENS.format(kind="socket.AF_UNIX", name=f"\0wavequeue-{os.getpid()}")),
        (*python, "import os; print(flush=True); os.read(0, 1)"),
        (*python, "import time; print(flush=True); time.sleep(1000)"),
        ("bash", "-c", "echo; sleep 1000; :"),
    ]
    with ExitStack() as stack:
        procs = []
        for command in commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
            stack.callback(process.communicate)
            stack.callback(lambda one: subprocess.run(["kill", "-9", "--", f"-{one.pid}"], check=False), process)
            assert process.stdout is not None
            assert process.stdout.readline() == b"\n"
            stat = look_up(process.pid)
            assert isinstance(stat, Stat)
            procs.append(stat.proc)
        yield procs


def test_servers_and_readers_are_distinguished_from_what_goes_on_by_itself(started: list[Proc]) -> None:
    *servers, reader, sleeps, waits = started
    assert serving.serving([*servers, sleeps, waits]) == set(servers)
    if serving._text(reader.pid, "syscall") or serving._text(reader.pid, "wchan").strip("0"):
        wait_for(lambda: reader in serving.serving(started), say="the reader to sleep in its read")
        assert serving.serving(started) == {*servers, reader}
