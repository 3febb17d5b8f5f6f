"""A terminal's screen while it is ours: only lines that have changed are drawn; what was there before comes back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

_ERASE_LINE = Control((ControlType.ERASE_IN_LINE, 2))


class Canvas:
    """The second screen of a terminal, which leaves the first one alone."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: list[Text] = []
        self._size = (0, 0)

    def begin(self) -> None:
        """Take the screen."""
        self.forget()
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)

    def end(self) -> None:
        """Give it back."""
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)

    def forget(self) -> None:
        """Draw all of it next time."""
        self._size = (0, 0)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show these lines, from the top."""
        size = (self._console.width, self._console.height)
        with self._console:  # all in one write
            if size != self._size:
                self._console.control(Control.clear(), Control.home())
                self._drawn, self._size = [], size
            for n in range(max(len(lines), len(self._drawn))):
                line = lines[n] if n < len(lines) else None
                if n < len(self._drawn) and line == self._drawn[n]:
                    continue
                self._console.control(Control.move_to(0, n), _ERASE_LINE)
                if line is not None:
                    self._console.print(line, end="", no_wrap=True, crop=True)
        self._drawn = list(lines)
