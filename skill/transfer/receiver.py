"""Receive what `queue_manager.remote.send` sends. Everything from the host is checked, and a file is complete or
absent.

Each file comes into a temporary one, is hashed, and is put into its place (local_store.py) with the time it has on the
host. Killed at any moment, what has its place is whole, and what was cut off goes on from where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from queue_manager.core import transfer_protocol
from queue_manager.core.excerpt import excerpt
from queue_manager.core.terminal_text import one_line
from queue_manager.core.transfer_protocol import HOST, RESULTS, Request, Seen
from skill.hosts import remote_command
from skill.hosts.remote_command import Framed
from skill.transfer.local_store import HereError, Store
from skill.transfer.write_gate import HostGate

SILENCE = 600.0
"""Seconds without a byte after which a host is given up; a large file is hashed in silence."""
FLOOR = 64 << 10
"""Bytes that have to come in `SILENCE` seconds, or a host is given up: a pull keeps out others, and a rented machine is
billed all the while."""
_TICK = 0.2
_CHUNK = 1 << 20
_MAX_NOISE = 1 << 20
"""Bytes that a login shell may write before the answer begins."""
_SSH = 255
_NAMED = 200
"""Files that are named one by one; of more, only their number is kept."""


class Received(NamedTuple):
    """What came of one host. `size`: bytes that travelled. `same`: files that were here already. `kept`: newer here.

    `ahead`: their time there is in the future, and was made this machine's. `refused`: names and why. `later`: changed
    while they were read, taken next time. `more`: named nowhere, for there were too many. `broken`: why it ended early,
    None if it did not; `dropped`: because the connection was.
    """

    files: int = 0
    size: int = 0
    same: int = 0
    kept: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()
    later: tuple[str, ...] = ()
    more: int = 0
    broken: str | None = None
    dropped: bool = False
    ahead: tuple[str, ...] = ()


class _BrokenError(Exception):
    """The answer cannot be read any further; says why."""


_OnBytes = Callable[[int], None]


def receive(
    command: Sequence[str],
    cwd: Path,
    request: Request,
    store: Store,
    gate: HostGate,
    stop: threading.Event,
    until: float = math.inf,
    on_bytes: _OnBytes = lambda _size: None,
    sent: Framed | None = None,
) -> Received:
    """Run `command`, which answers a request on its stdin, and receive the answer. Never raises for what comes.

    `gate`: what of it may be put here. `stop`: set by another thread, it ends this within a moment. `until`: by
    time.monotonic, when it is given up. `on_bytes` is told of bytes as they come. `sent`: as what the command goes to
    another machine. Raises OSError where this machine fails.
    """
    sent = sent or Framed("", b"")
    begun = threading.Event()
    # A session of its own: Ctrl-C is ours to handle, and not the connection's.
    process = subprocess.Popen(
        command, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    asked = sent.begin + transfer_protocol.encode(request)
    threading.Thread(target=_ask, args=(process.stdin, sent, asked, begun), daemon=True).start()
    stderr = _Tail(process.stderr, sent.mark)
    stream = _Stream(process.stdout.fileno(), stop, until, sent.mark, begun)
    intake = _Intake(stream, request, store, gate, on_bytes)
    try:
        intake.run()
    except _BrokenError as error:
        intake.broken = str(error)
    finally:
        has_begun = begun.is_set()
        begun.set()
        process.stdout.close()
        _end(process)
        stderr.join()
    received = intake.result()
    if received.broken != _DROPPED:
        return received
    # Why a program died comes on stderr. 255 is what OpenSSH itself ends with.
    why, code = stderr.text, process.returncode
    if sent.begin and (code == remote_command.LOST_INPUT or not (has_begun or code == _SSH)):
        why = remote_command.silence(code, stream.unread, stderr.all)
    return received._replace(broken=why or _DROPPED, dropped=code == _SSH or code < 0)


def _ask(pipe: IO[bytes], sent: Framed, asked: bytes, begun: threading.Event) -> None:
    """Send the request once the command has begun: a login file that runs before it may read stdin."""
    with contextlib.suppress(OSError), pipe:  # it may end before it has read all of it
        pipe.write(sent.early)
        pipe.flush()
        if not sent.begin or begun.wait(remote_command.BEGIN):
            pipe.write(asked)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)
        return
    process.kill()
    process.wait()


_TAIL = 1 << 12
"""Bytes that are kept of what a program says, at its begin and at its end."""


class _Tail(threading.Thread):
    """Keep the first and last lines of stderr, so that it cannot fill the memory."""

    def __init__(self, pipe: IO[bytes], mark: bytes) -> None:
        super().__init__(daemon=True)
        self._pipe, self._mark, self._stderr = pipe, mark, b""
        self.start()

    def run(self) -> None:
        with self._pipe, contextlib.suppress(OSError):
            while data := os.read(self._pipe.fileno(), 4096):
                self._stderr += data
                if len(self._stderr) > 2 * _TAIL:
                    self._stderr = self._stderr[:_TAIL] + b"\n" + self._stderr[1 - _TAIL :]

    @property
    def all(self) -> bytes:
        return self._stderr

    @property
    def text(self) -> str:
        ours = self._stderr.split(self._mark, 1)[-1] if self._mark else self._stderr
        return excerpt(ours.decode(errors="replace"))

    def join(self, timeout: float | None = 1.0) -> None:
        super().join(timeout)


class _Stream:
    """Bytes of a pipe, read as lines or by count. Raises _BrokenError at its end, after a silence and when told to
    stop.

    `begun` is set once the mark has come.
    """

    def __init__(
        self,
        fd: int,
        stop: threading.Event,
        until: float = math.inf,
        mark: bytes = b"",
        begun: threading.Event | None = None,
    ) -> None:
        self._fd, self._stop, self._until = fd, stop, until
        self._mark, self._begun = mark, begun or threading.Event()
        self._since, self._came = time.monotonic(), 0
        self._buffer = bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def skip_to(self, greeting: bytes) -> None:
        """Skip everything before the greeting, and the greeting itself."""
        while (at := self._buffer.find(greeting)) < 0:
            if self._mark in self._buffer:
                self._begun.set()
            if len(self._buffer) > _MAX_NOISE:
                raise _BrokenError("it sends something other than it was asked for")
            self._more()
        self._begun.set()
        del self._buffer[: at + len(greeting)]

    @property
    def unread(self) -> bytes:
        return bytes(self._buffer)

    def line(self) -> bytes:
        searched = 0
        while (at := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > transfer_protocol.MAX_LINE:
                raise _BrokenError("it sends an endless line")
            self._more()
        line = bytes(self._buffer[:at])
        del self._buffer[: at + 1]
        return line

    def take(self, most: int) -> bytes:
        """Read at least one byte, and at most this many."""
        if not self._buffer:
            self._more()
        data = bytes(self._buffer[:most])
        del self._buffer[:most]
        return data

    def _more(self) -> None:
        while True:
            if self._stop.is_set():
                raise _BrokenError("interrupted by Ctrl-C")
            if self._poll.poll(_TICK * 1000):
                break
            self._check_pace()
        self._check_pace()
        data = os.read(self._fd, _CHUNK)
        if not data:
            raise _BrokenError(_DROPPED)
        self._buffer += data
        self._came += len(data)
        if self._came >= FLOOR:
            self._since, self._came = time.monotonic(), 0

    def _check_pace(self) -> None:
        """Raise _BrokenError if less than `FLOOR` bytes came in the last `SILENCE` seconds, or the time is over."""
        if time.monotonic() > self._until:
            raise _BrokenError("it took too long; what was received is kept, and the next pull continues from there")
        if time.monotonic() - self._since <= SILENCE:
            return
        if not self._came:
            raise _BrokenError(f"nothing was received for {SILENCE:.0f} s")
        raise _BrokenError(
            f"only {self._came} bytes were received in {SILENCE:.0f} s, less than the required {FLOOR >> 10} KiB"
        )


class _Intake:
    """Receive one answer."""

    def __init__(self, stream: _Stream, request: Request, store: Store, gate: HostGate, on_bytes: _OnBytes) -> None:
        self._stream, self._request, self._store, self._on_bytes = stream, request, store, on_bytes
        self._gate = gate
        self._room = request.room
        self._lines = self._more = 0
        self._files = self._size = self._same = 0
        self._kept: list[str] = []
        self._later: list[str] = []
        self._refused: list[tuple[str, str]] = []
        self.broken: str | None = None

    def result(self) -> Received:
        return Received(
            self._files, self._size, self._same, tuple(self._kept), tuple(self._refused), tuple(self._later),
            self._more, self.broken, ahead=tuple(map(shown, self._gate.ahead[:_NAMED])),
        )  # fmt: skip

    def run(self) -> None:
        self._stream.skip_to(transfer_protocol.greeting(self._request.nonce))
        while True:
            row = self._row()
            if "file" in row:
                self._file(row)
            elif "skip" in row:
                name = _text(row, "skip")
                self._refuse(name, self._gate.kept_out.get(name) or _why(row))
            elif "keep" in row:
                self._note(self._kept, _text(row, "keep"))
            elif "fault" in row:
                raise _BrokenError(FAULTS.get(_text(row, "fault"), "it refuses"))
            elif "end" in row:
                self._same += min(_count(row, "same"), transfer_protocol.MAX_FILES)
                self._store.forget_parts()
                return
            else:
                raise _BrokenError(_NO_FILES)

    def _row(self) -> dict[str, Any]:
        self._lines += 1
        if self._lines > 2 * transfer_protocol.MAX_FILES:
            raise _BrokenError(f"it lists more than {transfer_protocol.MAX_FILES} files")
        try:
            row = json.loads(self._stream.line())
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise _BrokenError(_NO_FILES)
        return row

    def _file(self, row: Mapping[str, Any]) -> None:
        """Receive one file."""
        name, place = _text(row, "file"), _text(row, "place")
        there, begin = Seen(_count(row, "size"), _count(row, "mtime_ns")), _count(row, "begin")
        part = transfer_protocol.part_name(place, name, there)
        expected = there.size - begin
        self._room -= expected
        if expected < 0 or self._room < 0 or begin > self._request.parts.get(part, 0):
            raise _BrokenError("it sends more than was agreed")
        # Our own end leaves out what has such a name, so whoever sends it is not it.
        fault = transfer_protocol.name_fault(name)
        if fault is not None:
            raise _BrokenError(f"a file that it sends {fault}")
        by: Any = row.get("by")
        if not self._wanted(place, name, by):
            raise _BrokenError("it sends a file that was not asked for")
        refused = self._gate.fault(name, by) if place == RESULTS else None
        try:
            if refused is not None:
                self._pass_over(expected)
                self._row()
                self._refuse(name, refused)
                self._gate.note_refused(name, by, there.size)
                self._store.drop(part)
                return
            if expected > self._store.room():
                raise _BrokenError(f"the disk here has no room for the {expected / (1 << 30):.1f} GiB of {shown(name)}")
            digest = self._take(self._store.part(part), begin, expected)
        except OSError as error:
            self._store.drop(part)
            raise _BrokenError(f"{shown(name)} cannot be written here: {error.strerror or error}") from None
        verdict = self._row()
        if verdict.get("fault") is not None:
            self._note(self._later, name)
        elif verdict.get("sha256") != digest:
            self._store.drop(part)
            raise _BrokenError(f"{shown(name)} was damaged on the way")
        else:
            self._settle(part, name, place, by, there)
        self._store.drop(part)

    def _pass_over(self, left: int) -> None:
        """Read this many bytes and discard them."""
        while left:
            data = self._stream.take(min(left, _CHUNK))
            left -= len(data)
            self._size += len(data)
            self._on_bytes(len(data))

    def _wanted(self, place: str, name: str, by: Any) -> bool:
        if place == RESULTS:
            return _is_count(by) and self._request.asks_for(name, by)
        return place == HOST and transfer_protocol.is_document(name)

    def _take(self, part: Path, begin: int, left: int) -> str:
        """Append this many bytes to a partial file that has `begin`; returns the hash of the whole. Raises OSError."""
        hashed = hashlib.sha256()
        with part.open("r+b" if begin else "w+b") as file:
            file.truncate(begin)
            while data := file.read(_CHUNK):
                hashed.update(data)
            while left:
                data = self._stream.take(min(left, _CHUNK))
                left -= len(data)
                hashed.update(data)
                file.write(data)
                self._size += len(data)
                self._on_bytes(len(data))
            file.flush()
            os.fsync(file.fileno())
        return hashed.hexdigest()

    def _settle(self, part: str, name: str, place: str, by: Any, there: Seen) -> None:
        """Move a verified file into place, unless the file there has become newer meanwhile."""
        try:
            if place == RESULTS:
                decided = self._store.settle_result(part, name, by, there, self._gate)
            elif (fault := self._gate.document_fault(name, self._store.part(part))) is not None:
                raise HereError(fault)
            else:
                decided = self._store.settle_document(part, name, there)
        except HereError as error:
            self._refuse(name, str(error))
            return
        if decided == transfer_protocol.KEEP:
            self._note(self._kept, name)
        elif decided == transfer_protocol.SAME:
            self._same += 1
        else:
            self._files += 1

    def _refuse(self, name: str, why: str) -> None:
        if len(self._refused) < _NAMED:
            self._refused.append((shown(name), shown(why)))
        else:
            self._more += 1

    def _note(self, names: list[str], name: str) -> None:
        if len(names) < _NAMED:
            names.append(shown(name))
        else:
            self._more += 1


FAULTS = {
    "no run": "the run no longer exists there: its directory was removed",
    "another machine": "it is not the machine that the run was submitted to; nothing was taken",
    "no runtime": "the runtime that was installed there has been removed; restore it with: wavequeue submit SPEC",
}
"""What the host's end may say instead of files."""
_DROPPED = "the connection was dropped"
_NO_FILES = "it sends something other than files"


def shown(text: str) -> str:
    """Make a text of a host safe to print: one line, without control characters."""
    return one_line(text, 300)


def _why(row: Mapping[str, Any]) -> str:
    size = row.get("size")
    if isinstance(size, int) and _is_count(size):
        return f"is larger ({size / (1 << 30):.1f} GiB) than the free disk space here"
    return "is a link here, or behind one; nothing is written there" if row.get("closed") is True else _text(row, "why")


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise _BrokenError(_NO_FILES)
    return value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _count(row: Mapping[str, Any], key: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or not _is_count(value):
        raise _BrokenError(_NO_FILES)
    return value
