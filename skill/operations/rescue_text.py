"""Describe a rescue before it is done, and after. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from build_manifest.faults import listed
from queue_manager.core.times import duration
from skill.common.units import jobs_text

if TYPE_CHECKING:
    from skill.operations.rescue import Done, Plan

_NAMED = 5


def before(run_id: str, made: Plan) -> list[str]:
    """Describe what would be done."""
    name, moving = made.lost.host, made.moving
    read = "was never read" if made.age is None else f"was last read {duration(made.age)} ago"
    lines = [f"{run_id}: {name} {read}; {made.why}"]
    if moving.done:
        lines.append(f"  {jobs_text(len(moving.done))} completed there and are not run again")
    if moving.again:
        text = f"  {jobs_text(len(moving.again))} completed there, but their outputs were never pulled: run again"
        lines.append(f"{text}: {listed(moving.again, _NAMED)}")
    if moving.cancelled:
        lines.append(
            f"  {jobs_text(len(moving.cancelled))} stay cancelled or depend on such: {listed(moving.cancelled, _NAMED)}"
        )
    if moving.unknown:
        lines.append(f"  {jobs_text(len(moving.unknown))} were added there and are not known here; add them again")
    for host, jobs in made.shares.items():
        lines.append(f"  {host} gets {jobs_text(len(jobs))}: {listed(jobs, _NAMED)}")
    if not moving.moved:
        lines.append("  nothing has to run again")
    return lines


def after(run_id: str, lost: str, made: Plan | None, done: Done) -> list[str]:
    """Describe what was done."""
    moved = f"{lost} is given up" if made is None else f"{lost} is given up, {jobs_text(len(made.moving.moved))} moved"
    lines = [f"{run_id}: {moved}"]
    lines += [f"  {one.host} has {one.jobs} of its jobs" for one in done.outcomes if one.fault is None]
    for one in done.relayed:
        if one.fault is None:
            lines.append(f"  what {listed(one.jobs, _NAMED)} wrote was copied to {one.dst}")
    return lines


def faults(run_id: str, lost: str, done: Done) -> list[str]:
    """Describe what failed, and what to type next."""
    failed = [one for one in done.outcomes if one.fault is not None]
    lines = [f"{one.host}: {one.fault}" for one in failed]
    if failed:
        lines.append(f"run the same command again to finish: wavequeue rescue {run_id} --from {lost}")
    relayed = [f"to {one.dst}: {one.fault}" for one in done.relayed if one.fault is not None]
    for text in [*relayed, *([done.fault] if done.fault else [])]:
        again = f"try that again with: wavequeue pull {run_id}"
        lines.append(f"what the moved jobs need could not be copied: {text}; {again}")
    return lines
