"""Which files of a project are sent to a host: what git would track, less what is left out and what looks secret."""

from __future__ import annotations

import fnmatch
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.outputs import pattern_matches
from skill.common.files import read_text
from skill.common.project import ENV, KEPT, WORKERS
from skill.common.units import size_text
from skill.transfer import git, gitignore
from skill.transfer.secret_files import looks_secret

NEVER = (".git", LOCAL_RUNS, KEPT, ".venv", "__pycache__", WORKERS, ENV)
"""Names that are not sent, wherever they stand: what is made here, and what is secret."""
IGNORE = ".wavequeueignore"
_LARGE = 1 << 20
"""Bytes from which on a file is worth naming."""


class CodeFiles(NamedTuple):
    """The files that are sent, and the `secrets`: those left out since they look like one. Relative, sorted."""

    files: list[str]
    secrets: list[str]


def choose(source: Path) -> CodeFiles:
    """Choose the files of a project that a submit sends.

    A `.wavequeueignore` in `source` has a name, path or glob a line that stays here; with a `!` before it, one that is
    sent though it looks like a secret. Raises UseError where git, or a file that decides, cannot be read.
    """
    try:
        lines = read_text(source / IGNORE).splitlines()
    except FileNotFoundError:
        lines = []
    rules = [line.strip() for line in lines]
    excludes = [rule for rule in rules if rule and not rule.startswith(("#", "!"))]
    wanted = [rule[1:].strip() for rule in rules if rule.startswith("!")]
    files = select(source, excludes)
    secrets = [name for name in files if looks_secret(source, name) and not _matches(name, wanted)]
    kept = frozenset(secrets)
    return CodeFiles([name for name in files if name not in kept], secrets)


def left_out_words(secrets: Sequence[str]) -> str:
    """Say which files are not sent, and how to send one all the same."""
    return (
        f"not sent, since they look like secrets: {listed(secrets, 5)}; to send one anyway, add the line "
        f"!{secrets[0]} into {IGNORE}"
    )


def size(source: Path, files: Sequence[str]) -> int:
    """Return the bytes of files that are sent."""
    return sum((source / name).lstat().st_size for name in files)


def size_words(source: Path, files: Sequence[str]) -> str:
    """Say how many files are sent, how large they are, and which are the largest."""
    sizes = {name: (source / name).lstat().st_size for name in files}
    largest = sorted((name for name in files if sizes[name] >= _LARGE), key=lambda name: -sizes[name])[:3]
    named = listed(f"{name} {size_text(sizes[name])}" for name in largest)
    return f"{len(files)} files, {size_text(sum(sizes.values()))}" + (f"; the largest: {named}" if named else "")


def select(source: Path, excludes: Sequence[str] = ()) -> list[str]:
    """List what git would track below `source`, less `NEVER` and the `excludes`. Raises UseError as `choose` does."""
    return sorted({name for name in _candidates(source) if not left_out(name, excludes) and _is_sent(source / name)})


def left_out(name: str, excludes: Sequence[str] = ()) -> bool:
    """Tell whether a file is never sent. An exclude with a `/` is meant from the top, another one anywhere."""
    return not set(name.split("/")).isdisjoint(NEVER) or _matches(name, excludes)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    parts = name.split("/")
    for given in patterns:
        pattern = given.rstrip("/")
        if "/" in pattern:
            pattern = pattern.lstrip("/")
            if any(pattern_matches(pattern, "/".join(parts[:n])) for n in range(1, len(parts) + 1)):
                return True
        elif any(fnmatch.fnmatchcase(part, pattern) for part in parts):
            return True
    return False


def _is_sent(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return False  # git knows it, and it has been deleted
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def _candidates(source: Path) -> Iterator[str]:
    if not git.is_installed():
        yield from gitignore.listing(source, NEVER)
        return
    for name in git.sent_files(source):
        inner = source / name
        if inner.is_dir() and not inner.is_symlink():  # a repository inside this one
            folder = name.rstrip("/")
            yield from (f"{folder}/{file}" for file in _candidates(inner))
        else:
            yield name
