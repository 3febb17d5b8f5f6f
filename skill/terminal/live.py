"""Following a run until it ends: a live view on a terminal, a line for each change elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from skill.common.errors import FAILED
from skill.runs import digest
from skill.terminal import safe_output

if TYPE_CHECKING:
    from rich.console import Console

    from skill.runs.watched import Followed
    from skill.terminal import frame
    from skill.terminal.interactive import Hands

TICK = 0.25
"""Seconds between looks for a new state file."""
_WIDE = 1000
"""Cells of a line where no terminal bounds it."""


def console(*, error: bool = False) -> Console:
    """A console for stdout or stderr that neither wraps nor adds colours of its own."""
    from skill.terminal.safe_console import SafeConsole  # here, as all of rich: what draws nothing need not pay for it

    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else _WIDE
    file = safe_output.behind(stream)  # it cleans what it draws by itself
    return SafeConsole(
        as_typed=safe_output.as_typed(stream), file=file, width=width,
        highlight=False, soft_wrap=False, emoji=False, markup=False,
    )  # fmt: skip


def marks(output: Console) -> frame.Marks:
    """Characters that the console's encoding has."""
    from skill.terminal import frame

    return frame.UNICODE if output.encoding.lower().startswith("utf") else frame.ASCII


def follow(
    watched: Followed, output: Console, hands: Hands, *, fresh: bool, utc: bool = False, as_matrix: bool = False
) -> int:
    """Show a run until it is over. Returns its exit code: 0 or 3, or 1 where its manager has died or was halted.

    `hands`: what keys can do. `fresh`: it has just begun, so that lines tell of every job; else of what happens from
    now on. `utc`: no local times. `as_matrix`: begin with the matrix of its grid. Raises KeyboardInterrupt.
    """
    watched.look(at_once=True)
    if output.is_terminal and not output.is_dumb_terminal:
        from skill.terminal.interactive import Interactive

        shown = Interactive(watched, output, hands, marks(output), clock(utc=utc), as_matrix=as_matrix)
        shown.show(lambda: _is_over(watched))
    else:
        _lines(watched, lambda line: print(line, file=output.file, flush=True), fresh)
        if as_matrix:
            from skill.terminal.interactive import Interactive

            shown = Interactive(watched, output, hands, marks(output), clock(utc=True), as_matrix=True)
            for line in shown.last():
                output.print(line, no_wrap=True, crop=False)
    meta = watched.document["meta"]
    return digest.exit_code(watched.document) if meta["manager"] == "finished" else FAILED


def clock(*, utc: bool) -> digest.Clock:
    """Times of day for a terminal."""
    from skill.terminal import local_time

    return digest.clock if utc else local_time.beside_utc


class _Teller:
    """Says what has changed since it last looked, a line each. `before`: where the jobs were when it began."""

    def __init__(self, say: Callable[[str], None], before: dict[str, tuple[str, int]]) -> None:
        self._say, self._before = say, before
        self._problems: dict[str, str] = {}

    def tell(self, watched: Followed) -> None:
        for line in digest.changes(self._before, watched.document):
            self._say(line)
        # A short form of a state leaves out what has ended long ago; that is not news when it comes back.
        self._before = {**self._before, **digest.places(watched.document)}
        problems = digest.problems_by_kind(watched.document, watched.alive)
        for kind, line in problems.items():
            if kind not in self._problems:
                self._say(f"{digest.utc(time.time())} !            {line}")
        for kind in self._problems:
            if kind.startswith(digest.UNKNOWN) and kind not in problems:
                host = kind.removeprefix(digest.UNKNOWN)
                self._say(f"{digest.utc(time.time())} !            {host}: it is reachable again")
        self._problems = problems


def _lines(watched: Followed, say: Callable[[str], None], fresh: bool) -> None:
    say(digest.headline(watched.document, watched.alive, time.time()))
    if not fresh:
        say(f"  {digest.counts_text(digest.counts(watched.document))}")
    teller = _Teller(say, {} if fresh else digest.places(watched.document))
    while not _is_over(watched):
        teller.tell(watched)
        time.sleep(TICK)
    teller.tell(watched)


def _is_over(watched: Followed) -> bool:
    """Look again; a manager that has gone may have written its last state just before."""
    watched.look()
    if not watched.over:
        return False
    watched.look(at_once=True)
    return watched.over
