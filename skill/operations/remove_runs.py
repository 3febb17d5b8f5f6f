"""Remove runs from this machine and its hosts: never one that goes on, or whose results are not here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from queue_manager.core.layout import HostPaths
from queue_manager.core.times import duration, epoch
from skill.common.errors import FailedError, UseError
from skill.operations.find_run import find_run
from skill.operations.list_runs import newest_first
from skill.runs import removal
from skill.runs.assignment import LOST, PLANNED, Assigned
from skill.runs.digest import GONE
from skill.runs.directory import Run
from skill.runs.last_seen import LastSeen, last_seen
from skill.runs.open import on_hosts
from skill.runs.path_map import RESULTS
from skill.transfer import completeness


class Candidate(NamedTuple):
    """A run that may be removed. `size` in bytes of its directory; `keep`: why it is not removed, None if it can be;
    `hosts`: where it is removed, too."""

    run: Run
    size: int
    keep: str | None
    hosts: tuple[str, ...] = ()


def named(names: Sequence[str]) -> list[Candidate]:
    """Return the runs with these names. Raises UseError."""
    runs = dict.fromkeys(find_run(name) for name in names)
    return [_candidate(run, why_keep(run)) for run in runs]


def older(seconds: float) -> list[Candidate]:
    """Return the runs that ended more than so many seconds ago, the oldest first."""
    found = []
    for run in reversed(newest_first()):
        try:
            seen = last_seen(run)
        except (UseError, FailedError, OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # `ls` names it; nothing that cannot be read is removed
        meta = seen.document["meta"]
        if meta["manager"] == "finished" and time.time() - epoch(meta["finished"] or meta["updated"]) > seconds:
            found.append(_candidate(run, _why_keep(run, seen)))
    return found


def _candidate(run: Run, keep: str | None) -> Candidate:
    return Candidate(run, removal.size(run), keep, () if keep is not None else tuple(_hosts(run)))


def _hosts(run: Run) -> list[str]:
    if not on_hosts(run):
        return []
    from skill.operations import remove_on_hosts  # runs of this machine need not pay for what reaches hosts

    return remove_on_hosts.hosts_of(run)


def why_keep(run: Run) -> str | None:
    """Say why a run is not removed; None if it can be."""
    try:
        return _why_keep(run, last_seen(run))
    except (UseError, FailedError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"it cannot be read ({error}); if nothing of it is needed, delete its directory yourself: {run.root}"


def _why_keep(run: Run, seen: LastSeen) -> str | None:
    if run.root.is_relative_to(HostPaths.of(Path.home()).root.resolve()):
        return "it was submitted to this machine from another one, which may not have pulled its results"
    if results_in(run):
        return f"its results were pulled into its own directory; move them away first: {run.root / RESULTS}"
    if seen.assigned is not None:
        return _on_hosts(run, seen.assigned, seen)
    if seen.alive:
        return "it is live"
    queued = seen.document["meta"].get("queued") or 0
    if queued:
        return f"{queued} of its jobs are in Slurm's queue; to take them out: wavequeue cancel --all --run {run.id}"
    rows = [row for row in seen.document["jobs"] if row["status"] == "running"]
    left = len(rows) - seen.document["meta"].get(GONE, 0)
    return f"{left} of its jobs may still be running" if left > 0 else None


def results_in(run: Run) -> bool:
    """Whether results are in the directory of a run, as those of jobs with an absolute cwd are."""
    folder = run.root / RESULTS
    return folder.is_dir() and any(folder.iterdir())


def _on_hosts(run: Run, assigned: Assigned, seen: LastSeen) -> str | None:
    rows = {row["name"]: row for row in seen.document["meta"]["hosts"]}
    for part in assigned.parts:
        if part.state in (LOST, PLANNED):
            continue
        row = rows.get(part.host)
        if row is None or row["manager"] != "finished":
            seen_at = row["age_s"] if row is not None else None
            when = "never asked" if row is None or seen_at is None else f"{row['manager']} {duration(seen_at)} ago"
            return f"it is not known to have ended on {part.host} ({when}); look: wavequeue status --run {run.id}"
        missing = completeness.missing_of(run, part.host)
        if missing is not None:
            return f"{part.host}: {missing}; pull: wavequeue pull --run {run.id}"
    return None


def remove(candidate: Candidate) -> None:
    """Remove what the hosts of a run keep of it, then its directory and its name among the runs of this machine. Raises
    FailedError where it must be kept by now, or a host keeps it."""
    keep = why_keep(candidate.run)
    if keep is not None:
        raise FailedError(f"{candidate.run.id} is kept: {keep}")
    if candidate.hosts:
        from skill.operations import remove_on_hosts

        remove_on_hosts.remove_there(candidate.run)
    removal.remove(candidate.run, Path.home())
