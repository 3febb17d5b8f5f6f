"""Whether OpenSSH's files can say anything of one host alone, as far as that is known without starting ssh, for
which a look at a host would wait."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

SYSTEM = Path("/etc/ssh/ssh_config")
_DEEPEST = 16
_WORD = re.compile(r"[A-Za-z0-9_.:*?!-]+")
_LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)")


class _UnsureError(Exception):
    """Only ssh can decide."""


def may_name(host: str, other: str, files: list[Path]) -> bool:
    """False where no line of these files holds for `host` that does not hold for `other`; True also where that is
    unknown here: `Match`, names made canonical, what cannot be read."""
    try:
        return any(_fits(words, host) != _fits(words, other) for words in _hosts(files, 0))
    except (_UnsureError, OSError, ValueError):
        return True


def _hosts(files: list[Path], depth: int) -> Iterator[list[str]]:
    """The patterns of each `Host` line, of these files and those that they include."""
    if depth > _DEEPEST:
        raise _UnsureError
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            continue
        for line in text.splitlines():
            found = _LINE.fullmatch(line)
            keyword = found[1].lower() if found else ""
            if keyword in ("match", "canonicalizehostname"):
                raise _UnsureError
            if found is None or keyword not in ("host", "include"):
                continue
            words = found[2].split()
            if keyword == "host":
                yield words
            else:
                yield from _hosts([Path(one) for word in words for one in _included(word, path)], depth + 1)


def _included(word: str, by: Path) -> list[str]:
    if not re.fullmatch(r"[A-Za-z0-9_./*?~-]+", word):
        raise _UnsureError
    base = SYSTEM.parent if by.is_relative_to(SYSTEM.parent) else Path("~/.ssh")
    return sorted(glob.glob(os.path.expanduser(base / word if not word.startswith("~") else word)))


def _fits(words: list[str], name: str) -> bool:
    """Tell whether a name matches patterns as ssh matches them: a pattern with ! that matches excludes it."""
    fits = False
    for word in words:
        if not _WORD.fullmatch(word):
            raise _UnsureError
        pattern = re.escape(word.lstrip("!")).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(pattern, name, re.IGNORECASE):
            if word.startswith("!"):
                return False
            fits = True
    return fits
