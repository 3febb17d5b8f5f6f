"""What becomes of processes that a job's command left running when it ended. Pure.

One rule, for a command that ended with exit code 0; they are known by what is observed of them:

- One *works* if it uses CPU, writes, or has a card open; one *serves* if it does none of it but wait for others, with a
  socket that listens or in a read of a pipe or a terminal (wandb's service, ray, an ssh-agent, a resource tracker).
  Any other may yet go on by itself (`sleep 60; python train.py`), and is *idle*.
- While one works or is idle, the job goes on as it does while its command runs: its card stays its own, up to its
  timeout. It ends when they have ended, or when those that are left only serve, or when none has worked for
  `stale_after`; these are then ended.
- With an `expected_output` the output decides then, and one that is there and new is not waited for while nothing
  works. Without one a job of which something worked on fails: nothing tells how that ended.

What a command leaves that failed is ended at once. None is ended, nor waited for, without a word in the job's row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from queue_manager.core import events as ev
from queue_manager.core import failures, idle
from queue_manager.core.boundary import Evidence, ExitRecord, Leftovers
from queue_manager.core.judge import Verdict, span
from queue_manager.core.model import Attempt, Job
from queue_manager.core.status import Outcome
from queue_manager.core.turn import Turn

GRACE = 2.0
"""Seconds for processes left by a job to end on their own, before anything is reported or done."""

WAIT, FAIL, END = "wait", "fail", "end"
"""Wait for them; wait for them and let the job fail then; end them."""
_SHOWN = 3


class Fate(NamedTuple):
    """What happens to them, and which processes they are, in words."""

    fate: str
    text: str


def decide(expects_output: bool, code: int | None, left: Leftovers) -> Fate:
    """Apply the rule. `code`: the exit code of the command, None where its wrapper was killed."""
    if code == 0 and left.busy:
        return Fate(WAIT if expects_output else FAIL, words(left.busy))
    if code == 0 and left.idle and not (expects_output and left.output_there):
        return Fate(WAIT, words(left.idle))
    return Fate(END, words((*left.busy, *left.idle, *left.serving)))


def words(names: tuple[str, ...]) -> str:
    """Say how many processes there are and which."""
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"{len(names)} process{'' if len(names) == 1 else 'es'} that it left running ({shown})"


def follow(turn: Turn, job: Job, attempt: Attempt, seen: Evidence) -> None:
    """Update an attempt whose command has ended and has left processes behind; does not end it yet."""
    code = seen.exit.code if seen.exit else None
    left: ev.LeftoversFound | Fate | None = attempt.left
    found = None if seen.left is None else decide(job.spec.expected_output is not None, code, seen.left)
    if left is None:
        if seen.gone_for < GRACE:
            return
        if found is None:
            if code != 0 or seen.gone_for >= 3 * GRACE:  # else what they do is not known yet
                turn.stop(job, attempt, "leftovers")
            return
        left = _note(turn, job, attempt, found)
    elif found is not None and left.fate == WAIT and found.fate != WAIT:
        left = _note(turn, job, attempt, found)
    elif found is not None and found.fate == END:
        turn.stop(job, attempt, "leftovers")
        return
    timeout, started, stale = job.spec.timeout, attempt.started, turn.state.manifest.stale_after
    if left.fate == END:
        turn.stop(job, attempt, "leftovers")
    elif timeout is not None and started is not None and turn.now - started >= timeout:
        turn.stop(job, attempt, "timeout")
    elif idle.seconds_idle(turn, attempt, seen.idle) >= stale:
        if left.fate == WAIT:
            _note(turn, job, attempt, Fate(END, f"{left.text}, idle for {span(stale)}"))
        turn.stop(job, attempt, "leftovers")


def _note(turn: Turn, job: Job, attempt: Attempt, found: Fate) -> Fate:
    turn.emit(ev.LeftoversFound(job.spec.id, attempt.n, found.fate, found.text))
    return found


def exit_of(attempt: Attempt, seen: Evidence) -> ExitRecord | None:
    """Return the exit record to judge by: a job that was stopped while it waited for its leftovers had not finished."""
    left = attempt.left
    was_cut = attempt.stop_reason not in (None, "leftovers") and left is not None and left.fate != END
    return replace(seen.exit, code=143) if seen.exit is not None and was_cut else seen.exit


def with_leftovers(verdict: Verdict, attempt: Attempt) -> Verdict:
    """Return the verdict on an attempt, changed by its leftovers."""
    left = attempt.left
    if left is None:
        return verdict
    if left.fate == FAIL and verdict.outcome is Outcome.SUCCEEDED:
        error = (
            f"its command ended with exit code 0 while {left.text} still used CPU or a GPU, or wrote files; the result "
            "of that is unknown: run it in the foreground, without &, nohup or setsid, or name what it writes as "
            f"expected_output; if its results are good: wavequeue accept {attempt.job}"
        )
        return Verdict(Outcome.FAILED, failures.LEFTOVERS.name, failures.LEFTOVERS.rule, error)
    note = f"{'ended' if left.fate == END else 'waited for'} {left.text}"
    if verdict.outcome is Outcome.FAILED:
        return verdict._replace(error=f"{verdict.error}; {note}")
    return verdict._replace(warning=f"{verdict.warning}; {note}" if verdict.warning else note)
