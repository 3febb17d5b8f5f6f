"""What a job's `recover` asks for, as its manifest has it: a ladder, a rung for each failure of one class. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

RERUN, RUN, ARGS, OTHER_HOST = KINDS = ("rerun", "run", "args", "other_host")
RUN_SECONDS = 600.0
"""Seconds that the command of a rung may take, where the spec does not say."""
IN_ALL = 10
"""Steps that are taken for a job until a person retries it, and rungs that a ladder has at most."""
PER_RUNG = 3
"""Times that one rung is used of these."""


class Rung(NamedTuple):
    """One rung. `kind`: one of KINDS. `command`: of run, bash that runs before the attempt for at most `timeout`
    seconds; of args, the job's whole command with this change and those of the rungs below. `arg`, `value`, `was`: of
    args, the one setting that changes."""

    kind: str
    command: str = ""
    timeout: float = RUN_SECONDS
    arg: str = ""
    value: str = ""
    was: str = ""


Ladder = tuple[Rung, ...]


def ladder(recover: Any) -> Ladder:
    """The rungs of a job's `recover`, lowest first; none where it asks for none."""
    return tuple(Rung(**one) for one in recover) if isinstance(recover, Sequence) else ()


def to_json(rungs: Ladder) -> list[dict[str, Any]] | None:
    """A ladder as a manifest has it; None for one without rungs."""
    defaults = Rung._field_defaults
    return [{k: v for k, v in one._asdict().items() if v != defaults.get(k)} for one in rungs] or None


def is_ladder(value: Any) -> bool:
    """Whether a manifest may have this as a job's `recover`."""
    return isinstance(value, list) and len(value) <= IN_ALL and all(map(_is_rung, value))


def words(rung: Rung) -> str:
    """A rung in a few words: `rerun`, `run: pip install x`, `batch_size 16 instead of 32`, `another host`."""
    if rung.kind == RUN:
        return f"run: {rung.command}" if len(rung.command) <= _SHOWN else f"run: {rung.command[:_SHOWN]}…"
    if rung.kind == ARGS:
        return f"{rung.arg} {rung.value or '(none)'} instead of {rung.was or '(none)'}"
    return "another host" if rung.kind == OTHER_HOST else rung.kind


_SHOWN = 80


def _is_rung(value: Any) -> bool:
    if not isinstance(value, Mapping) or value.get("kind") not in KINDS or not set(value) <= set(Rung._fields):
        return False
    timeout = value.get("timeout", RUN_SECONDS)
    texts = [value.get(name, "") for name in ("command", "arg", "value", "was")]
    return (
        isinstance(timeout, (int, float))
        and not isinstance(timeout, bool)
        and 0 < timeout < float("inf")
        and all(isinstance(text, str) and "\0" not in text for text in texts)
        and (value["kind"] not in (RUN, ARGS) or bool(value.get("command")))
        and (value["kind"] != ARGS or bool(value.get("arg")))
    )
