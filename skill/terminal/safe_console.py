"""A console of rich that draws only text and colours, whoever wrote the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from queue_manager.core import terminal_text

_SIMILAR = {"…": "~", "×": "x", "–": "-", "—": "-", "’": "'", "→": ">"}
"""Characters for one cell of a terminal that lacks the first."""


class SafeConsole(Console):
    """A console that cleans what is drawn, and leaves alone what it draws with. `as_typed`: see safe_output.named.

    A character that its encoding lacks takes as many cells as it would have: its code in digits would break the line.
    """

    def __init__(self, *, as_typed: Callable[[str], str], **options: Any) -> None:
        super().__init__(**options)
        self._as_typed = as_typed

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable. Control segments are rich's own: text can make none."""
        for segment in super().render(renderable, options):
            clean = segment.text if segment.control else self._clean(segment.text)
            yield segment if clean == segment.text else Segment(clean, segment.style)

    def _clean(self, text: str) -> str:
        clean = terminal_text.escaped(self._as_typed(text))
        if clean.isascii() or not self.is_terminal:
            return clean
        try:
            clean.encode(self.encoding)
        except UnicodeEncodeError:
            return "".join(char if char.isascii() else self._similar(char) for char in clean)
        return clean

    def _similar(self, char: str) -> str:
        try:
            char.encode(self.encoding)
        except UnicodeEncodeError:
            return _SIMILAR.get(char, "?" * cell_len(char))
        return char
