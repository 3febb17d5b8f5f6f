"""Text for the cell of a CSV file that no spreadsheet evaluates as a formula. Pure."""

from __future__ import annotations

import re

from queue_manager.core.terminal_text import one_line

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)", re.IGNORECASE)


def csv_cell(text: str) -> str:
    """Return the text on one line. What a spreadsheet would evaluate gets an apostrophe before it; numbers do not
    change.

    Quoting is left to the csv module.
    """
    line = one_line(text)
    begins = line.lstrip(" ")[:1]
    return f"'{line}" if begins and begins in "=+-@|" and not _NUMBER.fullmatch(line.strip()) else line
