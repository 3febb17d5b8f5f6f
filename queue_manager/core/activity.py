"""What a running attempt does: when it last wrote to its log, its CPU use, and whether it waits for input on its
terminal. Pure.

The facts are only shown; nothing is decided by them, since a job may be silent for good reasons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from queue_manager.core.boundary import Doing
from queue_manager.core.failures import ESCAPES
from queue_manager.core.model import QueueState
from queue_manager.core.terminal_text import one_line
from queue_manager.core.times import iso

KIND = "prompt"
"""Prefix of the kind of a condition that says that a job waits for input; the job's ID follows."""
_SURELY_IDLE, _IDLE = 0.05, 0.01
"""CPU cores below which an attempt may wait for input: where it was seen to read its terminal, and where that is a
guess."""
_QUESTION = re.compile(
    r"[:?>]$|\b(?:y/n|yes/no)\b.{0,20}$|\((?:[A-Za-z-]{0,10}db|gdb)\)$|\b(?:press|hit)\b.{1,40}$|--More--"
    r"|^In \[\d+\]|(?:password|passphrase|username|user name)\b.{0,80}$",
    re.IGNORECASE,
)
_SHOWN = 80


def last_words(log: str) -> tuple[str, bool]:
    """Return the last words of a log as a terminal shows them, and whether no line end follows them."""
    *whole, rest = ESCAPES.sub("", log).split("\n")
    text = _shown(rest)
    if text:
        return text, True
    return next((text for line in reversed(whole) if (text := _shown(line))), ""), False


def _shown(line: str) -> str:
    return next((state.strip() for state in reversed(line.split("\r")) if state.strip()), "")


def may_wait(doing: Doing) -> bool:
    """Return whether it should be checked again soon: it seems to wait for input, but that is not known yet."""
    return doing.cpu is None and (doing.reads is True or (doing.reads is None and _asks(doing)))


def _asks(doing: Doing) -> bool:
    return doing.is_open and _QUESTION.search(doing.line) is not None


def question(doing: Doing) -> str | None:
    """Say that an attempt waits for input; None if it does not, or that is unknown."""
    if doing.cpu is None or doing.reads is False:
        return None
    if doing.reads:
        if doing.cpu > _SURELY_IDLE:  # it reads beside its work, as for a key that ends it
            return None
        waits = "is waiting for input on its terminal"
    elif _asks(doing) and doing.cpu <= _IDLE:
        waits = "seems to be waiting for input on its terminal"
    else:
        return None
    return f"{waits}: {one_line(doing.line, _SHOWN)!r}" if doing.line else waits


def conditions(state: QueueState, doing: Mapping[int, Doing]) -> dict[str, str]:
    """Return what a person should know of the attempts that were checked, in words, by kind."""
    found = {}
    for order, one in doing.items():
        words, job = question(one), state.jobs[order].spec.id
        if words is not None and order in state.live:
            do = f"answer it: wavequeue attach {job}; or end it: wavequeue cancel {job}"
            found[f"{KIND}:{job}"] = f"job {job} {words}; {do}"
    return found


def is_over(state: QueueState, kind: str) -> bool:
    """Return whether a condition is about an attempt that no longer runs."""
    if not kind.startswith(f"{KIND}:"):
        return False
    attempt = state.job(kind.partition(":")[2]).attempt
    return attempt is None or attempt.starting > state.machine.conditions[kind][1]


def row(doing: Doing | None) -> dict[str, Any]:
    """Return the fields of a job's row: `last_output` is a time, `silent_s` in seconds, `cpu` in percent of a core. All
    are None where unknown."""
    if doing is None:
        return {"last_output": None, "silent_s": None, "cpu": None, "asks": None}
    silent = None if doing.output_at is None else round(max(0.0, doing.at - doing.output_at), 1)
    cpu = None if doing.cpu is None else round(100 * doing.cpu, 1)
    return {"last_output": iso(doing.output_at), "silent_s": silent, "cpu": cpu, "asks": question(doing)}
