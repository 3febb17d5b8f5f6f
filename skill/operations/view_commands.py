"""What the keys of the live view do to a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from skill.operations import change_run, request_text, run_status
from skill.operations.change_run import Changed
from skill.runs import logs
from skill.runs.directory import Run
from skill.runs.open import open_run

if TYPE_CHECKING:
    from skill.runs.digest import Row


class ViewCommands:
    """See `skill.terminal.interactive.Hands`. Each call reaches the run by itself, so that one that waits for a host
    holds up no other."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def log(self, job: str, lines: int) -> Sequence[str]:
        with open_run(self._run, once=True) as there:
            found = there.log(job, None, lines, follow=False)
            plain = logs.Plain()
            text = "".join(plain.feed(piece.data) for piece in found.pieces if not piece.note) + plain.end()
            return [*found.about, *text.splitlines()]

    def cancel(self, job: str) -> str:
        return _told(change_run.cancel_jobs(self._run, [job]))

    def retry(self, job: str) -> str:
        return _told(change_run.retry_jobs(self._run, [job]))

    def params(self) -> Mapping[str, Sequence[tuple[str, Mapping[str, str]]]]:
        with open_run(self._run) as there:
            found: dict[str, list[tuple[str, dict[str, str]]]] = {}
            for job in there.manifest.jobs:
                found.setdefault(job.phase, []).append((job.id, dict(job.params)))
            return found

    def rows(self) -> Sequence[Row]:
        rows: Sequence[Row] = run_status.run_status(self._run, full=True).document["jobs"]
        return rows


def _told(done: Changed) -> str:
    return "; ".join(text for text, _ in request_text.lines(done))
