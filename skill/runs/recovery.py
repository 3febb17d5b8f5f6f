"""What the ladder of `recover` did for jobs, from the rows of a state: steps with their cause and effect. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from queue_manager.core.manifest import JobSpec
from skill.runs.digest import Row, clock

UNDER_WAY = "not known yet"


def steps(row: Row) -> list[Mapping[str, Any]]:
    """The steps that were taken for a job, oldest first."""
    return list((row.get("recovery") or {}).get("steps") or ())


def wants_host(row: Row) -> bool:
    """Whether a job is stuck because its ladder asks for another host."""
    return bool((row.get("recovery") or {}).get("wants_host"))


def changed(row: Row) -> str | None:
    """The settings that differ from the spec, in words."""
    found: str | None = (row.get("recovery") or {}).get("changed")
    return found


def pending(row: Row) -> str | None:
    """The step whose attempt runs or is about to, in words."""
    last = steps(row)[-1:]
    return str(last[0]["action"]) if last and last[0]["attempt"] in (row["attempt"], row["attempt"] - 1) else None


def spec_run(spec: JobSpec, row: Row) -> JobSpec:
    """A job's spec with the command that its newest attempt ran, or its next one will."""
    command = (row.get("recovery") or {}).get("command")
    return spec if command is None else spec._replace(cmd=command)


def taken(rows: Iterable[Row]) -> list[tuple[Row, Mapping[str, Any]]]:
    """The steps of all jobs with their rows, newest first."""
    found = [(row, step) for row in rows for step in steps(row)]
    return sorted(found, key=lambda one: one[1]["at"] or "", reverse=True)


def cells(row: Row, step: Mapping[str, Any]) -> list[str]:
    """One step as the cells of a table: when, of which job, why, what was done, and what came of it."""
    return [clock(step["at"]), row["id"], step["failure"], step["action"], step["effect"] or UNDER_WAY]


def lines(row: Row) -> list[str]:
    """The steps of one job, a line each, and what differs from its spec."""
    found = [
        f"{clock(one['at'])}  {one['failure']} in attempt {one['attempt']}: {one['action']}; effect: "
        f"{one['effect'] or UNDER_WAY}"
        for one in steps(row)
    ]
    settings = changed(row)
    if settings is not None:
        found += [f"changed: {settings}", f"its command now: {row['recovery']['command']}"]
    return found
