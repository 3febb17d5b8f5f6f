"""Patterns of `expected_output`, by the rules of Python's glob with `recursive=True`: what matches, what can overlap.

`*` and `?` never match a `/`, nor a `.` at the beginning of a name; `[a-z]` and `[!a-z]` are sets; `**` as a whole
component is any number of directories that are not hidden. Pure: no file is read, so `dir/**` matches `dir` itself
whether it is a directory or not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Optional, Union

_MAGIC = re.compile(r"[*?\[]")
_SPECIAL = re.compile(r"[*?\[$]")
_ESCAPED = re.compile(r"\[([*?\[$~])\]")
_LAST_CODE = 0x10FFFF
_SLASH = (0x2F, 0x2F)

_Ranges = tuple[tuple[int, int], ...]
_Token = Optional[_Ranges]
"""The characters that may stand at one place, as sorted ranges of code points; None is `*`."""
_Component = Union[str, tuple[_Token, ...], None]
"""A literal name, the tokens of a pattern, or None for `**`."""
_Name = Union[str, tuple[_Token, ...]]

_ANY: _Ranges = ((0, 0x2E), (0x30, _LAST_CODE))


def is_glob(pattern: str) -> bool:
    """Return whether a pattern has glob characters; otherwise it names one path."""
    return _MAGIC.search(pattern) is not None


def escape(text: str) -> str:
    """Escape a text so that as a pattern it matches only itself, whatever glob or the shell would read in it."""
    escaped = escape_within(text)
    return f"[~]{escaped[1:]}" if escaped.startswith("~") else escaped


def escape_within(text: str) -> str:
    """Do the same for text in the middle of a pattern, where `~` is not a home directory."""
    return _SPECIAL.sub(r"[\g<0>]", text)


def shown(pattern: str) -> str:
    """Return a pattern for people, without the brackets of `escape`."""
    return _ESCAPED.sub(r"\1", pattern)


def literal_ends(pattern: str) -> tuple[str, str]:
    """Return what every matching path begins with, and what it ends with."""
    pattern = _normal(pattern)
    first = _MAGIC.search(pattern)
    if first is None:
        return pattern, pattern
    # The `/` beside a `**` need not be there: it may stand for no directory at all.
    begin = pattern[: first.start()].rstrip("/") if "**" in pattern else pattern[: first.start()]
    last = max(pattern.rfind(sign) for sign in "*?]")
    last = max(last, pattern.rfind("["))
    end = pattern[last + 1 :]
    return begin, end.lstrip("/") if "**" in pattern else end


def pattern_matches(pattern: str, path: str) -> bool:
    """Return whether glob could find `path` by `pattern`; both relative to one directory, or absolute."""
    pattern, path = _normal(pattern), _normal(path)
    if not is_glob(pattern):
        return pattern == path
    begin, end = literal_ends(pattern)
    if not (path.startswith(begin) and path.endswith(end)):
        return False  # by far the most frequent answer, and cheap
    return _align(_components(pattern), tuple(path.split("/")))  # a file may be called `**`, too


def patterns_overlap(a: str, b: str) -> bool:
    """Return whether some path matches both patterns. Exact, except for what only the file system knows."""
    a, b = _normal(a), _normal(b)
    if not is_glob(a):
        return pattern_matches(b, a)
    if not is_glob(b):
        return pattern_matches(a, b)
    return _align(_components(a), _components(b))


@lru_cache(maxsize=4096)
def _normal(path: str) -> str:
    """Remove `.`, `..`, doubled and trailing slashes, as far as possible without reading the file system."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part not in ("", ".") and not (part == ".." and path.startswith("/")):
            parts.append(part)
    return ("/" if path.startswith("/") else "") + "/".join(parts) or "."


@lru_cache(maxsize=4096)
def _components(pattern: str) -> tuple[_Component, ...]:
    parts = pattern.split("/")
    return tuple([None if part == "**" else _tokens(part) if is_glob(part) else part for part in parts])


def _align(a: Sequence[_Component], b: Sequence[_Component]) -> bool:
    """Whether some path fits both, component by component. `reach`: how far into `b` one can be at each step in `a`."""
    reach = _skip(b, {0})
    for one in a:
        if one is None:
            # Any number of components of `b`, none of them hidden.
            for at in range(min(reach, default=len(b)), len(b)):
                other = b[at]
                if at in reach and (other is None or not _hidden(other)):
                    reach.add(at + 1)
        else:
            after = set()
            for at in reach:
                if at == len(b):
                    continue
                other = b[at]
                if other is None:
                    if not _hidden(one):
                        after.add(at)
                elif _meet(one, other):
                    after.add(at + 1)
            reach = _skip(b, after)
        if not reach:
            return False
    return len(b) in reach


