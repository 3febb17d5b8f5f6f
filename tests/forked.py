"""Managers and commands as processes of their own, forked from one that has imported all that they do: an interpreter
and its imports take longer than most of what they do in a test. See `start`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("queue_manager", "skill", "tests.impatient", "tests.nvml_reader")
"""What `python -m` is given to start a manager, a command, or what reads GPUs as a manager does."""
_ENVIRONMENT = dict(os.environ)
"""That of the tests: while one runs, it may have a home of its own, and what has that home is killed at its end."""
_FOUND = ("PYTHONPATH", str(ROOT))
"""Where whoever forks finds all modules."""
_LATER = (
    "hashlib", "encodings.ascii", "queue_manager.__main__", "queue_manager.core.diagnosis", "queue_manager.core.eta",
    "queue_manager.slurm.engine", "queue_manager.adapters.nvml",
)  # fmt: skip
"""What a manager imports once it needs it."""
_MOST = 1 << 20
"""Bytes of one request: arguments and an environment."""


class Forked:
    """One that runs, with what tests use of subprocess.Popen[str]."""

    def __init__(self, pid: int, ended: socket.socket, out: int, err: int) -> None:
        self.pid, self._ended = pid, ended
        self.stdout, self.stderr = open(out, encoding="utf-8"), open(err, encoding="utf-8")  # noqa: SIM115
        self._got = {self.stdout: b"", self.stderr: b""}
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            status = self._ended.recv(16)
            assert status, "whoever forks has died"
            self._ended.shutdown(socket.SHUT_WR)
            self._ended.recv(1)  # once its process is no longer there
            self._ended.close()
            self.returncode = int(status)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has printed, once all that have its stdout and stderr have ended."""
        until = None if timeout is None else time.monotonic() + timeout
        open_ones = [stream for stream in self._got if not stream.closed]
        while open_ones:
            left = None if until is None else max(0.0, until - time.monotonic())
            ready = select.select(open_ones, [], [], left)[0]
            if not ready:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            for stream in ready:
                data = os.read(stream.fileno(), 1 << 16)
                self._got[stream] += data
                if not data:
                    stream.close()
                    open_ones.remove(stream)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        out, err = (data.decode() for data in self._got.values())
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def start(module: str, arguments: list[str], cwd: Path, environment: Mapping[str, str]) -> Forked:
    """Start one of MODULES with these arguments, in a session of its own. Only from one thread at a time.

    It is as `python -m MODULE ARGUMENTS` would start it, but for what the kernel shows of it: its command line and its
    environment in /proc are those of whoever forks.
    """
    early = tuple(item for item in environment.items() if item[0].startswith(("LD_", "PYTHON")) and item != _FOUND)
    server = _server("skill" if module == "skill" else "queue_manager", early)
    ended, tells = socket.socketpair()
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    request = json.dumps([module, arguments, str(cwd), dict(environment)]).encode()
    socket.send_fds(server, [request], [to_out, to_err, tells.fileno()])
    os.close(to_out)
    os.close(to_err)
    tells.close()
    return Forked(int(server.recv(16)), ended, out, err)


@functools.cache
def _server(module: str, early: tuple[tuple[str, str], ...]) -> socket.socket:
    """Start whoever forks a program; it ends with this process, or when this end is closed. `early`: the variables that
    count as a program begins, which have to be the same."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    subprocess.Popen(
        [sys.executable, "-m", "tests.forked", module],
        cwd=ROOT, env={**_ENVIRONMENT, **dict((_FOUND, *early))},
        stdin=theirs.fileno(), stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    theirs.close()
    return ours


# -- whoever forks them -----------------------------------------------------------------------------------------------


def _serve(module: str, requests: socket.socket) -> None:
    """Fork a program for each request, and tell how each has ended."""
    gc.disable()
    _import_all(module)
    gc.freeze()
    gc.enable()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    waits = select.poll()
    waits.register(requests, select.POLLIN)
    waits.register(woken, select.POLLIN)
    running: dict[int, int] = {}
    ended: dict[int, int] = {}
    """Of each its pid, by the socket that tells how it has ended."""
    while True:
        for fd, _event in waits.poll():
            if fd == woken:
                os.read(woken, 4096)
                for tells in _tell_ends(running):
                    ended[tells] = running.pop(tells)
                    waits.register(tells, select.POLLIN)
            elif fd == requests.fileno():
                request, fds, _flags, _address = socket.recv_fds(requests, _MOST, 3)
                if not request:
                    return
                out, err, tells = fds
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    requests.close()
                    for other in (woken, wakes, tells, *running, *ended):
                        os.close(other)
                    _become(request, out, err)
                os.close(out)
                os.close(err)
                running[tells] = pid
                requests.send(str(pid).encode())
            else:  # whoever waited for it has been told; until then its pid is nobody else's
                waits.unregister(fd)
                os.waitpid(ended.pop(fd), 0)
                os.close(fd)


def _tell_ends(running: Mapping[int, int]) -> list[int]:
    """Tell of those that have ended how they did; their sockets."""
    sockets = []
    for fd, pid in running.items():
        found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is not None:
            code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
                os.write(fd, str(code).encode())
            sockets.append(fd)
    return sockets


def _import_all(module: str) -> None:
    if module != "skill":
        for name in ("queue_manager.manager", *_LATER):
            importlib.import_module(name)
        return
    for found in pkgutil.walk_packages([str(ROOT / "skill")], "skill."):
        if not found.name.startswith("skill.mcp"):  # whose SDK takes longer to import than all the others together
            importlib.import_module(found.name)
    for name in ("httpx", "rich.live", "rich.status", "rich.table", "ruamel.yaml.mergevalue", "encodings.idna"):
        importlib.import_module(name)  # which are imported where they are used


def _become(request: bytes, out: int, err: int) -> NoReturn:
    module, arguments, cwd, environment = json.loads(request)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, fd in enumerate((nothing, out, err)):
        os.dup2(fd, number)
        os.close(fd)
    # Those that were made for other files may have asked these whether they can seek.
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(ROOT / module.replace(".", "/") / "__main__.py"), *arguments]
    code: str | int | None
    try:
        code = importlib.import_module(f"{module}.__main__").main()
    except SystemExit as end:
        code = end.code
    _end(code)


def _end(code: str | int | None) -> NoReturn:
    """End as sys.exit(code) does, but take no module apart: that copies all memory that was shared by the fork, and
    takes longer than most commands."""
    if not isinstance(code, int):
        sys.exit(code)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        sys.exit(code)
    os._exit(code & 0xFF)


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=0))
