"""What a terminal wrote, as lines of text. Pure; apart from `diagnosis`, whose patterns a manager need not compile."""

from __future__ import annotations

import itertools
import re

from queue_manager.core import failures

_LONG_LINE = 500


def plain_lines(log: bytes) -> list[str]:
    """The lines of terminal output, without escape sequences; `\\r` ends a line as well, and a long one is cut."""
    lines = _text(log).replace("\r", "\n").split("\n")
    return [line if len(line) <= _LONG_LINE else _cut(line) for line in lines]


def line_number(log: bytes, at: int) -> int:
    """The number, from 1, of the line of a file in which the line `at` of `plain_lines` stands: only `\\n` ends it."""
    ends = itertools.islice(re.finditer(r"[\r\n]", _text(log)), at)
    return 1 + sum(end[0] == "\n" for end in ends)


def _text(log: bytes) -> str:
    text = log.decode("utf-8", "replace").replace("\r\n", "\n")
    return failures.ESCAPES.sub("", text) if "\x1b" in text else text


def _cut(line: str) -> str:
    """What may say something of a line that is very long: around words of a failure, or its beginning."""
    at = failures.words_at(line)
    return line[:_LONG_LINE] if at is None else line[max(0, at - 100) : at + 200]