def _skip(b: Sequence[_Component], reach: set[int]) -> set[int]:
    """Let a `**` stand for nothing."""
    reached = set(reach)
    for start in reach:
        at = start
        while at < len(b) and b[at] is None:
            at += 1
            reached.add(at)
    return reached


def _hidden(component: _Name) -> bool:
    """Return whether only names with a `.` at the beginning match."""
    if isinstance(component, str):
        return component.startswith(".")
    return _dotted(component)


def _dotted(tokens: Sequence[_Token]) -> bool:
    # A set such as [.] does not count: glob wants the dot itself.
    return bool(tokens) and tokens[0] == ((0x2E, 0x2E), (0x2E, 0x2E))


def _tokens(part: str) -> tuple[_Token, ...]:
    tokens: list[_Token] = []
    at = 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            if not tokens or tokens[-1] is not None:
                tokens.append(None)
        elif char == "?":
            tokens.append(_ANY)
        elif char == "[" and (end := _set_end(part, at)):
            tokens.append(_set(part[at:end]))
            at = end + 1
        else:
            code = ord(char)
            # The dot of a hidden name is written twice, to tell it from the set [.].
            tokens.append(((code, code), (code, code)) if char == "." and at == 1 else ((code, code),))
    return tuple(tokens)


def _set_end(part: str, at: int) -> int:
    """Return where the set that begins at `at` is closed; 0 if it is not, and `[` stands for itself."""
    start = at + 1 if part.startswith("!", at) else at
    return max(part.find("]", start + 1), 0)


def _set(inner: str) -> _Ranges:
    negated = inner.startswith("!")
    chars = inner[1:] if negated else inner
    ranges: list[tuple[int, int]] = []
    at = 0
    while at < len(chars):
        low = high = ord(chars[at])
        if chars[at + 1 : at + 2] == "-" and at + 2 < len(chars):
            high = ord(chars[at + 2])
            at += 2
        if low <= high:  # a range that runs backwards is empty
            ranges.append((low, high))
        at += 1
    return _complement(ranges) if negated else _without_slash(ranges)


def _complement(ranges: list[tuple[int, int]]) -> _Ranges:
    found, next_free = [], 0
    for low, high in sorted([*ranges, _SLASH]):
        if low > next_free:
            found.append((next_free, low - 1))
        next_free = max(next_free, high + 1)
    if next_free <= _LAST_CODE:
        found.append((next_free, _LAST_CODE))
    return tuple(found)


def _without_slash(ranges: list[tuple[int, int]]) -> _Ranges:
    return _complement(list(_complement(ranges)))


@lru_cache(maxsize=65536)
def _meet(a: _Name, b: _Name) -> bool:
    """Return whether some name matches both components."""
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    # A literal name is hidden or not; a pattern matches hidden names only if it begins with a dot.
    for one, other in ((a, b), (b, a)):
        if isinstance(one, str):
            assert not isinstance(other, str)
            if one.startswith(".") and not _dotted(other):
                return False
    return _intersect(_as_tokens(a), _as_tokens(b), not (_hidden(a) and _hidden(b)))


def _as_tokens(component: _Name) -> tuple[_Token, ...]:
    return tuple(((ord(c), ord(c)),) for c in component) if isinstance(component, str) else component


def _intersect(a: Sequence[_Token], b: Sequence[_Token], visible: bool) -> bool:
    """Return whether some text matches both; `visible`: one that does not begin with a dot."""
    seen: set[tuple[int, int, bool]] = set()
    todo = [(0, 0, visible)]
    while todo:
        state = todo.pop()
        if state in seen:
            continue
        seen.add(state)
        i, j, first = state
        if i == len(a) and j == len(b):
            return True
        one, other = (a[i] if i < len(a) else ()), (b[j] if j < len(b) else ())  # () fits no character
        if one is None:
            todo.append((i + 1, j, first))
        if other is None:
            todo.append((i, j + 1, first))
        if i < len(a) and j < len(b) and _common(_ANY if one is None else one, _ANY if other is None else other, first):
            todo.append((i if one is None else i + 1, j if other is None else j + 1, False))
    return False


def _common(a: _Ranges, b: _Ranges, visible: bool) -> bool:
    """Return whether some character is in both; `visible`: other than a dot."""
    for low, high in a:
        for low_b, high_b in b:
            first, last = max(low, low_b), min(high, high_b)
            if first <= last and not (visible and first == last == 0x2E):
                return True
    return False
