"""`python -m queue_manager.remote.send`: send what a run wrote to the machine that pulls. The request is on stdin.

Nothing is sent from outside the root of the results and the run's directory, whatever a link says. The state, the
journal and the summary are opened before the results are looked for and sent after them: what is home of the state
never tells of a result that was not looked for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from queue_manager.adapters import host_place
from queue_manager.core import transfer_protocol
from queue_manager.core.layout import RunPaths, id_fault
from queue_manager.core.transfer_protocol import HOST, RESULTS, Request, Seen

_CHUNK = 1 << 20
_OUT = "is a link that leads out of the run's directory"
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


class _Refused(Exception):
    """A file that is not sent, and why."""


class _Found(NamedTuple):
    """A file to be looked at, below `root`. `by`: index of the pattern it was found by. `grows`: it is only ever
    appended to."""

    place: str
    name: str
    root: str
    by: int | None = None
    grows: bool = False


class _Opened(NamedTuple):
    """A file descriptor, and what the file was like when it was opened."""

    fd: int
    seen: Seen


class _Sender:
    """One answer. Raises BrokenPipeError once nobody listens."""

    def __init__(self, request: Request, out: IO[bytes]) -> None:
        self._request, self._out = request, out
        self._room = request.room
        self._closed = frozenset(request.closed)
        self._same = 0

    def say(self, **fields: Any) -> None:
        self._out.write(json.dumps(fields).encode() + b"\n")

    def end(self) -> None:
        self.say(end=True, same=self._same)
        self._out.flush()

    def consider(self, found: _Found, opened: _Opened | None = None) -> None:
        """Send a file if it is wanted. `opened`: it is open already, and closed here."""
        if found.place == RESULTS and self._is_closed(found.name):
            self.say(skip=found.name, closed=True)
            return
        try:
            fault = transfer_protocol.name_fault(found.name)
            if fault is not None:
                raise _Refused(fault)
            opened = _open(found) if opened is None else opened
        except (_Refused, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.say(skip=found.name, why=reason)
            return
        try:
            self._send(found, opened)
        finally:
            os.close(opened.fd)

    def _is_closed(self, name: str) -> bool:
        parts = name.split("/")
        return bool(self._closed) and any("/".join(parts[: n + 1]) in self._closed for n in range(len(parts)))

    def _send(self, found: _Found, opened: _Opened) -> None:
        fd, there = opened
        have = self._request.have.get(found.place, {}).get(found.name)
        decided = transfer_protocol.verdict(have, there, ours=found.place == HOST)
        if decided == transfer_protocol.SAME:
            self._same += 1
            return
        if decided == transfer_protocol.KEEP:
            self.say(keep=found.name)
            return
        begin = self._request.parts.get(transfer_protocol.part_name(found.place, found.name, there), 0)
        begin = begin if 0 < begin <= there.size else 0
        if there.size - begin > self._room:
            self.say(skip=found.name, size=there.size)
            return
        self._room -= there.size - begin
        self.say(file=found.name, place=found.place, by=found.by, size=there.size, mtime_ns=there.mtime_ns, begin=begin)
        digest, fault = self._copy(fd, begin, there.size)
        after = _seen(fd)
        if fault is None and after != there and not (found.grows and after.size >= there.size):
            fault = "changed"
        self.say(sha256=digest, fault=fault)

    def _copy(self, fd: int, begin: int, size: int) -> tuple[str, str | None]:
        """Write the bytes from `begin` on, just as many as were announced; the hash is over the whole file."""
        digest = hashlib.sha256()
        at = 0
        fault: str | None = None
        while at < size:
            # What is there already is only hashed, up to its very end.
            most = min(_CHUNK, (begin if at < begin else size) - at)
            data = b""
            if fault is None:
                try:
                    data = os.read(fd, most)
                    fault = None if data else "changed"
                except OSError as error:
                    fault = error.strerror
            data = data or b"\0" * most
            digest.update(data)
            if at >= begin:
                self._out.write(data)
            at += len(data)
        return digest.hexdigest(), fault


def _seen(fd: int) -> Seen:
    info = os.fstat(fd)
    return Seen(info.st_size, max(0, info.st_mtime_ns))


def _open(found: _Found) -> _Opened:
    """Open a file that lies below its root once all links are followed. Raises _Refused and OSError."""
    path = os.path.realpath(os.path.join(found.root, found.name))
    if not _is_below(path, found.root):
        raise _Refused(_OUT)
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _Refused("is not a regular file")
    return _Opened(fd, _seen(fd))


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _scan(root: str, denied: Callable[[str, str], None]) -> transfer_protocol.Scan:
    """Lists directories below `root`, a real path. `denied` is called with one that cannot be listed, and why."""

    def scan(folder: str) -> Mapping[str, str]:
        found = {}
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    found[entry.name] = _kind(entry, root)
        except OSError as error:
            if error.errno not in _GONE:
                denied(folder, error.strerror or str(error))
        return found

    return scan


def _kind(entry: os.DirEntry[str], root: str) -> str:
    if not entry.is_symlink():
        return transfer_protocol.FOLDER if entry.is_dir(follow_symlinks=False) else transfer_protocol.FILE
    path = os.path.realpath(entry.path)
    if not _is_below(path, root):
        return transfer_protocol.OUT
    return transfer_protocol.LINK if os.path.isdir(path) else transfer_protocol.FILE


def _logs(paths: RunPaths, root: str) -> list[_Found]:
    with contextlib.suppress(OSError):
        names = [f"{paths.log_dir.name}/{name}" for name in sorted(os.listdir(paths.log_dir))]
        return [_Found(HOST, name, root, grows=True) for name in names if transfer_protocol.is_document(name)]
    return []


def _documents(paths: RunPaths, root: str) -> list[_Found]:
    growing = (paths.alerts, paths.manager_log, paths.journal)
    whole = (paths.summary, paths.state)
    return [
        *(_Found(HOST, path.name, root, grows=True) for path in growing),
        *(_Found(HOST, path.name, root) for path in whole),
    ]


def answer(request: Request, home: Path, out: IO[bytes]) -> None:
    """Answer a request. Raises BrokenPipeError if whoever asked has gone."""
    sender = _Sender(request, out)
    out.write(transfer_protocol.greeting(request.nonce))
    if id_fault(request.run_id) is not None:
        sender.say(fault="no run")
        return
    paths = RunPaths.of(host_place.of_run(host_place.of(home), request.run_id).runs / request.run_id)
    if not paths.root.is_dir():
        sender.say(fault="no run")
        return
    root = os.path.realpath(paths.root)
    opened: list[tuple[_Found, _Opened]] = []
    for found in _documents(paths, root):
        try:
            opened.append((found, _open(found)))
        except FileNotFoundError:
            continue  # nothing has been written yet
        except (_Refused, OSError):
            sender.consider(found)  # says why
    results = os.path.realpath(home / request.root)
    scan = _scan(results, lambda folder, why: sender.say(skip=folder or ".", why=why))
    for name, by in transfer_protocol.find(request.patterns, scan, request.never):
        if request.asks_for(name, by):
            sender.consider(_Found(RESULTS, name, results, by))
        elif not any(transfer_protocol.asked_for(pattern, name) for pattern in request.but):
            sender.say(skip=name, why=_OUT)
    for found in _logs(paths, root):
        sender.consider(found)
    for found, one in opened:
        sender.consider(found, one)
    sender.end()


def main() -> int:
    """Read a request on stdin and answer it on stdout. Returns 2 if it is none."""
    try:
        request = transfer_protocol.decode(sys.stdin.buffer.read())
    except (ValueError, TypeError, KeyError) as error:
        print(f"wavequeue: not a valid request: {error}", file=sys.stderr)
        return 2
    try:
        answer(request, Path.home(), sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
