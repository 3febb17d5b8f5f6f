"""Which code the jobs of a run used: whether those of one phase used the same, and what was pushed to hosts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from skill.common.units import jobs_text


class Push(NamedTuple):
    """Code that was brought to a host: its name here (see queue_manager.adapters.code_identity), None where that
    could not be told, and when (ISO time)."""

    name: str | None
    at: str


def copy_words(code: str | None, pushes: Sequence[Push], is_pushed: bool) -> str:
    """Which copy of the code a host runs, once it was pushed. `code`: its name here; `pushes`: those of before."""
    before = pushes[-1] if pushes and not is_pushed else None
    named = _name(before or Push(code, ""))
    return f"runs a copy of {named}, pushed {'now' if before is None else f'at {before.at}'}".replace("`", "")


def mixed(phase: Mapping[str, Any]) -> str | None:
    """That the jobs of a phase ran different code, in a few words; None if they did not, as far as that is known."""
    count = len(phase.get("codes") or ())
    return f"{count} versions of the code" if count > 1 else None


def report_lines(phases: Iterable[Mapping[str, Any]], pushes: Mapping[str, Sequence[Push]]) -> list[str]:
    """What a report says of the code: a line for each phase, and for each host what was pushed to it, and when."""
    lines = []
    for phase in phases:
        codes: Mapping[str, int] = phase.get("codes") or {}
        ran = "; ".join(f"{jobs_text(count)} ran `{name}`" for name, count in codes.items())
        if len(codes) > 1:
            lines.append(f"- {phase['name']}: not all jobs ran the same code: {ran}")
        elif codes:
            lines.append(f"- {phase['name']}: {ran}")
    for host, all_of_them in pushes.items():
        shown = ", then ".join(f"{_name(push)} at {push.at}" for push in all_of_them)
        if shown:
            lines.append(f"- {host} has a copy that was pushed from here: {shown}")
    return lines


def _name(push: Push) -> str:
    return "code that could not be identified" if push.name is None else f"`{push.name}`"
