"""Check whether an edit may become a node, by the paths that it touches and its size. Pure.

A glob is relative to the repository: `*` and `?` stay within a directory, `**` crosses them, and a directory stands for
all that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from queue_manager.core.terminal_text import one_line
from skill.auto.config import Scope
from skill.common.units import size_text

_MOST_NAMED = 5
MOST_BYTES = 1 << 20
"""Bytes of all files that an edit changed, at most."""
LINK, REPOSITORY, GONE = "120000", "160000", "000000"
"""Modes of git: a symbolic link, a submodule, a file that was deleted."""


@dataclass(frozen=True)
class Change:
    """A file that an edit changed. `mode`: git's, afterwards; `added` and `removed`: lines, None of a binary file;
    `size`: bytes, afterwards."""

    path: str
    mode: str
    added: int | None
    removed: int | None
    size: int = 0


def refusal(changes: Sequence[Change], scope: Scope) -> str | None:
    """Return why an edit is refused, for the agent that made it; None if it passes."""
    if not changes:
        return "nothing was changed; edit a file that may be edited: " + (", ".join(scope.editable) or "there is none")
    if touched := [one.path for one in changes if covers(scope.protected, one.path)]:
        return f"{_named(touched)} is protected and must stay as it is; undo that change"
    if outside := [one.path for one in changes if not covers(scope.editable, one.path)]:
        allowed = ", ".join(scope.editable) or "no file"
        return f"{_named(outside)} is outside of what may be edited ({allowed}); undo that change"
    if odd := [one.path for one in changes if one.mode in (LINK, REPOSITORY)]:
        return f"{_named(odd)} is a link or a repository of its own; only plain files can be changed"
    if binary := [one.path for one in changes if one.added is None]:
        return f"{_named(binary)} is a binary file; only text can be changed"
    lines = sum((one.added or 0) + (one.removed or 0) for one in changes)
    if lines > scope.max_lines:
        return f"the edit changes {lines} lines, and at most {scope.max_lines} are allowed; make a smaller one"
    size = sum(one.size for one in changes)
    if size > MOST_BYTES:
        return f"the changed files have {size_text(size)}, and at most {size_text(MOST_BYTES)} are allowed"
    return None


def covers(globs: Sequence[str], path: str) -> bool:
    """Return whether one of the globs matches this path."""
    return any(_pattern(glob).fullmatch(path) for glob in globs)


def _pattern(glob: str) -> re.Pattern[str]:
    glob = glob.removeprefix("./").rstrip("/")
    if glob in ("", "."):
        return re.compile(".*", re.DOTALL)
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part) or re.escape(part) for part in parts) + "(?:/.*)?", re.DOTALL)


def _named(paths: Sequence[str]) -> str:
    named = ", ".join(one_line(path, 200) for path in paths[:_MOST_NAMED])
    return named if len(paths) <= _MOST_NAMED else f"{named} and {len(paths) - _MOST_NAMED} more"
