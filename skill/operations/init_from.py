"""Make the spec to start from for a training script: by its source, or, where that is asked for, by its --help."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import build_manifest
from build_manifest.scripts import find, help_text, starter
from build_manifest.scripts.options import Script
from build_manifest.scripts.starter import TO_WRITE
from queue_manager.core.excerpt import excerpt
from skill.common.errors import FailedError, UseError
from skill.common.files import read_text

__all__ = ["TO_WRITE", "Made", "spec_for"]

_PATIENCE = 120.0
"""Seconds for a script to print its --help: it may import much."""


class Made(NamedTuple):
    """A spec for a script. `options`: how many were found; `to_write`: keys whose values only its user knows; `notes`:
    what could not be read."""

    text: str
    library: str
    options: int
    to_write: tuple[str, ...]
    notes: tuple[str, ...]


def spec_for(script: str, spec: Path, *, run_help: bool = False) -> Made:
    """Make the spec of a Python script. `spec`: where it is to be written; `run_help`: run the script with --help, and
    take the options that it prints. Raises UseError and FailedError."""
    path = Path(script)
    if path.suffix != ".py":
        raise UseError(f"{script} is not a Python script (.py); only their options are read")
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UseError(f"{script} does not exist") from None
    found = _by_help(path) if run_help else _by_source(path, text)
    folder = spec.absolute().parent
    made = starter.text(found, text, os.path.relpath(path.absolute(), folder), spec.name, folder.name)
    build_manifest.build(made, spec.name)  # what we write must build, whatever the script says
    return Made(made, found.library, len(found.options), tuple(starter.to_write(made)), found.notes)


def _by_source(path: Path, text: str) -> Script:
    folder = path.absolute().parent

    def read_file(name: str) -> str | None:
        try:
            inner = (folder / name).resolve()
            return read_text(inner) if inner.is_file() else None
        except (OSError, ValueError, UseError):
            return None

    def listing(name: str) -> tuple[str, ...]:
        try:
            return tuple(sorted(one.name for one in (folder / name).iterdir()))
        except (OSError, ValueError):
            return ()

    try:
        return find.find(text, read_file, listing)
    except SyntaxError as error:
        raise UseError(f"{path}:{error.lineno or 1}: Python cannot read this: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UseError(f"{path}: Python cannot read this: {error}") from None


def _by_help(path: Path) -> Script:
    command = [shutil.which("python") or sys.executable, str(path), "--help"]
    shown = shlex.join(["python", str(path), "--help"])
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        )
    except subprocess.TimeoutExpired:
        raise FailedError(f"`{shown}` did not end within {_PATIENCE:.0f} s; leave out --run-help") from None
    except OSError as error:
        raise FailedError(f"`{shown}` cannot be run: {error.strerror}") from None
    found = help_text.read(done.stdout or done.stderr)
    if done.returncode != 0 and not found.options:
        why = excerpt(done.stderr) or "it printed nothing"
        raise FailedError(f"`{shown}` failed with exit code {done.returncode}: {why}; leave out --run-help")
    return found
