"""Store pulled files on this machine: list what exists, keep partial files, and move complete files into place.

Nothing is written through a link that leads out of the directory that files are meant for: the way to a place is
walked from directory to directory, without following links.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from queue_manager.core import transfer_protocol
from queue_manager.core.layout import RunPaths
from queue_manager.core.transfer_protocol import FILE, FOLDER, LINK, OUT, TAKE, Seen
from skill.common import files
from skill.transfer.write_rules import HEAD

if TYPE_CHECKING:
    from skill.transfer.write_gate import HostGate

MARGIN = 512 << 20
"""Bytes of the disk here that a pull leaves free."""
_STAGING = ".receiving"
_COMMIT = threading.Lock()
"""Two hosts may bring the same file: it is compared and renamed by one at a time."""
_CHUNK = 1 << 20


class HereError(Exception):
    """A file cannot be moved into place; says why."""


class Here(NamedTuple):
    """What exists of the results: the files, and names of files and directories that cannot be written."""

    files: Mapping[str, Seen]
    closed: tuple[str, ...]


class Store(NamedTuple):
    """The directories for the files of one host: `results`, and `mirror` for those of its run directory."""

    results: Path
    folder: Path

    @property
    def staging(self) -> Path:
        return self.folder / _STAGING

    def make(self) -> None:
        """Create the directories if they are missing. Raises OSError."""
        files.make_users_directory(self.results)
        for folder in (RunPaths.of(self.folder).log_dir, self.staging):
            files.make_directory(folder)

    def documents(self) -> dict[str, Seen]:
        """List what is here of the run directory."""
        found = {}
        for folder, before in ((self.folder, ""), (RunPaths.of(self.folder).log_dir, "logs/")):
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder):
                    if transfer_protocol.is_document(before + entry.name) and entry.is_file(follow_symlinks=False):
                        info = entry.stat(follow_symlinks=False)
                        found[before + entry.name] = Seen(info.st_size, max(0, info.st_mtime_ns))
        return found

    def parts(self) -> dict[str, int]:
        """List partial files of earlier pulls, with their sizes. Raises OSError."""
        return {path.name: path.stat().st_size for path in self.staging.iterdir()}

    def part(self, name: str) -> Path:
        return self.staging / name

    def drop(self, name: str) -> None:
        """Delete the partial file, unless it has been moved into place. Raises OSError."""
        (self.staging / name).unlink(missing_ok=True)

    def forget_parts(self) -> None:
        """Delete all partial files: their versions no longer exist on the host."""
        with contextlib.suppress(OSError):
            for path in self.staging.iterdir():
                path.unlink()

    def room(self) -> int:
        """Bytes that fit on the disks of both directories. Raises OSError."""
        free = min(shutil.disk_usage(path).free for path in (self.staging, self.results))
        return max(0, free - MARGIN)

    def settle_document(self, part: str, name: str, there: Seen) -> str:
        """Move a complete file of the run's directory into place, with its time on the host.

        Returns TAKE, or SAME where it is there already. Raises HereError.
        """

        def decide(here: Seen | None) -> str:
            return transfer_protocol.verdict(here, there, ours=True)

        with contextlib.suppress(OSError):
            (self.staging / part).chmod(files.PRIVATE if name == RunPaths.of(self.folder).journal.name else files.SHOWN)
        return self._put(part, self.folder, name, there, decide)

    def settle_result(self, part: str, name: str, by: int, there: Seen, gate: HostGate) -> str:
        """Move a complete result into place, with its time on the host, unless what is there now forbids it.

        `by`: index of the pattern that it was found by. Returns TAKE, or SAME or KEEP where it was not put there.
        Raises HereError.
        """
        bounded = gate.bounded(there)

        def decide(here: Seen | None) -> str:
            decided = transfer_protocol.verdict(here and gate.here(name, here), bounded, ours=False)
            if decided == TAKE:
                with (self.staging / part).open("rb") as file:
                    fault = gate.admit(name, by, there, bounded, file.read(HEAD))
                if fault is not None:
                    raise HereError(fault)
            return decided

        return self._put(part, self.results, name, bounded, decide)

    def _put(self, part: str, top: Path, name: str, seen: Seen, decide: Callable[[Seen | None], str]) -> str:
        """Apply `decide` to what is here now, while nothing else is moved into place."""
        path = self.staging / part
        try:
            os.utime(path, ns=(seen.mtime_ns, seen.mtime_ns))
            with _folder(top, name) as fd, _COMMIT:
                last = name.rpartition("/")[2]
                decided = decide(_seen(fd, last))
                if decided == TAKE:
                    _rename(path, fd, last)
                return decided
        except (OSError, OverflowError) as error:
            raise HereError(f"cannot be written here: {getattr(error, 'strerror', None) or error}") from None


def look(root: Path, patterns: Sequence[str], never: Collection[str]) -> Here:
    """List what the patterns match below `root`."""
    top = os.path.realpath(root)
    files: dict[str, Seen] = {}
    closed = []
    for name, _ in transfer_protocol.find(patterns, scan(top), never):
        try:
            info = os.lstat(os.path.join(top, name))
        except OSError:
            continue
        if stat.S_ISREG(info.st_mode):
            files[name] = Seen(info.st_size, max(0, info.st_mtime_ns))
        else:
            closed.append(name)
    return Here(files, tuple(closed))


def scan(top: str) -> transfer_protocol.Scan:
    """Lists directories below `top`, a real path; one that cannot be listed is empty."""

    def listed(folder: str) -> Mapping[str, str]:
        with contextlib.suppress(OSError), os.scandir(os.path.join(top, folder)) as entries:
            return {entry.name: _kind(entry, top) for entry in entries}
        return {}

    return listed


def _kind(entry: os.DirEntry[str], top: str) -> str:
    if not entry.is_symlink():
        return FOLDER if entry.is_dir(follow_symlinks=False) else FILE
    path = os.path.realpath(entry.path)
    if not _is_below(path, top):
        return OUT
    return LINK if os.path.isdir(path) else FILE


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


@contextlib.contextmanager
def _folder(root: Path, name: str) -> Iterator[int]:
    """Open the directory for a file of this name; it is created if it is missing. Raises HereError, OSError."""
    top = os.path.realpath(root)
    path = os.path.realpath(os.path.join(top, os.path.dirname(name)))
    if not _is_below(path, top):
        raise HereError("is behind a link that leads out of the project here")
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in filter(None, os.path.relpath(path, top).split("/")):
            if part == ".":
                continue
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=fd)
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _seen(folder: int, name: str) -> Seen | None:
    """Look at what has this name in a directory. Raises HereError if it is not a file."""
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        raise HereError("is a directory here" if stat.S_ISDIR(info.st_mode) else "is a link or not a regular file here")
    return Seen(info.st_size, max(0, info.st_mtime_ns))


def _rename(path: Path, folder: int, name: str) -> None:
    try:
        os.rename(path, name, dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(path, folder, name)


def _copy(path: Path, folder: int, name: str) -> None:
    """Copy to a place on another disk: first beside it, under a name that the next try uses again."""
    beside = f".{path.name}.wavequeue"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    info = path.stat()
    try:
        fd = os.open(beside, flags, 0o666, dir_fd=folder)
        with path.open("rb") as source, os.fdopen(fd, "wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
            target.flush()
            os.fsync(target.fileno())
        os.utime(beside, ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=folder)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
