"""What is wrong with a spec: where it is, what it is, what to write instead. All faults are collected, then raised."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from enum import Enum
from typing import NamedTuple

from build_manifest.expression_bounds import Meter
from queue_manager.core.terminal_text import one_line

_SHOWN = 100
_NEAR = 300
_LONG = 600
_NAME = re.compile(r"\$\{([\w.-]+)\}")
"""Characters; of what is wrong no more is shown."""


class Mark(NamedTuple):
    """A place in the spec, counted from 1; line 0 is the file as a whole."""

    line: int
    column: int


class Fault(NamedTuple):
    """One fault. `instead` says what to write, and may be empty."""

    file: str
    line: int
    column: int
    what: str
    instead: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        what = self.what if len(self.what) <= _LONG else f"{self.what[: _LONG // 2]} … {self.what[-_LONG // 2 :]}"
        text = f"{where}: {what}" + (f"; {self.instead}" if self.instead else "")
        return one_line(text)


class SpecErrors(ValueError):
    """All faults of a spec, in the order of their places; as text, one line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = sorted(faults, key=lambda fault: (fault.line, fault.column))
        lines = [str(fault) for fault in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            lines.append(f"and {len(self.faults) - _SHOWN} more")
        super().__init__("\n".join(lines))


class Shown(Enum):
    """Which places of a spec mean something to the one who reads of its faults: those of a spec that was made of
    commands do not, or only their lines. NAMES: none, and names are written `{name}`."""

    PLACES = "places"
    LINES = "lines"
    NAMES = "names"


class Faults:
    """Collect faults and warnings while one spec is read."""

    def __init__(self, file: str, text: str, shown: Shown = Shown.PLACES) -> None:
        self.file = file
        self.text = text
        self._shown = shown
        self.meter = Meter()
        self.found: list[Fault] = []
        self._warnings: list[tuple[Mark, str]] = []
        self._reported: set[object] = set()

    def add(self, mark: Mark, what: str, instead: str = "", *, once: object = None) -> None:
        """Note a fault. Of those with an equal `once` (default: the same place and words) the first is kept."""
        key = (mark, what) if once is None else once
        if key not in self._reported:
            self._reported.add(key)
            if self._shown is Shown.NAMES:
                instead = _NAME.sub(r"{\1}", instead)
            self.found.append(Fault(self.file, *self._place(mark), what, instead))

    def warn(self, mark: Mark, text: str) -> None:
        """Note what does not stop the build."""
        mark = self._place(mark)
        where = f"{self.file}:{mark.line}:{mark.column}" if mark.line else self.file
        line = one_line(f"{where}: warning: {text}")
        if line not in self._reported:
            self._reported.add(line)
            self._warnings.append((mark, line))

    def warnings(self) -> list[str]:
        """Return all warnings, in the order of their places."""
        return [line for _, line in sorted(self._warnings)]

    def _place(self, mark: Mark) -> Mark:
        """Format a place for a message."""
        if self._shown is Shown.PLACES:
            return mark
        return Mark(0, 0) if self._shown is Shown.NAMES else Mark(mark.line, 1)

    def mark_at(self, index: int) -> Mark:
        """Return the place of a character of the text."""
        before = self.text[:index]
        return Mark(before.count("\n") + 1, index - before.rfind("\n"))


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that `name` most likely means; None if none is near."""
    candidates = list(known)
    if len(candidates) > _NEAR:  # difflib over 100,000 ids would take seconds
        candidates.sort(key=lambda one: (-_shared(one, name), abs(len(one) - len(name)), one))
        candidates = candidates[:_NEAR]
    folded = {one.lower().replace("-", "_"): one for one in reversed(candidates)}
    match = folded.get(name.lower().replace("-", "_"))
    if match is not None:
        return match
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return close[0] if close else None


def _shared(one: str, other: str) -> int:
    """Count the characters with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Join names for a message: at most `limit` of them."""
    names = list(names)
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
