"""The one edge for what any verb prints: only text and colours reach a terminal, whoever wrote the text.

`guarded` stands in place of stdout and stderr while a verb runs, so that print, click and tracebacks pass through
it. What draws by itself (see safe_console) and what cleans a log by itself take the stream behind it, from
`behind`. It is also where commands in messages get the name that was typed: `wq resume` for who typed `wq`.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from queue_manager.core import terminal_text


def _unchanged(text: str) -> str:
    return text


def named(typed: str, verbs: Iterable[str], speaker: str | None = None) -> Callable[[str], str]:
    """How messages become those of the command `typed`: a function of a text that puts it where `wavequeue` stands
    before one of the verbs, and `speaker` (default: the same) where it begins a line as the speaker. Sources, and what
    a host wrote, say `wavequeue`."""
    speaker = typed if speaker is None else speaker
    if typed == speaker == "wavequeue":
        return _unchanged
    known = "|".join(map(re.escape, verbs))
    pattern = re.compile(rf"(?m)^wavequeue(?=: )|(?<![\w./-])wavequeue(?= (?:{known})(?![\w-]))")
    return lambda text: pattern.sub(
        lambda match: speaker if text[match.end() : match.end() + 1] == ":" else typed, text
    )


class SafeStream:
    """A text stream over another. Colours pass to a terminal; all else that would command one is shown escaped.

    `as_typed`: what changes messages before, see `named`. It has no `buffer`: nothing is written around it by accident.
    """

    def __init__(self, stream: TextIO, as_typed: Callable[[str], str] = _unchanged) -> None:
        self.behind = stream
        self.as_typed = as_typed
        self._coloured = False

    def write(self, text: str) -> int:
        """Write the text, cleaned. Returns the number of characters given."""
        length, text = len(text), self.as_typed(text)
        if not text.isprintable() or not text.isascii():
            if self.behind.isatty():
                self._coloured = self._coloured or terminal_text.has_colour(text)
                self.behind.write(terminal_text.coloured(text))
            else:
                self.behind.write(terminal_text.escaped(text))
        else:
            self.behind.write(text)
        return length

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def end(self) -> None:
        """Set the colours back, where any were set."""
        if self._coloured:
            self._coloured = False
            self.behind.write("\x1b[0m")
            self.behind.flush()

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.behind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.behind)


@contextlib.contextmanager
def guarded(as_typed: Callable[[str], str] = _unchanged) -> Iterator[None]:
    """Have stdout and stderr cleaned within the block, and messages changed by `as_typed`, see `named`."""
    before = sys.stdout, sys.stderr
    safe = tuple(stream if isinstance(stream, SafeStream) else SafeStream(stream, as_typed) for stream in before)
    sys.stdout, sys.stderr = safe
    try:
        yield
    finally:
        for stream in safe:
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                stream.end()
        sys.stdout, sys.stderr = before


def behind(stream: TextIO) -> TextIO:
    """The stream itself, past the guard. Only for what has been cleaned, or is asked for as it is."""
    return stream.behind if isinstance(stream, SafeStream) else stream


def as_typed(stream: TextIO) -> Callable[[str], str]:
    """What the guard changes messages by, for what draws past it."""
    return stream.as_typed if isinstance(stream, SafeStream) else _unchanged
