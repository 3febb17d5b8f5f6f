"""What becomes of processes that a job's command left running when it ended. Pure.

One rule: what still uses CPU or a card, or writes, is part of the job. With an `expected_output` the job goes on until
they have ended, up to its timeout, and the output decides; without one nothing could tell how they ended, so the job
fails, and they are ended. What does none of it is ended, and the job judged as if it had not been there. Each is
said in the row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from queue_manager.core import events as ev
from queue_manager.core import failures
from queue_manager.core.boundary import Evidence, ExitRecord, Leftovers
from queue_manager.core.judge import Verdict
from queue_manager.core.model import Attempt, Job
from queue_manager.core.status import Outcome
from queue_manager.core.turn import Turn

GRACE = 2.0
"""Seconds for what a job left behind to end by itself."""

WAIT, FAIL, END = "wait", "fail", "end"
_SHOWN = 3


class Fate(NamedTuple):
    """What is to become of them, and who they are, in words."""

    fate: str
    text: str


def decide(expects_output: bool, code: int | None, left: Leftovers) -> Fate:
    """The rule. `code`: the exit code of the command, None where its wrapper was killed."""
    if code != 0 or not left.busy:
        return Fate(END, words((*left.busy, *left.idle)))
    return Fate(WAIT if expects_output else FAIL, words(left.busy))


def words(names: tuple[str, ...]) -> str:
    """How many processes there are and what they are."""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{len(names)} process{'' if len(names) == 1 else 'es'} that it left running ({shown})"


def follow(turn: Turn, job: Job, attempt: Attempt, seen: Evidence) -> None:
    """Bring an attempt up to date whose command has ended and which has left processes behind; none ends it yet."""
    code = seen.exit.code if seen.exit else None
    if attempt.left is None:
        if seen.gone_for < GRACE:
            return
        if seen.left is not None:
            found = decide(job.spec.expected_output is not None, code, seen.left)
            turn.emit(ev.LeftoversFound(job.spec.id, attempt.n, found.fate, found.text))
        elif code == 0 and seen.gone_for < 3 * GRACE:
            return  # what they do is not known yet
    if attempt.left is None or attempt.left.fate != WAIT:
        turn.stop(job, attempt, "leftovers")
        return
    timeout, started = job.spec.timeout, attempt.started
    if timeout is not None and started is not None and turn.now - started >= timeout:
        turn.stop(job, attempt, "timeout")
    elif seen.idle >= turn.state.manifest.stale_after:
        turn.stop(job, attempt, "stale")


def exit_of(attempt: Attempt, seen: Evidence) -> ExitRecord | None:
    """The exit record to judge by: a job that was ended while it waited for what it left running was not done."""
    if (
        seen.exit is not None
        and attempt.left is not None
        and attempt.left.fate == WAIT
        and attempt.stopping is not None
    ):
        return replace(seen.exit, code=143)
    return seen.exit


def told(verdict: Verdict, attempt: Attempt) -> Verdict:
    """The verdict on an attempt with what its leftovers make of it."""
    left = attempt.left
    if left is None:
        return verdict
    if left.fate == FAIL and verdict.outcome is Outcome.SUCCEEDED:
        error = (
            f"its command ended with exit code 0 while {left.text} still used CPU or a GPU, or wrote; they were "
            "ended: run it in the foreground, without &, nohup or setsid, or say with expected_output what it writes"
        )
        return Verdict(Outcome.FAILED, failures.LEFTOVERS.name, failures.LEFTOVERS.rule, error)
    note = f"waited for {left.text}" if left.fate == WAIT else f"ended {left.text}"
    if verdict.outcome is Outcome.FAILED:
        return verdict._replace(error=f"{verdict.error}; {note}")
    return verdict._replace(warning=f"{verdict.warning}; {note}" if verdict.warning else note)
