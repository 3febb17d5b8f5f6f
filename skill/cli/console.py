"""What verbs print: progress lines, JSON, Markdown."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from queue_manager.core.terminal_text import json_escaped
from skill.common.errors import UseError
from skill.common.text_table import columns
from skill.terminal import live, safe_output

if TYPE_CHECKING:
    from rich.text import Text


def say(text: str) -> None:
    """Print one progress line on stderr."""
    print(f"wavequeue: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning of the build, with its place in the spec, on stderr."""
    print(text, file=sys.stderr)


def ask_first(question: str, *, yes: bool, look: str = "look at what it says") -> None:
    """Ask for confirmation before money is spent or something is lost; `yes`: confirmed by an option. `look`: what to
    do first where there is no terminal. Raises UseError without a terminal, and click.Abort where the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise UseError(
            f"this command asks for confirmation ({question}), but there is no terminal: {look}, then add --yes"
        )
    click.confirm(question, abort=True, err=True)


def print_lines(lines: Callable[[int], Iterable[str | Text]]) -> None:
    """Print lines that were laid out for the width of the terminal; none is broken."""
    output = live.console()
    for line in lines(output.width):
        output.print(line, no_wrap=True, crop=False)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells in columns; the first row is the head."""
    print_lines(lambda width: columns(rows, width, head=True))


documents: list[None] = []
"""One for each JSON document that was printed."""


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; its texts say `wavequeue` even if `wq` was typed."""
    out = safe_output.behind(sys.stdout)
    documents.append(None)
    print(json_escaped(json.dumps(document, ensure_ascii=False)), file=out, flush=True)


def print_markdown(text: str) -> None:
    """Print Markdown, rendered where stdout is a terminal."""
    output = live.console()
    if output.is_terminal:
        from rich.markdown import Markdown  # takes a tenth of a second, which other verbs need not pay

        output.print(Markdown(text))
    else:
        print(text, end="")
