"""What jobs wrote: the files of their expected_output, and the numbers in those that are JSON."""

from __future__ import annotations

import contextlib
import glob
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from build_manifest import regular_file
from queue_manager.core.outputs import is_glob
from queue_manager.core.terminal_text import one_line

_MAX_BYTES = 1 << 20
_MAX_NUMBERS = 50
_MAX_DEPTH = 3
_MAX_NAME = 100
_SLACK = 2.0
"""Seconds by which a file may be older than the start of the job that wrote it: some disks keep even seconds."""


def files(cwd: str, pattern: str) -> list[str]:
    """The files that an expected_output names, sorted."""
    if not is_glob(pattern):
        path = os.path.join(cwd, pattern)
        return [path] if os.path.exists(path) else []
    return sorted(glob.glob(os.path.join(glob.escape(cwd), pattern), recursive=True))


def has_newer(paths: Sequence[str], begun: float) -> bool:
    """Whether any of these files is no older than an attempt that began then, in epoch seconds."""
    for path in paths:
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime >= begun - _SLACK:
                return True
    return False


def read_numbers(path: str) -> dict[str, float]:
    """The numbers of a JSON object, nested names joined by dots; empty where there is no such thing, or it is large."""
    try:
        value = json.loads(regular_file.read(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return numbers(value)


def numbers(value: Any) -> dict[str, float]:
    """The finite numbers in a JSON object, at most 50 and three levels deep; lists are no metrics."""
    return dict(pair for pair, _ in zip(_walk(value, "", 0), range(_MAX_NUMBERS), strict=False))


def _walk(value: Any, name: str, depth: int) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping) and depth < _MAX_DEPTH:
        for key, inner in value.items():
            shown = one_line(str(key), _MAX_NAME)  # it goes into reports and to terminals
            yield from _walk(inner, f"{name}.{shown}" if name else shown, depth + 1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and name and _is_finite(value):
        yield name, float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer larger than any float
        return False
