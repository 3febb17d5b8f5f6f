"""Identify the code in the cwd of a run at bounded cost: by git commit and changes, else by a hash of the source files.

Outputs of jobs are not code, even if git tracks them. Where it takes too long, the identity is unknown.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from queue_manager.core.excerpt import excerpt
from queue_manager.core.layout import LOCAL_RUNS

PATIENCE = 2.0
"""Seconds that one identification may take."""
FILES = "files:"
"""With which the identity of code begins that is in no repository."""
MOST_FILES = 5_000
MOST_BYTES = 16 << 20
_SOURCE = frozenset({
    ".bash", ".c", ".cc", ".cfg", ".cpp", ".cu", ".cuh", ".cxx", ".f90", ".go", ".h", ".hpp", ".ini", ".ipynb", ".java",
    ".jl", ".lua", ".m", ".pl", ".py", ".pyi", ".pyx", ".r", ".rs", ".sh", ".toml", ".zsh",
})  # fmt: skip
_NAMES = frozenset({"Makefile", "Dockerfile", "CMakeLists.txt"})
_NO_CODE = frozenset({LOCAL_RUNS, "__pycache__", "node_modules", "site-packages", "venv", "wandb", "outputs", "mlruns"})
_CHUNK = 1 << 20
_NO_REPOSITORY = ("not a git repository", "must be run in a work tree", "cannot change to")
"""Git's messages where there is no repository, or no folder."""

IsOutput = Callable[[str], bool]
"""Returns whether an absolute path is an output of a job of the run."""


class UnknownCodeError(Exception):
    """The code cannot be identified, since git fails; the message has git's words and what to do."""


class _TooMuchError(Exception):
    """It would take too long, or read too much."""


class _Budget:
    """What one identification may still cost."""

    def __init__(self, patience: float) -> None:
        self._until = time.monotonic() + patience
        self._files, self._bytes = MOST_FILES, MOST_BYTES

    @property
    def seconds(self) -> float:
        return max(0.01, self._until - time.monotonic())

    def spend(self, size: int = 0) -> None:
        """Raises _TooMuchError."""
        self._files -= 1
        self._bytes -= size
        if self._files < 0 or self._bytes < 0 or time.monotonic() > self._until:
            raise _TooMuchError


class Newest(NamedTuple):
    """The source file that changed last; without a path where there is none. `at`: epoch seconds."""

    path: str
    at: float


def identify(cwd: str, is_output: IsOutput, patience: float = PATIENCE) -> str | None:
    """Return the identity of the code in `cwd`: `3f9c2d1a7b0e` (a commit), `3f9c2d1a7b0e+5b21c09e` (with changes to
    tracked files), or `files:5b21c09e7d44` (no repository). None where it is unknown within `patience` seconds. Raises
    UnknownCodeError."""
    budget = _Budget(patience)
    try:
        where = _git(cwd, budget, "rev-parse", "--show-toplevel", "--verify", "-q", "HEAD")
        # A repository of which nothing lies here, as of a home's settings, has nothing to do with this code.
        if not where or not _git(cwd, budget, "ls-tree", "-z", "--name-only", "HEAD"):
            return _of_files(cwd, is_output, budget)
        top, _, commit = os.fsdecode(where.rstrip(b"\n")).rpartition("\n")
        listed = _git(top, budget, "diff", "--name-only", "-z", "--no-renames", "--ignore-submodules=dirty", "HEAD")
        names = sorted(os.fsdecode(name) for name in listed.split(b"\0") if name)
        changed = [name for name in names if not is_output(os.path.join(top, name))]
        head = commit[:12]
        return f"{head}+{_hash(top, changed, budget)[:8]}" if changed else head
    except (_TooMuchError, OSError, subprocess.SubprocessError):
        return None


def newest_source(folders: Sequence[str], is_output: IsOutput, patience: float = PATIENCE) -> Newest | None:
    """Return the source file below `folders` that changed last; None where it is unknown within `patience` seconds. In
    a repository all tracked files are source. Raises UnknownCodeError."""
    budget = _Budget(patience)
    newest = Newest("", 0.0)
    try:
        for folder in folders:
            listed = _git(folder, budget, "ls-files", "-z")
            names = _walk(folder) if not listed else (os.fsdecode(name) for name in listed.split(b"\0") if name)
            for name in names:
                path = os.path.join(folder, name)
                budget.spend()
                if not os.path.isfile(path) or is_output(path):
                    continue
                at = os.stat(path).st_mtime
                if at > newest.at:
                    newest = Newest(path, at)
    except (_TooMuchError, OSError, subprocess.SubprocessError):
        return None
    return newest


def _git(folder: str, budget: _Budget, *arguments: str) -> bytes:
    """What git says; empty where there is none, this is no work tree of a repository, or it says no without a word, as
    of a repository without a commit. Raises UnknownCodeError where it refuses.

    It takes no lock and runs no program that the repository names.
    """
    if not _may_be_in_repository(folder):
        return b""  # as git would say, a process later
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment.update(GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
    command = ["git", "-C", folder, "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=budget.seconds, check=False
        )
    except FileNotFoundError:
        return b""
    stderr = done.stderr.decode(errors="replace")
    if done.returncode == 0 or not stderr.strip() or any(text in stderr for text in _NO_REPOSITORY):
        return done.stdout if done.returncode == 0 else b""
    raise UnknownCodeError(f"the code in {folder} cannot be identified: git says {excerpt(stderr)}")


def _may_be_in_repository(folder: str) -> bool:
    """Whether a `.git` lies in `folder` or above it, where git looks for one: not beyond the border of a file system.
    A folder that cannot be looked at may be in one."""
    here = os.path.realpath(folder)
    try:
        device = os.stat(here).st_dev
        while os.stat(here).st_dev == device:
            if os.path.lexists(os.path.join(here, ".git")):
                return True
            here, below = os.path.dirname(here), here
            if here == below:
                break
    except OSError:
        return True
    return False


def _of_files(cwd: str, is_output: IsOutput, budget: _Budget) -> str | None:
    names = []
    for name in _walk(cwd):
        budget.spend()
        if not is_output(os.path.join(cwd, name)):
            names.append(name)
    return f"{FILES}{_hash(cwd, sorted(names), _Budget(budget.seconds))[:12]}" if names else None


def _walk(folder: str) -> Iterator[str]:
    """Yield source files below a folder by name; hidden ones, generated ones and environments are left out."""
    for root, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if name not in _NO_CODE
            and not name.startswith(".")
            and not os.path.exists(os.path.join(root, name, "pyvenv.cfg"))
        ]
        for name in files:
            if os.path.splitext(name)[1].lower() in _SOURCE or name in _NAMES:
                yield os.path.relpath(os.path.join(root, name), folder)


def _hash(top: str, names: Sequence[str], budget: _Budget) -> str:
    """A hash of files by name and content. Raises _TooMuchError."""
    import hashlib  # see core.manifest.sha256

    whole = hashlib.sha256()
    for name in names:
        path = os.path.join(top, name)
        whole.update(os.fsencode(name) + b"\0")
        try:
            if os.path.islink(path) or not os.path.isfile(path):
                target = os.readlink(path) if os.path.islink(path) else "-"
                whole.update(os.fsencode(target) + b"\0")
                continue
            budget.spend(os.path.getsize(path))
            one = hashlib.sha256()
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    one.update(chunk)
                    budget.spend()
        except FileNotFoundError:  # it has been deleted, which is a change as well
            whole.update(b"-")
            continue
        whole.update(one.digest())
    return whole.hexdigest()
