"""Explain the status of a job."""

from __future__ import annotations

import time
from typing import Any

from skill.reports import explain
from skill.runs.dependencies import Dependencies
from skill.runs.directory import Run
from skill.runs.open import open_run

_LINES = 2000
"""Lines at the end of a log that are searched for the cause of a failure."""


def explain_job(run: Run, job: str) -> dict[str, Any]:
    """Explain the status of a job, back to the root cause.

    Returns the document of `wavequeue why --json`. Raises UseError where there is no such job, and FailedError.
    """
    with open_run(run) as there:
        known = there.evidence(job, _LINES)
        tries = explain.attempts(known.records, job)
        return explain.explain(known.document, Dependencies(known.manifest), job, tries, known.log, time.time())
