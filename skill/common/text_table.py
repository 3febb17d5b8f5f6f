"""Rows in columns, one line each, cut to the available width. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from queue_manager.core.terminal_text import one_line

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2


def columns(
    rows: Sequence[Sequence[str | Text]],
    width: int,
    indent: int = 0,
    right: Sequence[int] = (),
    head: bool = False,
    ids: Sequence[int] = (),
) -> list[Text]:
    """Lay rows out in columns at most `width` cells wide in all.

    The last column takes what is left and is cut with an ellipsis; so is another that would take more than a third.
    `right`: columns set to the right. `head`: the first row is a heading. `ids`: columns of ids, which may take a half
    and are shortened in the middle, since their beginnings are often the same.
    """
    from rich.cells import cell_len  # what need not draw need not pay for it
    from rich.text import Text

    cells = [[_text(cell) for cell in row] for row in rows]
    count = max(map(len, cells), default=0)
    most = [max(8, width // 2 if n in ids else width // 3) for n in range(count)]
    widths = [min(most[n], max(cell_len(row[n].plain) for row in cells if n < len(row))) for n in range(count)]
    lines = []
    for number, row in enumerate(cells):
        line = Text(" " * indent, no_wrap=True)
        for n, cell in enumerate(row):
            is_last = n == count - 1
            room = max(1, width - line.cell_len) if is_last and n not in right else widths[n]
            shown = shortened(cell, room) if n in ids else cell
            shown.truncate(room, overflow="ellipsis")
            if n in right:
                line.append(" " * (room - shown.cell_len))
            line.append_text(shown)
            if not is_last:
                line.append(" " * ((0 if n in right else room - shown.cell_len) + GAP))
        line.truncate(width, overflow="ellipsis")
        line.rstrip()
        if head and number == 0:
            line.stylize("bold")
        lines.append(line)
    return lines


def shortened(cell: Text, room: int) -> Text:
    """Return the text without its middle, in at most `room` cells."""
    from rich.cells import set_cell_size
    from rich.text import Text

    if cell.cell_len <= room or room < 3:
        return cell
    tail = cell.plain[::-1]
    end = set_cell_size(tail, (room - 1) // 2).rstrip()[::-1]
    begin = set_cell_size(cell.plain, room - 1 - (room - 1) // 2).rstrip()
    return Text(f"{begin}…{end}", style=cell.style)


def _text(cell: str | Text) -> Text:
    from rich.text import Text

    if isinstance(cell, Text):
        return cell.copy()
    return Text(one_line(cell))
