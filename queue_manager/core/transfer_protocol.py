"""The protocol of a pull: which file is copied, which names are valid, how both ends communicate. Pure.

The pulling side writes a request (`encode`) to `python -m queue_manager.remote.send` on the host. The answer is the
line `greeting(nonce)`, then JSON lines; a line that announces a file is followed by that file's bytes and a line with
their sha256. So one connection lists, compares and copies, and each file is read once.
"""

from __future__ import annotations

import bisect
import fnmatch
import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple

from queue_manager.core.layout import RunPaths
from queue_manager.core.outputs import is_glob, pattern_matches

RESULTS, HOST = "results", "host"
"""The two roots of files: the directory of the code, and the run directory on the host."""
MAX_FILES = 1_000_000
"""Most files of one pull from one host; a host that lists more is rejected."""
MAX_LINE = 1 << 16
"""Most bytes of a line of the answer."""
TAKE, SAME, KEEP = "take", "same", "keep"
_PATHS = RunPaths.of(Path())
_DOCUMENTS = frozenset(
    path.name for path in (_PATHS.state, _PATHS.journal, _PATHS.alerts, _PATHS.manager_log, _PATHS.summary)
)
_LOG = re.compile(re.escape(_PATHS.log_dir.name) + r"/[A-Za-z0-9_][A-Za-z0-9._=+,@~-]*\.log")
_MAX_NAME, _MAX_PATH, _MAX_DEPTH = 255, 2048, 200
_GRAINS = (100, 1_000, 1_000_000_000, 2_000_000_000)
"""Resolutions of file times in file systems and archives, in nanoseconds."""


class Seen(NamedTuple):
    """Identifies one version of a file: bytes, and nanoseconds since 1970."""

    size: int
    mtime_ns: int


class Request(NamedTuple):
    """What is requested from a host.

    `root`: directory of the results, relative to the home or absolute. `patterns`: paths and globs relative to it;
    those from index `declared` on belong to no job, and files that they find are left out where they match one of
    `but`. `never`: names that are always left out. `have`: files that exist here, for each root by name. `closed`:
    files and directories of the results that cannot be written here. `parts`: how many bytes are here of files that
    were cut off, by `part_name`. `room`: most bytes to send in all.
    """

    nonce: str
    run_id: str
    root: str
    patterns: tuple[str, ...]
    declared: int
    but: tuple[str, ...]
    never: tuple[str, ...]
    have: Mapping[str, Mapping[str, Seen]]
    closed: tuple[str, ...]
    parts: Mapping[str, int]
    room: int

    def asks_for(self, name: str, by: int) -> bool:
        """Return whether a result of this name is requested, found by the pattern of index `by`."""
        if not 0 <= by < len(self.patterns) or not set(self.never).isdisjoint(name.split("/")):
            return False
        if by >= self.declared and any(asked_for(pattern, name) for pattern in self.but):
            return False
        return asked_for(self.patterns[by], name)


def encode(request: Request) -> bytes:
    """Write a request."""
    return json.dumps(request._asdict()).encode()


def decode(data: bytes) -> Request:
    """Read a request. Raises ValueError, TypeError or KeyError if it is invalid."""
    fields: dict[str, Any] = json.loads(data)
    for name in ("patterns", "but", "never", "closed"):
        fields[name] = tuple(fields[name])
    fields["have"] = {
        place: {name: Seen(*pair) for name, pair in names.items()} for place, names in fields["have"].items()
    }
    return Request(**fields)


def greeting(nonce: str) -> bytes:
    """Return the line before which all output is ignored: login shells and banners write what they like."""
    return f"wavequeue-send 1 {nonce}\n".encode()


def verdict(here: Seen | None, there: Seen, *, ours: bool) -> str:
    """Decide whether a file of a host is copied: TAKE, SAME, or KEEP where the local one is newer.

    `ours`: a document that only wavequeue writes, so that the host's version always counts. A time that one of the two
    file systems has truncated is not a difference.
    """
    if here is None:
        return TAKE
    if here.size == there.size and _same_time(here.mtime_ns, there.mtime_ns):
        return SAME
    return TAKE if ours or there.mtime_ns >= here.mtime_ns else KEEP


def _same_time(a: int, b: int) -> bool:
    low, high = min(a, b), max(a, b)
    return a == b or any(low % grain == 0 and high - low < grain for grain in _GRAINS)


def part_name(place: str, name: str, there: Seen) -> str:
    """Return the file name under which one version of a file is received."""
    key = "\0".join((place, name, str(there.size), str(there.mtime_ns)))
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:40]


def is_document(name: str) -> bool:
    """Return whether a file of a run directory is pulled: state, journal and notes, and logs."""
    return name in _DOCUMENTS or _LOG.fullmatch(name) is not None


