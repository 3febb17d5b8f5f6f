"""Run a program to its end, and end everything that it started. Owns the processes of agents and checks.

A program gets a process group of its own and a mark in its environment, which its children inherit. Whatever is left of
the group or bears the mark is killed when the program has ended, its time is over, or the loop stops.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, NamedTuple

MARK = "WQ_CALL"
"""The variable that marks a program and its children."""
MOST_OUTPUT = 16 << 20
"""Bytes of output that are kept: the last ones."""
_LOOK = 0.05
_GRACE = 0.5
"""Seconds from SIGTERM to SIGKILL."""
_DRAIN = 1.0
"""Seconds to read what is left in a pipe once all that wrote to it should be gone."""


class Ended(NamedTuple):
    """How a program ended. `code`: its exit code, negative for a signal; `how`: by itself, or because its time was over
    or the loop stopped."""

    code: int
    how: Literal["exit", "timeout", "stopped"]
    output: str
    errors: str
    seconds: float


def run(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    mark: str,
    timeout: float,
    stop: threading.Event,
    stdin: Path | None = None,
) -> Ended:
    """Run a program. Raises OSError where it cannot be started."""
    started = time.monotonic()
    with stdin.open("rb") if stdin else open(os.devnull, "rb") as given:
        child = subprocess.Popen(
            command,
            cwd=cwd,
            env={**environment, MARK: mark},
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    assert child.stdout is not None
    assert child.stderr is not None
    how: Literal["exit", "timeout", "stopped"] = "exit"
    with _Pipes(child.stdout, child.stderr) as pipes:
        try:
            while not _has_ended(child.pid):
                if stop.is_set():
                    how = "stopped"
                    break
                if time.monotonic() - started > timeout:
                    how = "timeout"
                    break
                pipes.read(_LOOK)
        finally:  # also where we are interrupted
            _end(child.pid, mark, gently=how != "exit")
            child.wait()
        until = time.monotonic() + _DRAIN
        while pipes.are_open and time.monotonic() < until:
            pipes.read(_LOOK)
        return Ended(child.returncode, how, pipes.text(0), pipes.text(1), time.monotonic() - started)


def kill_marked(beginning: str) -> None:
    """Kill all processes of ours whose mark begins so: what is left of a loop that was killed."""
    for _ in range(20):
        found = list(_marked(beginning))
        if not found:
            return
        for pid in found:
            _signal(pid, signal.SIGKILL)
        time.sleep(0.01)


def _end(leader: int, mark: str, *, gently: bool) -> None:
    """End the group of a child that has not been waited for, so that its number is still its own, and all with its
    mark."""
    if gently:
        for pid in {-leader, *_marked(mark)}:
            _signal(pid, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        while time.monotonic() < until and not _has_ended(leader):
            time.sleep(0.01)
    _signal(-leader, signal.SIGKILL)
    kill_marked(mark)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it stays a zombie, so that no other process gets its number."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _marked(beginning: str) -> Iterator[int]:
    """Processes of ours with such a mark, on a system that has /proc; zombies have none."""
    wanted = f"\0{MARK}={beginning}".encode()
    with contextlib.suppress(OSError):
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb", buffering=0) as file:
                    if wanted in b"\0" + file.read():
                        yield int(entry)


class _Pipes:
    """What a program writes to stdout and stderr."""

    def __init__(self, *pipes: IO[bytes]) -> None:
        self._pipes = pipes
        self._kept = [bytearray() for _ in pipes]
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Pipes:
        for number, pipe in enumerate(self._pipes):
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, number)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for pipe in self._pipes:
            pipe.close()

    @property
    def are_open(self) -> bool:
        return bool(self._selector.get_map())

    def read(self, wait: float) -> None:
        """Take what comes within so many seconds."""
        if not self.are_open:
            time.sleep(wait)
            return
        for key, _ in self._selector.select(wait):
            try:
                data = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            kept = self._kept[key.data]
            kept += data
            if not data:
                self._selector.unregister(key.fileobj)
            elif len(kept) > 2 * MOST_OUTPUT:
                del kept[:-MOST_OUTPUT]

    def text(self, number: int) -> str:
        return bytes(self._kept[number][-MOST_OUTPUT:]).decode(errors="replace")
