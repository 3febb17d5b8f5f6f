"""Shorten the output of a program to a few words for a message: its first and last lines, safe for a terminal. Pure."""

from __future__ import annotations

from queue_manager.core.terminal_text import one_line

_ENDS = 2
"""Lines kept at each end: the first lines name the cause, the last ones the consequence."""
_LINE = 200


def excerpt(text: str) -> str:
    """Return the first two and the last two lines that are not blank as one line, with … where some are left out. Of
    equal lines one is kept. Empty where there is no output."""
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if len(lines) > 2 * _ENDS:
        lines = [*lines[:_ENDS], "…", *lines[-_ENDS:]]
    return " / ".join(one_line(line, _LINE) for line in lines)
