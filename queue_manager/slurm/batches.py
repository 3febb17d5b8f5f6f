"""The batches of a run, on disk: each is one array of Slurm, whose tasks are attempts.

A batch is whole on disk before sbatch is called, and its name is in the name of its array. So after any crash it is
known which attempts may have been submitted, and they are found in Slurm's listing without accounting.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters.files import PRIVATE, append_to, make_directory, open_file, write_text, write_whole
from queue_manager.core.layout import RunPaths, shared_name, slurm_name
from queue_manager.slurm import commands, wrapper


class Task(NamedTuple):
    """An attempt as a task of a batch runs it. `tag`: see layout.tag."""

    job: str
    n: int
    tag: str

    @property
    def attempt(self) -> str:
        """The name of the attempt's directory."""
        return f"{self.job}~{self.n}"


NOT_CALLED = -1000
"""Stands for the exit code of a sbatch that was never called: the manager ended before, or there is no sbatch."""


class Answer(NamedTuple):
    """How sbatch ended. `code` None: unknown, since the manager that called it has ended; NOT_CALLED."""

    code: int | None
    output: str
    words: str


class Batch(NamedTuple):
    """One array. `tasks`: the names of the attempts that each task runs in turn, by its index; `at`: when it was made
    (epoch seconds)."""

    name: str
    directory: Path
    tasks: tuple[tuple[str, ...], ...]
    at: float

    @property
    def attempts(self) -> list[str]:
        """The names of all attempts."""
        return [attempt for attempts in self.tasks for attempt in attempts]


class Batches:
    """The batches of one run. Methods raise OSError where the disk does not take it."""

    def __init__(self, paths: RunPaths, key: str, run_id: str) -> None:
        self._paths = paths
        self.root = paths.slurm
        self._prefix = f"{slurm_name(run_id)}{shared_name(key)[:8]}."
        for folder in (self.root, self.folder, self.claimed, self.ended):
            make_directory(folder)
        self._next = max((int(path.name) for path in self.folder.iterdir() if path.name.isdigit()), default=0) + 1

    @property
    def folder(self) -> Path:
        return self.root / "batches"

    @property
    def claimed(self) -> Path:
        """Has an empty file for each attempt that a task has begun, until the manager has seen it."""
        return self.root / "claimed"

    @property
    def ended(self) -> Path:
        """Has an empty file for each attempt whose task has left its exit record, until the manager has seen it."""
        return self.root / "ended"

    def make(self, tasks: Sequence[Sequence[Task]], now: float, script: str | None = None) -> Batch:
        """Write a batch, durably: for each of its tasks the attempts that it runs in turn. `now` in epoch seconds.
        `script`: that each task runs in place of its attempts. Nothing is submitted yet."""
        directory = self.folder / str(self._next)
        self._next += 1
        make_directory(directory)
        write_text(directory / "task.sh", script or wrapper.task_script(self._paths))
        write_text(directory / "attempt.sh", wrapper.attempt_script(self._paths))
        lines = (
            wrapper.task_line(one.attempt, one.job, one.tag, index).encode()
            for index, task in enumerate(tasks)
            for one in task
        )
        write_whole(directory / "tasks", lines)
        _sync(directory)
        _sync(self.folder)
        attempts = tuple(tuple(one.attempt for one in task) for task in tasks)
        return Batch(self._prefix + directory.name, directory, attempts, now)

    def kept(self) -> list[Batch]:
        """The batches that earlier managers have made."""
        found = []
        for directory in sorted(self.folder.iterdir()):
            with contextlib.suppress(OSError):
                path = directory / "tasks"
                attempts = wrapper.attempts_of(path.read_text(encoding="utf-8"))
                found.append(Batch(self._prefix + directory.name, directory, attempts, path.stat().st_mtime))
        return found

    def seen(self, folder: Path) -> list[str]:
        """The attempts that a folder of marks names."""
        try:
            return os.listdir(folder)
        except OSError:
            return []

    def forget(self, attempt: str) -> None:
        """Remove the marks of an attempt."""
        for folder in (self.claimed, self.ended):
            with contextlib.suppress(OSError):
                (folder / attempt).unlink()


def command(batch: Batch, options: Sequence[str]) -> list[str]:
    """Return the call of sbatch that submits a batch."""
    return commands.submit(options, batch.name, len(batch.tasks), batch.directory)


def call(batch: Batch, options: Sequence[str], environment: Mapping[str, str]) -> Answer:
    """Submit a batch, and wait for what sbatch says: at a cluster's limit on jobs it waits itself, for hours.

    It inherits a lock, by which a later manager sees that it is still at work.
    """
    argv = command(batch, options)
    with contextlib.ExitStack() as stack:
        lock = open_file(batch.directory / "lock", os.O_RDWR, PRIVATE)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = stack.enter_context(append_to(batch.directory / "sbatch.out", PRIVATE))
        err = stack.enter_context(append_to(batch.directory / "sbatch.err", PRIVATE))
        try:
            done = subprocess.run(
                argv, env=dict(environment), stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=(lock,)
            )
        except OSError as error:
            return Answer(NOT_CALLED, "", f"error: {argv[0]}: {error.strerror}")
    with contextlib.suppress(OSError):
        write_whole(batch.directory / "code", [f"{done.returncode}\n".encode()])
    return _answer(batch, done.returncode)


def answer(batch: Batch) -> Answer | None:
    """How the sbatch of an earlier manager ended; None while it is at work. The lock is there before it is called."""
    try:
        with (batch.directory / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return Answer(NOT_CALLED, "", "error: it was not called, since the manager ended")
    except OSError:
        return None
    try:
        return _answer(batch, int((batch.directory / "code").read_text()))
    except (OSError, ValueError):
        return _answer(batch, None)


def complaint(batch: Batch) -> str:
    """Return what the sbatch of a batch has said on stderr so far."""
    return _text(batch.directory / "sbatch.err")


def _answer(batch: Batch, code: int | None) -> Answer:
    return Answer(code, _text(batch.directory / "sbatch.out"), complaint(batch))


def last_line(path: Path) -> str:
    """Return the last line of a file that a task has written, without white space around; empty where there is none."""
    return next((line.strip() for line in reversed(_text(path).splitlines()) if line.strip()), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
