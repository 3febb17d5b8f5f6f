"""Text in a cell of a CSV file that a spreadsheet opens: it is no formula. Pure."""

from __future__ import annotations

import re

from queue_manager.core.terminal_text import one_line

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def csv_cell(text: str) -> str:
    """The text on one line. What a spreadsheet would compute gets an apostrophe before it; numbers are left alone.

    Quoting is the csv module's part.
    """
    line = one_line(text)
    begins = line.lstrip(" ")[:1]
    return f"'{line}" if begins and begins in "=+-@|" and not _NUMBER.fullmatch(line.strip()) else line
