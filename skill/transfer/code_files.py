"""Choose which files of a project are sent to a host: what git would track, without excluded files, secrets and files
that are not code."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import listed
from queue_manager.core.layout import LOCAL_RUNS
from skill.common.files import read_text
from skill.common.project import ENV, KEPT, WORKERS
from skill.common.units import count_text, size_text
from skill.transfer import git, gitignore, not_code
from skill.transfer.not_code import NOTHING_KNOWN, LeftOut, Project
from skill.transfer.secret_files import looks_secret

NEVER = (".git", LOCAL_RUNS, KEPT, ".venv", "__pycache__", WORKERS, ENV)
"""Names that are not sent, wherever they stand: what is made here, and what is secret."""
IGNORE = ".wavequeueignore"
_LARGE = 1 << 20
"""Bytes from which on a file is worth naming."""


class CodeFiles(NamedTuple):
    """The files that are sent, and those that are not: `secrets` look like one, `left_out` are no code. Relative,
    sorted. `sizes`: bytes of each file that is sent."""

    files: list[str]
    secrets: list[str]
    left_out: list[LeftOut]
    sizes: Mapping[str, int]

    def words(self) -> str:
        """Say how many files are sent, how large they are, and which are the largest."""
        largest = sorted(
            (name for name in self.files if self.sizes[name] >= _LARGE), key=lambda name: -self.sizes[name]
        )
        named = listed(f"{name} {size_text(self.sizes[name])}" for name in largest[:3])
        total = f"{count_text(len(self.files), 'file')}, {size_text(sum(self.sizes.values()))}"
        return total + (f"; the largest: {named}" if named else "")


def choose(source: Path, project: Project = NOTHING_KNOWN) -> CodeFiles:
    """Choose the files of a project that a submit sends. `project`: what its jobs write and need, from `source`.

    A `.wavequeueignore` in `source` has a name, path or glob a line that stays here; with a `!` before it, one that is
    sent though it looks like a secret or is no code. Raises UseError where git, or a file that decides, cannot be read.
    """
    try:
        lines = read_text(source / IGNORE).splitlines()
    except FileNotFoundError:
        lines = []
    rules = [line.strip() for line in lines]
    excludes = [rule for rule in rules if rule and not rule.startswith(("#", "!"))]
    wanted = [rule[1:].strip() for rule in rules if rule.startswith("!")]
    files = select(source, excludes)
    secrets = [name for name in files if looks_secret(source, name) and not not_code.matches(name, wanted)]
    kept = frozenset(secrets)
    sizes = {name: size for name in files if name not in kept and (size := _size(source / name)) is not None}
    tracked = frozenset(git.tracked_files(source))
    found = not_code.sort_out(sizes, project._replace(tracked=tracked, wanted=wanted))
    return CodeFiles(found.files, secrets, found.left_out, {name: sizes[name] for name in found.files})


def left_out_words(secrets: Sequence[str]) -> str:
    """Say which files are not sent, and how to send one all the same."""
    return (
        f"not sent, since they look like secrets: {listed(secrets, 5)}; to send one anyway, add the line "
        f"!{secrets[0]} into {IGNORE}"
    )


def select(source: Path, excludes: Sequence[str] = ()) -> list[str]:
    """List what git would track below `source`, less `NEVER` and the `excludes`. Raises UseError as `choose` does."""
    return sorted({name for name in _candidates(source) if not left_out(name, excludes) and _is_sent(source / name)})


def left_out(name: str, excludes: Sequence[str] = ()) -> bool:
    """Tell whether a file is never sent. An exclude with a `/` is meant from the top, another one anywhere."""
    return not set(name.split("/")).isdisjoint(NEVER) or not_code.matches(name, excludes)


def _size(path: Path) -> int | None:
    """Bytes of a file; None where it has just been deleted."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return None


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
