"""The files of one run: attempts, claims, requests and answers."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Container
from pathlib import Path

from queue_manager.adapters import claims, plain_log
from queue_manager.adapters.aside import set_aside
from queue_manager.adapters.claims import read_text
from queue_manager.adapters.files import (
    PRIVATE,
    SHOWN,
    Directory,
    append_to,
    listed,
    make_directory,
    make_fifo,
    mend,
    write_text,
    write_whole,
)
from queue_manager.adapters.processes import parent_of, parse_stat
from queue_manager.adapters.regular import read_regular
from queue_manager.core.boundary import Claim, ExitRecord, Revoked
from queue_manager.core.events import Proc
from queue_manager.core.layout import LOCAL_RUNS, AttemptPaths, RunPaths
from queue_manager.core.readings import Unreadable
from queue_manager.core.requests import Answer, Request, RequestError, decode_request, encode_answer
from queue_manager.launchers import script

BALLAST_BYTES = 1 << 18
WRITEBACK = 25.0
"""Seconds for which the kernel keeps what was written in memory alone, a little less than it does by default."""
MOST_REQUEST = 1 << 28
"""Bytes of a request: one that adds 100,000 jobs has about 50 MiB."""
_MOST_ENVIRONMENT = 500


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


class RunDir:
    """Reads and writes what lies in a run's directory. Methods raise OSError where the disk does not take it.
    `leader`: see claims."""

    def __init__(self, paths: RunPaths, leader: claims.Leader = parent_of) -> None:
        self.paths, self._leader = paths, leader
        self._known: dict[Path, tuple[int, int, int]] = {}
        self._moving = threading.Lock()
        """Held while a log gets another name, or another content."""

    def prepare(self) -> None:
        """Make what every run needs: directories, wrapper, screenrc, bell."""
        make_directory(self.paths.root)
        make_directory(self.paths.attempts)
        self.restore()
        plain_log.discard_all(self.paths.log_dir)
        for left in listed(self.paths.root, f".{self.paths.state.name}.", ".tmp"):
            left.unlink(missing_ok=True)  # of managers that were killed while they wrote
        with contextlib.suppress(OSError):  # where there are no FIFOs, the manager looks by itself
            make_fifo(self.paths.bell)
        append_to(self.paths.alerts).close()
        self.restore_ballast()

    def close_to_others(self) -> list[str]:
        """Remove write access of other users, from an earlier version or made by hand. Returns what was done, in words.

        Raises UnsafeError where that is not possible.
        """
        paths = self.paths
        # Where the state was put by hand, its directory is the user's own: a group that shares it is his wish.
        ours = paths == RunPaths.of(paths.root) and paths.root.parent.name in (LOCAL_RUNS, "runs")
        inner = (paths.log_dir, paths.inbox, paths.answer("x").parent, paths.attempts, *_listed(paths.attempts))
        directories = [Directory(paths.root, stat.S_IWOTH | (stat.S_IWGRP if ours else 0)), *map(Directory, inner)]
        private = (paths.journal, paths.lock, paths.wrapper, paths.screenrc, paths.acknowledged)
        scripts = (file for one in _listed(paths.attempts) for file in _listed(one))
        shown = (paths.state, paths.alerts, paths.manager_log, paths.summary, *_listed(paths.log_dir))
        manifest = (paths.manifest, PRIVATE if ours else 0o777 & ~(stat.S_IWGRP | stat.S_IWOTH))
        modes = [*((one, PRIVATE) for one in (*private, *scripts)), *((one, SHOWN) for one in shown)]
        return mend(directories, [manifest, *modes])

    def restore(self) -> None:
        """Make again what is ours and was removed or changed. A few calls of stat(2) where all is as it was."""
        for path in (self.paths.log_dir, self.paths.inbox, self.paths.answer("x").parent):
            if not path.is_dir():
                make_directory(path)
        for path, text in ((self.paths.wrapper, script.WRAPPER), (self.paths.screenrc, script.SCREENRC)):
            mark = _mark(path)
            if mark is None or self._known.get(path) != mark:
                if _text(path) != text:
                    if path.is_dir() and not path.is_symlink():
                        set_aside(path)
                    write_whole(path, [text.encode()], durable=False)  # made again where it is another
                self._known[path] = _mark(path) or (0, 0, 0)

    def restore_ballast(self) -> None:
        """Keep some room that can be given up when the disk is full."""
        with contextlib.suppress(OSError):
            if not self.paths.ballast.exists():
                write_whole(self.paths.ballast, [b"\0" * BALLAST_BYTES])

    def drop_ballast(self) -> None:
        with contextlib.suppress(OSError):
            self.paths.ballast.unlink()

    # -- attempts ---------------------------------------------------------------------------------------------

    def prepare_attempt(
        self, job: str, n: int, text: str, ids: Container[str], *, has_gate: bool = True
    ) -> AttemptPaths:
        """Make the directory and the script of an attempt, and move the log of the one before aside. `has_gate`: what
        the job starts inherits its gate, for which its wrapper stays.

        The log is moved before the directory is made: while there is no directory, the log is the earlier one's.
        """
        self.restore()
        paths = self.paths.attempt(job, n)
        if not paths.root.exists():
            log = self.paths.log(job)
            with self._moving:
                if log.exists() and (n > 1 or log.stat().st_size):  # an empty one may be of a session that never began
                    log.replace(self.paths.earlier_log(job, n - 1, ids))
                make_directory(paths.root)
            if has_gate:
                with contextlib.suppress(OSError):  # without it the wrapper waits for nothing
                    make_fifo(paths.gate)
        write_text(paths.script, text)
        return paths

    def revoke(self, job: str, n: int, ids: Container[str]) -> None:
        """Take an attempt's claim, unless its wrapper has it."""
        paths = self.paths.attempt(job, n)
        if not paths.root.exists():
            self.prepare_attempt(job, n, "", ids)
        claims.revoke(paths)

    def forget(self, job: str, n: int) -> None:
        """Remove an attempt's directory, once its end is in the journal. Without it no wrapper can claim it.

        The script goes first: a late wrapper that finds the claim gone already has nothing to run.
        """
        files = self.paths.attempt(job, n)
        with contextlib.suppress(OSError):
            files.script.unlink()
            for name in os.listdir(files.root):  # many times faster than rmtree, and there are only files
                os.unlink(files.root / name)
            files.root.rmdir()
        if files.root.exists():
            import shutil

            shutil.rmtree(files.root, ignore_errors=True)

    def kept_attempts(self) -> list[tuple[str, int]]:
        """Attempts whose directories are there, by number."""
        named = [path.name.rpartition("~") for path in _listed(self.paths.attempts)]
        return sorted(((job, int(n)) for job, _, n in named if n.isdigit()), key=lambda one: one[1])

    def make_log_plain(self, job: str, n: int, ids: Container[str], stop: Callable[[], bool]) -> None:
        """Take the terminal's `\\r` out of the log of an attempt that has ended; a later one may have begun."""
        aside = self.paths.earlier_log(job, n, ids)
        with self._moving:
            later = self.paths.attempt(job, n + 1).root.exists()
            log = aside if later or aside.exists() else self.paths.log(job)
        try:
            made = plain_log.make(log, self._may_be_on_disk(job, n), stop)
        except FileNotFoundError:
            return  # it wrote nothing
        if made is not None:
            with self._moving:
                if not any(map(made.replaces, (self.paths.log(job), aside))):
                    plain_log.discard(made.path)

    def _may_be_on_disk(self, job: str, n: int) -> bool:
        """Whether the kernel may have written parts of an attempt's log to disk, which a power cut is not to take."""
        try:
            return time.time() - self.paths.attempt(job, n).claim.stat().st_mtime > WRITEBACK
        except OSError:
            return True

    def claim(self, job: str, n: int) -> Claim | Revoked | Unreadable | None:
        """Who took an attempt; None if nobody has."""
        return claims.read(self.paths.attempt(job, n), self._leader)

    def has_lost_wrapper(self, files: AttemptPaths) -> bool:
        """Whether the wrapper of an attempt has come up, and its session does not live any more."""
        return claims.has_lost_wrapper(files, self._leader)

    def started(self, job: str, n: int) -> Proc | None:
        """The job's own process, once it has reported itself."""
        try:
            text, _ = read_text(self.paths.attempt(job, n).started)
        except OSError:
            return None
        found = parse_stat(text) if text.endswith("\n") else None
        return found.proc if found else None

    def recovered(self, job: str, n: int) -> int | None:
        """The exit code of what ran before the job's command, to recover; None where nothing did, or has not ended."""
        try:
            text, _ = read_text(self.paths.attempt(job, n).recovered)
            return int(text) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None

    def environment(self, job: str, n: int) -> str | None:
        """Which environment an attempt had, in words; None where its spec names none."""
        try:
            text, _ = read_text(self.paths.attempt(job, n).environment)
        except OSError:
            return None
        return text.strip().replace("\n", "; ")[:_MOST_ENVIRONMENT] or None

    def exit_record(self, job: str, n: int) -> ExitRecord | None:
        """The exit code that the wrapper left; None if there is none, or none that can be read."""
        try:
            text, at_ns = read_text(self.paths.attempt(job, n).exit)
            return ExitRecord(int(text), at_ns) if text.endswith("\n") else None
        except (OSError, ValueError):
            return None

    # -- requests -----------------------------------------------------------------------------------------------

    def requests(self) -> list[Request]:
        """The requests that lie in the inbox, oldest first; one that cannot be understood is answered at once, or
        when there is room again. The file's name has to be that of the request, or it would never be taken away."""
        found = []
        for path in self._in_inbox():
            try:
                request = decode_request(read_regular(path, MOST_REQUEST, follow=False).decode())
                if path != self.paths.request(request.id):
                    raise RequestError(f"the file of request {request.id} has to be named {request.id}.json")
                found.append(request)
            except (RequestError, UnicodeDecodeError, RecursionError) as error:
                self._refuse(path, str(error))
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ELOOP, errno.EFBIG, errno.ENXIO):
                    self._refuse(path, "a request must be a regular file of limited size")
        return found

    def _in_inbox(self) -> list[Path]:
        """The files in the inbox that may be requests, oldest first."""
        entries = []
        with contextlib.suppress(OSError), os.scandir(self.paths.inbox) as there:
            for entry in there:
                with contextlib.suppress(OSError):
                    if entry.name.endswith(".json"):
                        at = entry.stat(follow_symlinks=False).st_mtime_ns
                        entries.append((at, entry.name, self.paths.inbox / entry.name))
        return [path for _, _, path in sorted(entries)]

    def _refuse(self, path: Path, why: str) -> None:
        """Answer what is no request, once, and take it away: whatever it is, it must not hide the others."""
        with contextlib.suppress(OSError):
            if not path.is_dir() or path.is_symlink() or not self.paths.answer(path.stem).exists():
                write_whole(self.paths.answer(path.stem), [encode_answer(Answer(path.stem, False, why)).encode()])
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)

    def reply(self, answer: Answer) -> None:
        """Write the answer to a request, then take the request away."""
        write_whole(self.paths.answer(answer.id), [encode_answer(answer).encode()], durable=False)
        self.paths.request(answer.id).unlink(missing_ok=True)


def _text(path: Path) -> str | None:
    try:
        return read_text(path)[0]
    except OSError:
        return None


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is replaced or written to; None where there is none."""
    try:
        there = path.lstat()
    except OSError:
        return None
    return there.st_ino, there.st_size, there.st_mtime_ns
