"""Read the end of a job's log as plain text."""

from __future__ import annotations

from typing import NamedTuple

from skill.runs import logs
from skill.runs.directory import Run
from skill.runs.open import open_run


class LogEnd(NamedTuple):
    """The last lines of a log. `about`: whose log it is and how old, where that needs saying."""

    text: str
    about: tuple[str, ...]


def job_log(run: Run, job: str, attempt: int | None, lines: int) -> LogEnd:
    """Return the last lines of a job's log (`attempt`: None for the newest). Raises UseError and FailedError."""
    with open_run(run) as there:
        found = there.log(job, attempt, lines, follow=False)
        plain = logs.Plain()
        text = [f"-- {piece.note}\n" if piece.note else plain.feed(piece.data) for piece in found.pieces]
        return LogEnd("".join(text) + plain.end(), found.about)
