"""Read a job's output, log and preconditions from the file system."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from queue_manager.core.manifest import JobSpec, Precondition
from queue_manager.core.outputs import is_glob, pattern_matches

if TYPE_CHECKING:  # a look before a run, for which a person waits, needs only what the file system says
    from queue_manager.core.boundary import Checked, Output
    from queue_manager.core.failures import LogFinding

_DIRECTORY_ENTRIES = 10_000
COMMAND_SECONDS = 30.0


class Patterns:
    """The outputs of all jobs, to find out whether another job may have written a file."""

    def __init__(self) -> None:
        self._literal: dict[str, set[str]] = {}
        self._globs: list[tuple[str, str]] = []

    def add(self, job: str, pattern: str, cwd: str) -> None:
        if is_glob(pattern):
            self._globs.append((os.path.normpath(_below(cwd, pattern)), job))
        else:
            self._literal.setdefault(os.path.normpath(os.path.join(cwd, pattern)), set()).add(job)

    def others_match(self, job: str, path: str) -> bool:
        """Return whether a pattern of another job matches `path` (absolute)."""
        if self._literal.get(path, set()) - {job}:
            return True
        return any(other != job and pattern_matches(pattern, path) for pattern, other in self._globs)


def find_output(pattern: str, cwd: str, since_ns: int) -> Output:
    """Find a job's output: the match that changed last, and whether it did since `since_ns`.

    A file that was placed since then with the times of an older file (rsync -t, tar, wget -N, cp -p, a link) counts as
    changed. Where nothing is found because something cannot be read, `unreadable` says so.
    """
    from queue_manager.core.boundary import Output

    newest, newest_ns = None, -1
    for path in _matches(pattern, cwd):
        at = _changed_ns(path)
        if at is not None and at > newest_ns:
            newest, newest_ns = path, at
    if newest is None:
        return Output(None, False, unreadable=_unreadable(pattern, cwd))
    return Output(newest, newest_ns >= since_ns)


def _unreadable(pattern: str, cwd: str) -> str | None:
    """Return why a pattern's files cannot be seen; None where they do not exist. For a glob, its directory up to the
    first varying name is tried."""
    fixed = "/".join(itertools.takewhile(lambda name: not is_glob(name), pattern.split("/")))
    place = os.path.normpath(os.path.join(cwd, fixed or ("/" if pattern.startswith("/") else "")))
    try:
        if is_glob(pattern):
            os.listdir(place)
        else:
            os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"{place}: {error.strerror}"
    return None


def newest_output(pattern: str, cwd: str) -> int | None:
    """Return when the newest match of a pattern was last written, in ns since the epoch; None if there is none."""
    return max((at for path in _matches(pattern, cwd) if (at := _modified_ns(path)) is not None), default=None)


def fresh_outputs(pattern: str, cwd: str, since_ns: int) -> list[str]:
    """Return all matches that changed since `since_ns`, absolute and normalised."""
    return [os.path.normpath(path) for path in _matches(pattern, cwd) if (_changed_ns(path) or -1) >= since_ns]


def _matches(pattern: str, cwd: str) -> list[str]:
    """Return the paths that a pattern finds; a plain path is returned whether it exists or not."""
    return glob.glob(_below(cwd, pattern), recursive=True) if is_glob(pattern) else [os.path.join(cwd, pattern)]


def _below(cwd: str, pattern: str) -> str:
    """A glob from `cwd`, whose own name is none."""
    return os.path.join(glob.escape(cwd), pattern)


def _modified_ns(path: str) -> int | None:
    """Return when a file, or anything in a directory, was last written; None if it does not exist."""
    return _newest_ns(path, lambda status: status.st_mtime_ns)


def _changed_ns(path: str) -> int | None:
    """Return when a file, anything in a directory, or a link to it was last written or placed."""
    newest = _newest_ns(path, lambda status: max(status.st_mtime_ns, status.st_ctime_ns))
    try:
        return None if newest is None else max(newest, os.lstat(path).st_ctime_ns)
    except OSError:
        return newest


def _newest_ns(path: str, time_of: Callable[[os.stat_result], int]) -> int | None:
    try:
        newest = time_of(os.stat(path))
    except OSError:
        return None
    left = _DIRECTORY_ENTRIES
    for root, directories, files in os.walk(path):
        for name in (*directories, *files):
            with contextlib.suppress(OSError):  # a link that leads nowhere, a file that has just gone
                newest = max(newest, time_of(os.stat(os.path.join(root, name))))
            left -= 1
        if left <= 0:
            break
    return newest


def scan_log(path: Path, code: int | None) -> tuple[LogFinding | None, str]:
    """Return what a log shows of a failure, and its last line that is not a footer. `code`: the exit code, None if
    unknown."""
    from queue_manager.core import diagnosis
    from queue_manager.core.failures import LogFinding

    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - diagnosis.LOG_BYTES))
            found = diagnosis.read(file.read(diagnosis.LOG_BYTES), code)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"its log cannot be read: {error.strerror}"
    reason = found.reason
    return None if reason is None else LogFinding(reason.name, reason.line), found.last


def checked(spec: JobSpec, cwd: str, environment: Mapping[str, str], at: float) -> Checked:
    """Check a job's preconditions at `at` (epoch seconds). May take its time."""
    from queue_manager.core.boundary import Checked

    words = unmet(spec, cwd, environment)
    marks = [one.path or "" for one in spec.preconditions if one.type == "carried"]
    return Checked(words, at, awaited=words is not None and any(_carried(mark, cwd) for mark in marks))


