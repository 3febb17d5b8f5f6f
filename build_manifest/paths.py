"""Paths of outputs and preconditions as people write them: `~`, `$NAME`, `{a,b}`, `s3://…`, `{N}`. Pure.

`~` and `$NAME` are left for the host, which knows them; braces are expanded here; what is on no file system is refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from build_manifest.faults import Faults
from build_manifest.nodes import Scalar, locate

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SUBSTITUTED = re.compile(r"\$?\$\{[^}]*\}|\{\{.*?\}\}", re.DOTALL)
_BRACES = re.compile(r"\{([^{}]*,[^{}]*|(-?[0-9]{1,6})\.\.(-?[0-9]{1,6}))\}")
_ALONE = re.compile(r"\{([A-Za-z_][\w.-]*)\}")
_MOST = 1_000
_HIDDEN = "\ue010"


class BraceError(ValueError):
    """Braces name too many paths. The message says how many are possible."""


def check_path(faults: Faults, scalar: Scalar, what: str, names: Collection[str]) -> bool:
    """Tell whether a path can be on the host's file system, with its names written correctly; faults are noted.
    `names`: those that `${name}` knows."""
    before = len(faults.found)
    url = _URL.match(scalar.text)
    if url:
        hint = "write the path on the host, and copy it there or from there in cmd"
        if what == "a precondition's path":
            hint += ", or ask with {type: command, command: …}"
        faults.add(scalar.mark, f"{what} is {scalar.text[:80]!r}, and {url[0]} is not a path on the host", hint)
    masked = _masked(scalar.text)
    for match in _ALONE.finditer(masked):
        if match[1] in names:
            mark = locate(faults, scalar, match[0], scalar.text.count(match[0], 0, match.start()))
            faults.add(mark, f"{match[0]} in {what} is taken literally and is not expanded", f"write ${match[0]}")
    return len(faults.found) == before


def has_braces(text: str) -> bool:
    """Tell whether the shell would make several words of a path."""
    return _BRACES.search(_masked(text)) is not None


def expand_braces(text: str) -> list[str]:
    """List the paths that a path with braces names, in bash's order. Raises BraceError if there are too many."""
    todo, found = [text], []
    while todo:
        one = todo.pop(0)
        match = _BRACES.search(_masked(one))
        if match is None:
            found.append(one)
            continue
        if match[2] is None:
            words = _split(one[match.start(1) : match.end(1)])
        else:
            first, last = int(match[2]), int(match[3])
            step = 1 if last >= first else -1
            words = [str(n) for n in range(first, last + step, step)][: _MOST + 1]
        todo = [one[: match.start()] + word + one[match.end() :] for word in words] + todo
        if len(todo) + len(found) > _MOST:
            raise BraceError(f"write braces that name at most {_MOST:,} paths")
    return found


def each_path(faults: Faults, scalar: Scalar) -> list[str]:
    """List the paths that a path with braces names, each once; none, with a fault noted, if there are too many."""
    try:
        return list(dict.fromkeys(expand_braces(scalar.text)))
    except BraceError as error:
        faults.add(scalar.mark, f"{scalar.text[:80]!r} names too many paths", str(error))
        return []


def _split(inner: str) -> list[str]:
    masked, words, start = _masked(inner), [], 0
    for at, char in enumerate(masked):
        if char == ",":
            words.append(inner[start:at])
            start = at + 1
    return [*words, inner[start:]]


def _masked(text: str) -> str:
    """Return the text with everything substituted made invisible, at the same length."""
    return _SUBSTITUTED.sub(lambda match: _HIDDEN * len(match[0]), text)
