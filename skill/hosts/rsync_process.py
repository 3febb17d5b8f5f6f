"""Run rsync, and follow how much it has sent."""

from __future__ import annotations

import functools
import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence

Report = Callable[[int], None]
"""Receives how many bytes have been sent so far."""
_SENT = re.compile(rb"([0-9]+)\s+[0-9]+%")
_VERSION = re.compile(r"version (\d+)\.(\d+)")
_TELLS = (3, 1)
"""The version since which rsync tells how much of everything it has sent."""
_CHUNK = 65536


def ignore(sent: int) -> None:
    """Report nothing."""


def run(
    command: Sequence[str], names: bytes, timeout: float, report: Report = ignore
) -> subprocess.CompletedProcess[bytes]:
    """Run an rsync that reads the files to send on stdin. `report` is called while it sends.

    Raises FileNotFoundError, and subprocess.TimeoutExpired where it has not ended in `timeout` seconds.
    """
    if report is not ignore and tells_progress():
        command = [command[0], "--info=progress2", *command[1:]]
    with tempfile.TemporaryFile() as listed, tempfile.TemporaryFile() as errors:
        listed.write(names)
        listed.seek(0)
        process = subprocess.Popen(
            command, stdin=listed, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, "LC_ALL": "C"}
        )
        try:
            out = _followed(process, time.monotonic() + timeout, report)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if out is None:
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(command, timeout)
        errors.seek(0)
        return subprocess.CompletedProcess(command, process.wait(), out, errors.read())


def _followed(process: subprocess.Popen[bytes], until: float, report: Report) -> bytes | None:
    """Return what a process prints until it closes its output; None if that takes too long."""
    assert process.stdout is not None
    with process.stdout as stream:
        out = b""
        while True:
            left = until - time.monotonic()
            if left <= 0 or not select.select([stream], [], [], left)[0]:
                return None
            chunk = os.read(stream.fileno(), _CHUNK)
            if not chunk:
                return out
            out += chunk
            *lines, out = out.rpartition(b"\r")  # each line of progress takes the place of the one before
            found = _SENT.search(out) or _SENT.search(lines[0].rpartition(b"\r")[2])
            if found:
                report(int(found[1]))


@functools.lru_cache(maxsize=1)
def tells_progress() -> bool:
    """Tell whether this machine's rsync can show how much it has sent."""
    try:
        done = subprocess.run(["rsync", "--version"], capture_output=True, text=True, errors="replace")
    except OSError:
        return False
    found = _VERSION.search(done.stdout)
    return found is not None and (int(found[1]), int(found[2])) >= _TELLS