def unmet(spec: JobSpec, cwd: str, environment: Mapping[str, str]) -> str | None:
    """Return the first precondition of a job that does not hold, in words; None if all do. May take its time."""
    return next((words for words in _unmet(spec.preconditions, cwd, environment) if words), None)


def _unmet(preconditions: Iterable[Precondition], cwd: str, environment: Mapping[str, str]) -> Iterable[str | None]:
    for one in preconditions:
        if one.type == "command":
            yield _command(one.command or "true", cwd, environment)
        elif one.type == "disk_free_gib":
            yield _disk(os.path.join(cwd, one.path or "."), one.gib or 0.0)
        elif one.type == "carried":
            yield _carried(one.path or "", cwd)
        else:
            yield _exists(one.path or "", cwd, one.type == "checkpoint_exists")


def _carried(path: str, cwd: str) -> str | None:
    return None if os.path.exists(os.path.join(cwd, os.path.expanduser(path))) else f"{path} does not exist"


def _exists(pattern: str, cwd: str, with_content: bool) -> str | None:
    says = f"{pattern} does not exist"
    for path in _matches(pattern, cwd):
        try:
            status = os.stat(path)
            if not with_content or _has_content(path, status):
                return None
            says = f"{pattern} is empty"
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            says = f"{pattern} cannot be looked at: {error.strerror}"
    return says


def _has_content(path: str, status: os.stat_result) -> bool:
    return bool(os.listdir(path)) if stat.S_ISDIR(status.st_mode) else status.st_size > 0


def _command(command: str, cwd: str, environment: Mapping[str, str]) -> str | None:
    try:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"`{command}` cannot run: {error}"
    try:
        code = process.wait(COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        # With all that it started, or every new look would leave some behind.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return f"`{command}` did not end within {COMMAND_SECONDS:g} s"
    return None if code == 0 else f"`{command}` ends with exit code {code}"


def _disk(path: str, gib: float) -> str | None:
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    try:
        room = os.statvfs(path)
    except OSError as error:
        return f"{path}: {error.strerror}"
    free = room.f_bavail * room.f_frsize / 2**30
    return None if free >= gib else f"{gib:g} GiB free at {path} are wanted"
