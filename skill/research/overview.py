"""All projects on one screen: what their runs are doing, what they cost, and what to do next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, get_args

from build_manifest.faults import listed
from queue_manager.core.times import epoch
from skill.common.units import count_text
from skill.research.records import Record, RunState

_TIMES = ("created", "claimed", "started", "finished")
ACTIVE = ("claimed", "running")


class Row(NamedTuple):
    """One project. `counts`: runs by state; `active`: those that hosts have; `last`: when something last happened;
    `gpu_hours` of runs that have ended; `usd`: what these hours cost on rented machines; `next`: what to do."""

    project: str
    title: str
    counts: Mapping[str, int]
    active: int
    last: str | None
    gpu_hours: float
    usd: float
    next: str


def overview(
    projects: Mapping[str, Record], ideas: Iterable[Record], runs: Iterable[Record], prices: Mapping[str, float]
) -> list[Row]:
    """A row for each project. `prices`: USD per hour by worker, of those that are rented."""
    by_project: dict[str, tuple[list[Record], list[Record]]] = {name: ([], []) for name in projects}
    for kind, records in enumerate((ideas, runs)):
        for record in records:
            if record["project"] in by_project:
                by_project[record["project"]][kind].append(record)
    return [_row(projects[name], *by_project[name], prices) for name in projects]


def _row(project: Record, ideas: Sequence[Record], runs: Sequence[Record], prices: Mapping[str, float]) -> Row:
    counts = Counter(run["state"] for run in runs)
    times = [record[key] for record in (project, *ideas, *runs) for key in _TIMES if key in record]
    hours = {run["id"]: _hours(run) for run in runs}
    cost = sum(hours[run["id"]] * prices.get(run.get("worker", ""), 0.0) for run in runs)
    used = sum(hours[run["id"]] * run.get("gpus", 1) for run in runs)
    ordered = {state: counts.get(state, 0) for state in get_args(RunState)}
    active, last = sum(counts[state] for state in ACTIVE), max(times, default=None)
    return Row(project["id"], project["title"], ordered, active, last, used, cost, _next(project, ideas, runs))


def _hours(run: Record) -> float:
    if "started" not in run or "finished" not in run:
        return 0.0
    return max(0.0, epoch(run["finished"]) - epoch(run["started"])) / 3600


def idea_state(idea: Record, runs: Iterable[Record]) -> str:
    """The state of an idea: an open one is running while a run of it is."""
    active = any(run["state"] in ACTIVE and run.get("idea") == idea["id"] for run in runs)
    return "running" if active and idea["state"] == "open" else str(idea["state"])


def _next(project: Record, ideas: Sequence[Record], runs: Sequence[Record]) -> str:
    """What to do, the most urgent first."""
    of = {state: [run["id"] for run in runs if run["state"] == state] for state in get_args(RunState)}
    bad = [*of["stuck"], *of["failed"]]
    undecided = [idea["id"] for idea in ideas if idea["state"] in ("open", "running")]
    if bad:
        return f"find out why {listed(bad, 3)} failed: wavequeue research check-runs"
    if of["pending"] and not (of["claimed"] or of["running"]):
        return f"start {count_text(len(of['pending']), 'run')}: wavequeue research dispatch-runs"
    if of["claimed"] or of["running"]:
        return "wait, then: wavequeue research check-runs"
    if not of["done"]:
        return f"add a run: wavequeue research add-run --project-id {project['id']} --command COMMAND"
    if undecided:
        return f"decide on {listed(undecided, 3)}: wavequeue research idea {undecided[0]} --state supported"
    return "fill in the paper: wavequeue research publish"
