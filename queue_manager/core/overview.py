"""The short form of a state document: all that a view shows, of a size that does not grow with the number of jobs.
Pure."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from typing import Any

from queue_manager.core.status import Status

MOST_PENDING = 50
"""Most rows of pending jobs that are kept, the first of the manifest."""
MOST_ENDED = 60
"""Most rows of completed jobs that are kept, those that ended last."""
_ROWS, _END = b',\n"jobs": [\n', b"\n]}\n"
_STATUS, _COMPLETED = b'"status": "', b'"completed": "'


def overview(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state document with only those jobs that run, wait for a retry, need a person, or finished recently.

    `jobs_total` is the number of all jobs; the others appear only in `counts`.
    """
    rows = document["jobs"]
    kept = _kept((row["status"], row["completed"] or "") for row in rows)
    return {**document, "jobs": [rows[n] for n in kept], "overview": True, "jobs_total": len(rows)}


def overview_of(data: bytes) -> dict[str, Any] | None:
    """Do the same for a state file as managers write it, a line for each job: only kept rows are parsed.

    Returns None where the file has another layout. Raises ValueError where it is not JSON.
    """
    begin = data.find(_ROWS)
    if begin < 0 or not data.endswith(_END):
        return None
    lines = data[begin + len(_ROWS) : -len(_END)].split(b",\n")
    # Within a text of JSON the quotes of what is looked for would have a backslash before them.
    if any(line.count(_STATUS) != 1 for line in lines):
        return None
    kept = _kept((_after(line, _STATUS), _after(line, _COMPLETED)) for line in lines)
    found: dict[str, Any] = json.loads(data[:begin] + b"}")
    return {**found, "jobs": [json.loads(lines[n]) for n in kept], "overview": True, "jobs_total": len(lines)}


def _after(line: bytes, name: bytes) -> str:
    """Return the value of a field in the line of a job; empty for null."""
    begin = line.find(name)
    return "" if begin < 0 else line[begin + len(name) : line.index(b'"', begin + len(name))].decode()


def _kept(rows: Iterable[tuple[str, str]]) -> list[int]:
    """Return which rows are kept, in order, given status and completion time of each."""
    pending = 0
    kept, completed = set(), []
    for n, (status, at) in enumerate(rows):
        if status == Status.COMPLETED.value:
            completed.append((at, n))
        elif status == Status.PENDING.value:
            pending += 1
            if pending <= MOST_PENDING:
                kept.add(n)
        else:
            kept.add(n)
    kept.update(n for _, n in heapq.nlargest(MOST_ENDED, completed))
    return sorted(kept)
