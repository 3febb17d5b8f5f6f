"""Rows in columns, one line each, cut to the width there is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from queue_manager.core.terminal_text import one_line

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2


def columns(
    rows: Sequence[Sequence[str | Text]], width: int, indent: int = 0, right: Sequence[int] = (), head: bool = False
) -> list[Text]:
    """Lay rows out in columns at most `width` cells wide in all.

    The last column takes what is left and is cut with an ellipsis; so is another that would take more than a third.
    `right`: columns set to the right. `head`: the first row is a heading.
    """
    from rich.cells import cell_len  # what need not draw need not pay for it
    from rich.text import Text

    cells = [[_text(cell) for cell in row] for row in rows]
    count = max(map(len, cells), default=0)
    most = max(8, width // 3)
    widths = [min(most, max(cell_len(row[n].plain) for row in cells if n < len(row))) for n in range(count)]
    lines = []
    for number, row in enumerate(cells):
        line = Text(" " * indent, no_wrap=True)
        for n, cell in enumerate(row):
            is_last = n == count - 1
            room = max(1, width - line.cell_len) if is_last and n not in right else widths[n]
            cell.truncate(room, overflow="ellipsis")
            if n in right:
                line.append(" " * (room - cell.cell_len))
            line.append_text(cell)
            if not is_last:
                line.append(" " * ((0 if n in right else room - cell.cell_len) + GAP))
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
        if head and number == 0:
            line.stylize("bold")
        lines.append(line)
    return lines


def _text(cell: str | Text) -> Text:
    from rich.text import Text

    if isinstance(cell, Text):
        return cell.copy()
    return Text(one_line(cell))
