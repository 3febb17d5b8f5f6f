"""Partial results: files beside a job's output that say how many of its items are completed. Pure.

`out/NAME.json` has them in `out/.NAME.partial.json`, as the checkpoint helper writes it, or in `out/NAME.partial.json`,
with `-` or `_` before `partial` as well: an object with `completed` and `total`.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from queue_manager.core.outputs import is_glob

HEAD = 4096
"""Bytes of a large file that are read: the helper's say at their beginning what is wanted of them."""
_BEGIN = re.compile(rb'\s{0,100}\{\s{0,100}"completed": {0,4}(\d{1,15}), {0,4}"total": {0,4}(\d{1,15})[,}]')


class Counts(NamedTuple):
    """How many items are completed, and of how many."""

    completed: int
    total: int


def patterns(output: str) -> list[str]:
    """Where the partial results of a job may be, by its `expected_output`, a path or a glob."""
    folder, slash, name = output.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem or ending.lower() not in ("json", "jsonl"):
        stem = name
    hidden = ("",) if stem.startswith(".") or not stem else (".", "")
    found = [f"{folder}{slash}{first}{stem}{sign}partial.json" for first in hidden for sign in "._-"]
    # A glob lists directories, again and again: only for where the helper writes, and not through all below.
    return [] if "**" in output else found[:1] if is_glob(output) else found


def counts(data: bytes, whole: bool) -> Counts | None:
    """What the beginning of a file says, or, if that is the `whole` of it, the file; None where it says nothing, or is
    half written."""
    found = _BEGIN.match(data)
    if found:
        return _counts(int(found[1]), int(found[2]))
    if not whole:
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    completed = value.get("completed")
    return _counts(len(completed) if isinstance(completed, list) else completed, value.get("total"))


def _counts(completed: object, total: object) -> Counts | None:
    if type(completed) is not int or type(total) is not int:
        return None
    return Counts(completed, total) if 0 <= completed <= total < 10**15 else None
