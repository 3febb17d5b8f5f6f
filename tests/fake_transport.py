"""A way to a host that is a folder of this machine: commands run in it as its home, by sh and without SSH.

tests/contracts/test_transport.py holds it to what the real ways do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path

from skill.hosts.connection import Host
from skill.hosts.registry import Ssh, Worker
from skill.hosts.transport import Unreachable


class FakeTransport:
    """A host with this home. `problem`: why it cannot be entered now, None where it can."""

    through: str | None = None
    beyond: str | None = None

    def __init__(self, home: Path) -> None:
        self.home = home
        self.problem: Unreachable | None = None
        self.logins = self.commands = 0
        """How often somebody has come in, and how many commands were begun."""
        self._is_in = False
        self._open: list[FakeChannel] = []

    def host(self, name: str, tries: int = 1) -> Host:
        """This host as commands of wavequeue know it."""
        made = Host(Worker(name, ssh=Ssh("fake.invalid")), self.home.parent / "known_hosts", tries)
        made._transport = self
        return made

    def socket_path(self) -> str | None:
        return None

    def open(self, command: str, /) -> FakeChannel | Unreachable:
        if self.problem is not None:
            self._is_in = False
            return self.problem
        self.logins += not self._is_in
        self.commands += 1
        self._is_in = True
        channel = FakeChannel(command, self.home)
        self._open.append(channel)
        return channel

    def cut(self) -> None:
        """Cut the connection under all that runs."""
        self._is_in = False
        for channel in self._open:
            channel.cut()
        self._open.clear()

    def close(self) -> None:
        self._is_in = False
        for channel in self._open:
            channel.close()
        self._open.clear()


class FakeChannel:
    """A command that runs in a home."""

    def __init__(self, command: str, home: Path) -> None:
        self.status_event = threading.Event()
        self._timeout: float | None = None
        self._is_cut = False
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=home, env=environment, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self._process.wait()
        self.status_event.set()

    def settimeout(self, timeout: float | None, /) -> None:
        self._timeout = timeout

    def recv(self, nbytes: int, /) -> bytes:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], self._timeout)[0]:
            raise socket.timeout
        return os.read(self._process.stdout.fileno(), nbytes)

    def recv_stderr(self, nbytes: int, /) -> bytes:
        assert self._process.stderr is not None
        return os.read(self._process.stderr.fileno(), nbytes)

    def sendall(self, s: bytes, /) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(s)
        self._process.stdin.flush()

    def shutdown_write(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def recv_exit_status(self) -> int:
        code = self._process.wait()
        return -1 if self._is_cut or code < 0 else code

    def cut(self) -> None:
        self._is_cut = True
        self.close()

    def close(self) -> None:
        """End the command with all that it has started, as a hangup does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
