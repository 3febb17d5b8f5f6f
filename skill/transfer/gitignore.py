"""List the files that git would track, without git. pathspec reads the gitignore rules."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pathspec import GitIgnoreSpec
from pathspec.pattern import RegexPattern

from build_manifest import regular_file
from queue_manager.core.terminal_text import one_line
from skill.common.errors import UseError
from skill.common.files import MOST


class _Rules(NamedTuple):
    """The lines of one file. `base`: the directory to which they are relative, itself relative to the project; "" for
    the project."""

    base: str
    patterns: tuple[RegexPattern, ...]


def listing(source: Path, never: Sequence[str]) -> Iterator[str]:
    """Yield files and links below `source`, relative to it, that no `.gitignore`, `.git/info/exclude` or excludes file
    of the user names. Directories called as in `never` are passed over. Raises UseError where one cannot be read.

    As with git, a file below an ignored directory cannot be taken in again. Unlike with git, a file that was added in
    spite of a `.gitignore` is not known: only git can read its index.
    """
    outer = [rules for path in (_of_the_user(), source / ".git" / "info" / "exclude") if (rules := _read(path, ""))]
    yield from _below(source, "", tuple(outer), frozenset(never))


def _below(source: Path, base: str, rules: tuple[_Rules, ...], never: frozenset[str]) -> Iterator[str]:
    own = _read(source / base / ".gitignore", base)
    rules = (*rules, own) if own is not None else rules
    try:
        entries = sorted(os.scandir(source / base), key=lambda entry: entry.name)
    except OSError as error:
        raise UseError(f"{source / base} cannot be listed: {error.strerror}") from None
    for entry in entries:
        name = f"{base}/{entry.name}" if base else entry.name
        folder = entry.is_dir(follow_symlinks=False)
        if (folder and entry.name in never) or _ignored(rules, name, folder=folder):
            continue
        if folder:
            yield from _below(source, name, rules, never)
        else:
            yield name


def _ignored(rules: Sequence[_Rules], name: str, *, folder: bool) -> bool:
    """Decide by the innermost file with a matching line; in it, by the last such line."""
    for base, patterns in reversed(rules):
        inner = name[len(base) + 1 :] if base else name
        inner += "/" if folder else ""
        for pattern in reversed(patterns):
            if _matches(pattern, inner):
                return pattern.include is True
    return False


def _matches(pattern: RegexPattern, name: str) -> bool:
    """Tell whether a line is meant for `name` itself. Its directories were asked for already, and pathspec takes what
    matches one of them for a match, too: then the group that marks a directory's `/` ends before the name does."""
    if pattern.include is None or pattern.regex is None:
        return False
    found = pattern.regex.finditer(name)
    return any(match.lastindex is None or match.end(match.lastindex) == len(name) for match in found)


def _read(path: Path, base: str) -> _Rules | None:
    try:
        if path.is_symlink():  # git follows none here either
            return None
        lines = regular_file.read(path, MOST).decode("utf-8", "surrogateescape").split("\n")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise UseError(f"{path} cannot be read, so the files to send are unknown: {error.strerror}") from None
    patterns = GitIgnoreSpec.from_lines(lines).patterns
    return _Rules(base, tuple(pattern for pattern in patterns if isinstance(pattern, RegexPattern)))


def _of_the_user() -> Path:
    """Read the user's own excludes file: core.excludesFile of ~/.gitconfig, else git's default."""
    home = Path.home()
    config = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True, delimiters=("=",))
    try:
        text = regular_file.read_text(home / ".gitconfig", MOST)
        config.read_string("\n".join(line.strip() for line in text.splitlines()))
        named = config.get("core", "excludesfile", fallback=None)
    except FileNotFoundError:
        named = None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise UseError(
            f"{home / '.gitconfig'} cannot be read, so the files to send are unknown: {one_line(str(error), 300)}"
        ) from None
    if named:
        return Path(named.strip().strip('"')).expanduser()
    return Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config") / "git" / "ignore"
