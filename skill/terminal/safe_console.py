"""A console of rich that draws only text and colours, whoever wrote the text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from queue_manager.core import terminal_text


class SafeConsole(Console):
    """A console that cleans what is drawn, and leaves alone what it draws with. `as_typed`: see safe_output.named."""

    def __init__(self, *, as_typed: Callable[[str], str], **options: Any) -> None:
        super().__init__(**options)
        self._as_typed = as_typed

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable. Control segments are rich's own: text can make none."""
        for segment in super().render(renderable, options):
            clean = segment.text if segment.control else terminal_text.escaped(self._as_typed(segment.text))
            yield segment if clean == segment.text else Segment(clean, segment.style)
