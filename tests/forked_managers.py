"""Managers as processes of their own, forked from one that has imported all that a manager does: an interpreter and its
imports take longer than most of what a manager does in a test."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NoReturn

_ROOT = Path(__file__).resolve().parents[1]
_MOST = 1 << 20
"""Bytes of one request: arguments and an environment."""


class Manager:
    """One that runs, with what tests use of subprocess.Popen."""

    def __init__(self, pid: int, ended: int, out: IO[str], err: IO[str]) -> None:
        self.pid, self._ended, self._out, self._err = pid, ended, out, err
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("queue_manager", timeout or 0.0)
            told = os.read(self._ended, 16)
            assert told, "whoever forks managers has died"
            os.close(self._ended)
            self.returncode = int(told)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def can_start(environment: Mapping[str, str]) -> bool:
    """Whether a manager in this environment is the same when it is forked: some variables count as a program begins."""
    return _early(environment) == _early(_environment())


def start(arguments: list[str], cwd: Path, environment: Mapping[str, str]) -> Manager:
    """Start a manager with these arguments, in a session of its own. Only from one thread at a time."""
    server = _server()
    ended, tells = os.pipe()
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8") for _ in range(2))  # noqa: SIM115
    request = json.dumps([arguments, str(cwd), dict(environment)]).encode("utf-8", "surrogateescape")
    socket.send_fds(server, [request], [out.fileno(), err.fileno(), tells])
    os.close(tells)
    return Manager(int(server.recv(16)), ended, out, err)


def _early(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("LD_", "PYTHON"))}


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT)}


@functools.cache
def _server() -> socket.socket:
    """Start whoever forks them; it ends with this process, or when this end is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    subprocess.Popen(
        [sys.executable, "-m", "tests.forked_managers"],
        cwd=_ROOT, env=_environment(), stdin=theirs.fileno(), start_new_session=True,
    )  # fmt: skip
    theirs.close()
    return ours


# -- whoever forks them -----------------------------------------------------------------------------------------------


def _serve(requests: socket.socket) -> None:
    """Fork a manager for each request, and tell how each has ended."""
    gc.disable()
    from queue_manager import manager  # noqa: F401

    gc.freeze()
    gc.enable()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    tell: dict[int, int] = {}
    while True:
        ready = select.select([requests.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            _tell_ends(tell)
        if requests.fileno() in ready:
            request, fds, _flags, _address = socket.recv_fds(requests, _MOST, 3)
            if not request:
                return
            out, err, tells = fds
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                requests.close()
                for fd in (woken, wakes, tells, *tell.values()):
                    os.close(fd)
                _become_manager(request, out, err)
            os.close(out)
            os.close(err)
            tell[pid] = tells
            requests.send(str(pid).encode())


def _tell_ends(tell: dict[int, int]) -> None:
    while tell:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        fd = tell.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            os.write(fd, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(fd)


def _become_manager(request: bytes, out: int, err: int) -> NoReturn:
    from queue_manager import manager

    arguments, cwd, environment = json.loads(request.decode("utf-8", "surrogateescape"))
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((nothing, out, err)):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(fd, "w"), line_buffering=True) for fd in (1, 2))
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[1:] = arguments
    sys.exit(manager.main())


if __name__ == "__main__":
    _serve(socket.socket(fileno=0))
