"""The tool that waits for a run, and reports its progress meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from skill.mcp import answers
from skill.mcp.arguments import Arguments, RunName
from skill.operations import wait_run
from skill.operations.find_run import find_run
from skill.runs import digest
from skill.runs.open import open_run

Report = Callable[[int, int, str], None]
"""Receives progress: how much of how much, and words."""
_THEN = {
    wait_run.ENDED: "results() and the resource of its summary",
    wait_run.PROBLEM: "why(job) of what is new",
    wait_run.TIMEOUT: "wait() again",
}


class Wait(Arguments):
    run: RunName = None
    timeout_s: Annotated[float, Field(ge=0, le=3600, description="Seconds to wait at most")] = 50.0


class Left(Exception):
    """Nobody waits any more."""


def wait(asked: Wait, report: Report, left: threading.Event) -> str:
    """Wait for a run. `report` gets its progress; once `left` is set, raises Left."""
    run = find_run(asked.run)
    with open_run(run) as there, contextlib.closing(there.watch()) as followed:
        shown: dict[str, int] = {}

        def sleep(seconds: float) -> None:
            counts = digest.counts(followed.document)
            if counts != shown:
                shown.clear()
                shown.update(counts)
                report(_ended(counts), sum(counts.values()), digest.counts_text(counts))
            if left.wait(seconds):
                raise Left

        found = wait_run.wait(followed, asked.timeout_s, time.monotonic, sleep)
    counts = found.document["counts"]
    values = {
        "run_id": run.id,
        "why": found.why,
        "finished": found.document["meta"]["manager"] == "finished",
        "counts": {name: count for name, count in counts.items() if count},
        "problems": [line[:200] for line in found.problems[:8]],
        "new": [line[:200] for line in found.new[:4]],
    }
    return answers.document(values, _THEN[found.why])


def _ended(counts: Mapping[str, int]) -> int:
    return sum(counts.get(name, 0) for name in ("completed", "stuck", "blocked", "cancelled"))