def name_fault(name: str) -> str | None:
    """Return why a file of this name is not copied; None if it may be."""
    parts = name.split("/")
    if name.startswith("/"):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of its directory"
    if "" in parts or "." in parts:
        return "is not a plain path"
    if any(ord(char) < 32 or 127 <= ord(char) < 160 for char in name):
        return "has control characters in its name"
    if any(0xD800 <= ord(char) < 0xE000 for char in name):
        return "has a name that is not UTF-8"
    if len(name) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        return "has too long a name"
    return None


# -- what patterns find -------------------------------------------------------------------------------------------

FILE, FOLDER, LINK, OUT = "file", "folder", "link", "out"
"""Kinds of names in a directory: a file or similar, a directory, a link to a directory inside the root, a link that
leads out of the root."""
Scan = Callable[[str], Mapping[str, str]]
"""Lists a directory, given relative to the root ("" is the root itself): names and their kinds."""


def asked_for(pattern: str, name: str) -> bool:
    """Return whether a pattern finds this file: directly, or because it finds a directory that contains it."""
    while pattern.endswith("/**"):
        pattern = pattern[:-3]
    if pattern in (".", "**"):
        return True
    at = name.find("/")
    while at >= 0:
        if pattern_matches(pattern, name[:at]):
            return True
        at = name.find("/", at + 1)
    return pattern_matches(pattern, name)


def find(patterns: Sequence[str], scan: Scan, never: Collection[str] = ()) -> Iterator[tuple[str, int]]:
    """Yield what the patterns name below the root, with the index of the first pattern that does; each file once.

    A directory yields everything in it. A link that leads out is yielded itself instead of what is behind it.
    """
    finder = _Finder(scan, frozenset(never))
    listed: set[str] = set()
    for by, pattern in enumerate(patterns):
        parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
        for name in finder.matches("", parts):
            if name not in listed:
                listed.add(name)
                yield name, by


def finding(patterns: Sequence[str], scan: Scan, never: Collection[str] = ()) -> frozenset[int]:
    """Return the indices of patterns that find anything."""
    finder = _Finder(scan, frozenset(never))
    found = set()
    for by, pattern in enumerate(patterns):
        parts = tuple(part for part in pattern.split("/") if part not in ("", "."))
        if next(finder.matches("", parts), None) is not None:
            found.add(by)
    return frozenset(found)


class _Finder:
    """Lists every directory once; a glob looks only at names that begin as it does."""

    def __init__(self, scan: Scan, never: frozenset[str]) -> None:
        self._scan, self._never = scan, never
        self._known: dict[str, Mapping[str, str]] = {}
        self._sorted: dict[str, list[str]] = {}

    def matches(self, folder: str, parts: tuple[str, ...]) -> Iterator[str]:
        if not parts or set(parts) == {"**"}:
            yield from self._below(folder)
            return
        head, rest = parts[0], parts[1:]
        if head == "**":
            yield from self.matches(folder, rest)
            for name, kind in self._list(folder).items():
                if kind == FOLDER and not name.startswith("."):
                    yield from self.matches(_join(folder, name), parts)
            return
        for name in self._fitting(folder, head):
            path, kind = _join(folder, name), self._list(folder)[name]
            if kind in (FOLDER, LINK):
                yield from self.matches(path, rest)
            elif not rest or kind == OUT:
                yield path

    def _fitting(self, folder: str, head: str) -> Iterator[str]:
        names = self._list(folder)
        if not is_glob(head):
            if head in names:
                yield head
            return
        if folder not in self._sorted:
            self._sorted[folder] = sorted(names)
        ordered = self._sorted[folder]
        prefix = re.split(r"[*?\[]", head, maxsplit=1)[0]
        fits = _comparison(head)
        for n in range(bisect.bisect_left(ordered, prefix), len(ordered)):
            name = ordered[n]
            if not name.startswith(prefix):
                return
            if fits(name) and (head.startswith(".") or not name.startswith(".")):
                yield name

    def _below(self, folder: str) -> Iterator[str]:
        todo = [folder]
        while todo:
            at = todo.pop()
            for name, kind in sorted(self._list(at).items()):
                path = _join(at, name)
                if kind == FOLDER:
                    todo.append(path)
                elif kind != LINK:
                    yield path

    def _list(self, folder: str) -> Mapping[str, str]:
        if folder not in self._known:
            found = {} if folder.count("/") >= _MAX_DEPTH else self._scan(folder)
            self._known[folder] = {name: kind for name, kind in found.items() if name not in self._never}
        return self._known[folder]


def _comparison(head: str) -> Callable[[str], object]:
    """What tells whether a glob fits a name. Most have one `*`, and to compile them takes longer than all the rest."""
    begin, star, end = head.partition("*")
    if not star or is_glob(begin) or is_glob(end):
        return re.compile(fnmatch.translate(head)).match
    shortest = len(begin) + len(end)
    return lambda name: len(name) >= shortest and name.startswith(begin) and name.endswith(end)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
