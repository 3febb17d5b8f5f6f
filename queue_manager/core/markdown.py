"""Escape text for Markdown: what a job, a host or a file wrote never becomes a link, HTML or a table. Pure."""

from __future__ import annotations

import re

from queue_manager.core.terminal_text import one_line

_SIGNS = re.compile(r"[\\`*<>\[\]#|&]|~~|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_TICKS = re.compile(r"`+")


def inline(text: str) -> str:
    """Escape words for a line or a table cell, on one line. An underscore within a word needs no escape."""
    return _SIGNS.sub(lambda match: "".join(f"\\{sign}" for sign in match.group()), one_line(text))


def code(text: str) -> str:
    """Return a code span, on one line. Not for table cells, whose bars end it."""
    line = one_line(text)
    ticks = "`" * (max(map(len, _TICKS.findall(line)), default=0) + 1)
    space = " " if "`" in (line[:1], line[-1:]) or not line.strip() else ""
    return f"{ticks}{space}{line}{space}{ticks}"
