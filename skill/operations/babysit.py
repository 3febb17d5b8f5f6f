"""Watch over a run: check each running job at its cadence, and at once when a fault shows; keep STATUS.md up to
date."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, NamedTuple

from build_manifest import regular_file
from queue_manager.core import cadence
from queue_manager.core.cadence import Cadence
from queue_manager.core.status import Status
from queue_manager.core.times import epoch
from skill.common import fitting
from skill.common.errors import FailedError, UseError
from skill.common.files import MOST, write_whole
from skill.operations import recover_elsewhere
from skill.reports import cells, checks, explain, status_file
from skill.reports.checks import Check
from skill.runs import digest, logs
from skill.runs.access import RunAccess
from skill.runs.digest import Row
from skill.runs.directory import Document, Run
from skill.runs.open import open_run
from skill.runs.watched import Followed

PACE = 5.0
"""Seconds between looks at the state while no check is due, so that a fault is seen before the next check."""
_AGAIN = 60.0
"""Seconds between attempts to move jobs to another host."""
_LINES = 400
"""Lines at the end of a log that are searched for the cause of a fault."""


_BRIEF_LINES, _BRIEF_ROWS = 3, 20
"""Lines of a log, and rows, in a short document."""


class CheckReport(NamedTuple):
    """A check. `wrong`: faults that were not reported before; `log`: the lines of the job's log about them."""

    check: Check
    wrong: tuple[str, ...] = ()
    log: tuple[str, ...] = ()


class Outcome(NamedTuple):
    """The state of a run. `over`: nothing more happens without a person. `finished`: it is over because no job is left
    that can run (and not because its manager died). `completed`: all jobs completed."""

    over: bool
    finished: bool
    completed: bool


class Checked(NamedTuple):
    """One check of a whole run. `next`: when the next check is due (epoch seconds), None where the run is over.
    `counts`: number of jobs by the word for their status. `problems`: what blocks the queue, in words."""

    run: Run
    reports: list[CheckReport]
    outcome: Outcome
    next: float | None
    counts: Mapping[str, int]
    problems: list[str]

    @property
    def counts_text(self) -> str:
        """The counts as text: `5 completed, 2 running`."""
        return digest.counts_text(self.counts)


def check_run(run: Run, now: float | None = None, *, brief: bool = False) -> Checked:
    """Check once all jobs that are running, waiting for a retry or stuck, and write STATUS.md. `brief`: read the logs
    of the first jobs alone, which is what `as_brief` needs.

    Raises FailedError, and UseError for an invalid workers.yaml.
    """
    with open_run(run) as there:
        document = there.look(full=True)
        moved = _move_asking(run, document)
        if not moved:
            return _check(there, document, now, brief=brief)
    with open_run(run) as there:
        found = _check(there, there.look(full=True), now, brief=brief)
        return found._replace(problems=[*moved, *found.problems])


def _check(there: RunAccess, document: Document, now: float | None, *, brief: bool) -> Checked:
    """Check all jobs of a state, and write STATUS.md."""
    alive = there.alive(document)
    at = time.time() if now is None else now
    goal = _goal(there)
    found = [_look(row, document, at, alive=alive, goal=goal) for row in _watched(document)]
    _write(there, document, found, at, alive=alive)
    read = [one for one in found if one.alert][:_BRIEF_ROWS] if brief else found
    named = {one.job for one in read}
    reports = [_reported(there, one) if one.job in named else CheckReport(one) for one in found]
    due = [one.next for one in found if one.next is not None] or [at + cadence.STABILISE]
    outcome = _outcome(document, alive=alive)
    following = None if outcome.over else min(due)
    return Checked(there.run, reports, outcome, following, digest.counts(document), digest.problems(document, alive))


def _move_asking(run: Run, document: Document) -> list[str]:
    """Have jobs whose ladder asks for it run on another host. Returns what was done, or why it could not be."""
    if not recover_elsewhere.asking(document):
        return []
    try:
        return recover_elsewhere.after(recover_elsewhere.move(run, (), None, _agree, _agree))
    except (UseError, FailedError, OSError) as error:
        return [f"not moved to another host: {error}"]


def _agree(_: object) -> None:
    """The spec has asked for it."""


def follow_run(
    run: Run,
    *,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], object] = time.sleep,
) -> Generator[CheckReport, None, Outcome]:
    """Check a run until it is over: each job at its cadence, and at once when something happens to it.

    Yields each check that is due and returns the final state of the run. Raises as `check_run` does.
    """
    with open_run(run) as there, contextlib.closing(there.watch()) as followed:
        watch = _Watch(there, followed, _goal(there))
        move_at = 0.0
        for first in itertools.count():
            if first:
                wait(PACE)
            followed.look()
            over = followed.over
            if over:  # a manager that ended may have written its last state just before
                followed.look(at_once=True)
                over = followed.over
            now = clock()
            reports = watch.due(now)
            moved: list[str] = []
            if now >= move_at and (moved := _move_asking(run, followed.document)):
                move_at = now + _AGAIN
                reports = [_with(one, moved) for one in reports]
            if reports or over:
                document, alive = followed.document, followed.alive
                found = [_look(row, document, now, alive=alive, goal=watch.goal) for row in _watched(document)]
                _write(there, document, [watch.with_next(one) for one in found], now, alive=alive)
            yield from reports
            if over and not moved:
                break
        return _outcome(followed.document, alive=followed.alive)


def _with(one: CheckReport, moved: list[str]) -> CheckReport:
    return one._replace(wrong=(*one.wrong, *moved)) if one.check.action == checks.OTHER_HOST else one


