"""The command run in the process of the tests, as if it had been started with a directory and an environment of its
own: an interpreter and its imports take longer than most commands do."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from skill.cli import main

_LEAVES_A_CHILD = frozenset({("run",), ("resume",), ("attach",), ("vast", "watcher")})
"""Beginnings of commands that start what outlives them, which would be a child of the tests, or that become another
program."""


class Ended(NamedTuple):
    """What came of a command."""

    returncode: int
    stdout: str
    stderr: str


def can_run(arguments: tuple[str, ...]) -> bool:
    """Whether a command does the same here as in a process of its own."""
    return not any(arguments[: len(beginning)] == beginning for beginning in _LEAVES_A_CHILD)


def run(arguments: tuple[str, ...], cwd: Path, environment: Mapping[str, str]) -> Ended:
    """Run a command to its end. An error that it does not catch is raised, with all that it has printed as a note.

    Only from the main thread, and one at a time: directory, environment and streams are the whole process's.
    """
    assert threading.current_thread() is threading.main_thread()
    out, err = _stream(), _stream()
    try:
        with _standing(cwd, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main.main(list(arguments))
    except BaseException as error:
        print(f"wavequeue {' '.join(arguments)} raised {error!r} after:", _text(out), _text(err), sep="\n")
        raise
    return Ended(code, _text(out), _text(err))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


@contextlib.contextmanager
def _standing(cwd: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """The process with another directory, environment and stdin."""
    where, variables, stdin = os.getcwd(), dict(os.environ), sys.stdin
    with open(os.devnull, encoding="utf-8") as nothing:
        os.chdir(cwd)
        _set(environment)
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin
            _set(variables)
            os.chdir(where)


def _set(environment: Mapping[str, str]) -> None:
    """Make the environment this one, name by name: other threads may read it meanwhile."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
