"""What tools answer: text of less than 4 KB, with what to call next. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MOST = 4000
"""Bytes of an answer."""
_FRAME = 120
"""Bytes that are kept for the line about pages."""
_LINE = 600
"""Bytes of a line; of a longer one the middle is left out."""


def document(values: Mapping[str, Any], then: str) -> str:
    """Return one JSON document; `then`: what to call next, in words."""
    return json.dumps({**values, "next": then}, ensure_ascii=False)


def text(lines: Iterable[str], then: str, page: int = 1, *, from_end: bool = False) -> str:
    """Return one page of lines; `then`: what to call next, in words. `from_end`: page 1 is the end."""
    then = f"next: {_short(then)}"
    pages = list(_pages(lines, MOST - _FRAME - len(then.encode()), from_end=from_end))
    if not pages:
        return then
    if page > len(pages):
        return f"there are only {len(pages)} pages\n{then}"
    head = []
    if len(pages) > 1:
        what = "the end; " if from_end and page == 1 else ""
        head = [f"(page {page} of {len(pages)}: {what}page={page + 1} has more)"] if page < len(pages) else []
        head = head or [f"(page {page} of {len(pages)})"]
    return "\n".join([*head, *pages[page - 1], then])


def head(lines: Iterable[str], then: str) -> str:
    """Return as many of some lines as there is room for, with the last one; `then`: what to call next, in words."""
    given = list(lines)
    then = f"next: {_short(then)}"
    pages: list[list[str]] = [[], *_pages(given, MOST - _FRAME - _LINE - len(then.encode()), from_end=False)]
    last = pages.pop()
    if len(pages) <= 1:
        return "\n".join([*last, then])
    return "\n".join([*pages[1], f"... ({len(given) - len(pages[1]) - 1} lines are left out)", last[-1], then])


def _pages(lines: Iterable[str], most: int, *, from_end: bool) -> Iterator[list[str]]:
    """Cut lines into pages of so many bytes at most."""
    given = [_short(line) for line in lines]
    page: list[str] = []
    size = 0
    for line in reversed(given) if from_end else given:
        length = len(line.encode()) + 1
        if page and size + length > most:
            yield page[::-1] if from_end else page
            page, size = [], 0
        page.append(line)
        size += length
    if page:
        yield page[::-1] if from_end else page


def _short(line: str) -> str:
    data = line.encode(errors="replace")
    if len(data) <= _LINE:
        return line
    half = (_LINE - len(" ... ")) // 2
    return f"{data[:half].decode(errors='ignore')} ... {data[-half:].decode(errors='ignore')}"