def as_json(found: Checked) -> dict[str, object]:
    """Return the document that `wavequeue babysit --once --json` prints."""
    return {
        "run_id": found.run.id,
        "over": found.outcome.over,
        "next": None if found.next is None else checks.time_text(found.next),
        "counts": found.counts,
        "problems": found.problems,
        "status_file": str(found.run.paths.status_notes),
        "checks": [checks.row_json(one.check, one.log) for one in found.reports],
    }


def as_brief(found: Checked) -> dict[str, object]:
    """Return the document that `wavequeue babysit --once --json --brief` prints, of less than 4 KB.

    `checks` has the jobs with an alert first, and of their logs the last lines; `totals` tells how many there are.
    """
    wrong = [one for one in found.reports if one.check.alert]
    others = [one for one in found.reports if not one.check.alert]
    short: dict[str, Any] = {**as_json(found), "problems": [], "checks": []}
    short["totals"] = {"problems": len(found.problems), "checks": len(found.reports), "alerts": len(wrong)}
    checked = (checks.row_json(one.check, one.log[-_BRIEF_LINES:]) for one in (*wrong, *others))
    lists: dict[str, Iterator[Any]] = {"problems": iter(found.problems), "checks": checked}
    fitting.fill(short, lists, fitting.MOST, _BRIEF_ROWS)
    return short


def _outcome(document: Document, *, alive: bool) -> Outcome:
    finished = document["meta"]["manager"] == "finished"
    over = finished or document["meta"]["manager"] != "running" or not alive
    return Outcome(over, finished, set(document["counts"]) <= {Status.COMPLETED.value})


class _Watch:
    """The checks of all jobs of one run."""

    def __init__(self, there: RunAccess, followed: Followed, goal: str | None) -> None:
        self._there, self._followed, self.goal = there, followed, goal
        self._plans: dict[str, tuple[int, Cadence]] = {}
        self._reported: dict[str, tuple[str, int]] = {}

    def due(self, now: float) -> list[CheckReport]:
        """Return what to report now: jobs whose check is due, whose state changed, or that no longer run."""
        document, alive = self._followed.document, self._followed.alive
        found = []
        for row in self._rows(document):
            one = _look(row, document, now, alive=alive, goal=self.goal)
            before = self._reported.get(one.job)
            is_new = before != (one.state, one.attempt)
            if row["status"] == "running":
                if not self._is_due(row, one, now, at_once=is_new):
                    continue
                one = self.with_next(one)
            elif is_new:
                self._plans.pop(one.job, None)
            else:
                continue
            self._reported[one.job] = (one.state, one.attempt)
            found.append(_reported(self._there, one) if is_new else CheckReport(one))
        return found

    def with_next(self, one: Check) -> Check:
        plan = self._plans.get(one.job)
        return one if plan is None else one._replace(next=plan[1].due)

    def _rows(self, document: Document) -> list[Row]:
        return [row for row in document["jobs"] if checks.is_watched(row) or row["id"] in self._plans]

    def _is_due(self, row: Row, one: Check, now: float, *, at_once: bool) -> bool:
        """Return whether a running job is reported now; if so, plan its next check. `at_once`: its state is new."""
        attempt, plan = self._plans.get(one.job, (0, None))
        if plan is None or attempt != one.attempt:
            plan = cadence.launched(epoch(row["started"]) if row["started"] else now)
        if at_once and one.alert:
            plan = cadence.alerted(plan, now)
        is_due = plan.due <= now
        self._plans[one.job] = one.attempt, cadence.checked(plan, now, not one.alert) if is_due else plan
        return is_due or at_once


def _watched(document: Document) -> list[Row]:
    return [row for row in document["jobs"] if checks.is_watched(row)]


def _look(row: Row, document: Document, now: float, *, alive: bool, goal: str | None) -> Check:
    found = checks.check(row, document, now, None, gone=not alive, goal=goal)
    if row["status"] == "running":
        return found._replace(next=checks.next_check(row, now, healthy=not found.alert))
    if row["status"] in digest.RETRIES and row["retry_at"]:
        return found._replace(next=max(now, epoch(row["retry_at"])) + cadence.EARLY[0])
    return found


def _goal(there: RunAccess) -> str | None:
    """Return the metric for which the spec has a goal."""
    return next(iter(cells.goals([there.manifest])), None)


def _reported(there: RunAccess, found: Check) -> CheckReport:
    return CheckReport(found, found.flags if found.alert else (), _log_of(there, found))


def _log_of(there: RunAccess, found: Check) -> tuple[str, ...]:
    """Return the log lines that show what is wrong with a job; none where nothing is wrong."""
    if not found.flags or not found.attempt:
        return ()
    # Unreachable host or missing log: the alert is reported without lines.
    with contextlib.suppress(FailedError, UseError, OSError):
        return tuple(explain.excerpt(logs.last_lines(there, found.job, _LINES), found.flags[-1]))
    return ()


def _write(there: RunAccess, document: Document, found: list[Check], now: float, *, alive: bool) -> None:
    """Write STATUS.md again, and keep the notes that a person added to it. Raises OSError."""
    path = there.run.paths.status_notes
    try:
        before = regular_file.read_text(path, MOST, follow=False, errors="replace")
    except FileNotFoundError:
        before = None
    rows: Mapping[str, Row] = {row["id"]: row for row in document["jobs"]}
    done = [
        one for records in there.history(status_file.NEEDLES).values() for one in status_file.actions(records, rows)
    ]
    made = status_file.text(document, there.manifest, found, done, now, alive=alive)
    write_whole(path, status_file.with_notes(made, before), durable=False, errors="replace")
