"""Documents and texts of a few KB, however large the run is: for programs that pay for what they read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from queue_manager.core.terminal_text import json_escaped

MOST = 4000
"""Bytes of what a verb prints with --brief."""


def size(value: Any) -> int:
    """Return the bytes of a JSON value as it is printed."""
    return len(json_escaped(json.dumps(value, ensure_ascii=False)).encode(errors="replace"))


def fill(found: dict[str, Any], lists: Mapping[str, Iterator[Any]], most: int, rows: int) -> None:
    """Put one of each list after the other into the lists of `found` that have its name, at most `rows` of each, as
    long as the document has at most `most` bytes."""
    used = size(found)
    open_lists = dict(lists)
    for _ in range(rows):
        for name, values in list(open_lists.items()):
            value = next(values, None)
            more = 0 if value is None else size(value) + len(", ")
            if value is None or used + more > most:  # what comes after it in its list is less than it
                del open_lists[name]
                continue
            used += more
            found[name].append(value)


def lines(texts: Iterable[str], most: int) -> list[str]:
    """Return the first lines, as many as have at most `most` bytes together."""
    kept, used = [], 0
    for text in texts:
        used += len(text.encode(errors="replace")) + 1
        if used > most:
            break
        kept.append(text)
    return kept
