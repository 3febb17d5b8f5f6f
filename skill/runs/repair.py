"""The repair of a run's journal: asked of this machine or of the run's hosts, and put in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from queue_manager.core.terminal_text import one_line
from skill.common.errors import FailedError
from skill.runs.directory import Run
from skill.runs.local_call import call

PATIENCE = 300.0
"""Seconds to read a journal and what all attempts of a large run have left."""
HERE = "this machine"
_LINES = 10


def ask_here(run: Run, *, do: bool) -> dict[str, Any]:
    """What is left of a run on this machine; with `do`, have it written. See queue_manager.remote.repair for the
    answer. Raises FailedError."""
    found = call("control", str(run.root), stdin=json.dumps(request(do=do)), patience=PATIENCE)
    if "fault" in found:
        raise FailedError(f"{run.id}: {found['fault']}")
    return found


def request(*, do: bool) -> dict[str, Any]:
    """What is asked of queue_manager.remote.control."""
    return {"op": "repair", "do": do}


def is_needed(answer: Mapping[str, Any]) -> bool:
    return answer.get("needed") is True


def lines(name: str, answer: Mapping[str, Any]) -> Iterator[str]:
    """An answer in words, for people. `name`: whose it is."""
    faults = _texts(answer.get("faults"))
    if not is_needed(answer):
        yield f"{name}: nothing to repair: its journal is intact"
        return
    for fault in faults:
        yield f"{name}: {fault}"
    damaged = _texts(answer.get("damaged"))
    yield from (f"  damaged: {text}" for text in damaged[:_LINES])
    counts = answer.get("counts")
    if isinstance(counts, dict):
        shown = ", ".join(f"{count} {one_line(str(status), 40)}" for status, count in counts.items())
        yield f"  recoverable: {_number(answer.get('lines'))} intact lines; jobs: {shown or 'none'}"
    changes = answer.get("changes")
    if isinstance(changes, dict):
        for job, text in list(changes.items())[:_LINES]:
            yield f"  from the snapshot or its files: {one_line(str(job), 120)} {one_line(str(text), 300)}"
        rest = _number(answer.get("changed")) - min(len(changes), _LINES)
        if rest > 0:
            yield f"  … and {rest} more jobs"
    yield from (f"  lost: {text}" for text in _texts(answer.get("lost"))[:_LINES])
    kept = _texts(answer.get("kept"))
    if answer.get("done") is True:
        yield "  repaired" + (f"; kept beside it: {', '.join(kept)}" if kept else "")


def _texts(value: Any) -> list[str]:
    return [one_line(str(text), 400) for text in value] if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if type(value) is int else 0
