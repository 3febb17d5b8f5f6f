"""List the runs of this machine and of the projects it knows, each as far as it can be read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.times import epoch, iso
from skill.common.errors import FailedError, UseError
from skill.common.project import locate_workers
from skill.runs import directory, eta
from skill.runs.directory import Run
from skill.runs.last_seen import LastSeen, last_seen
from skill.runs.open import on_hosts

SHOWN = 20
"""Of the runs that have ended only so many of the newest are shown, unless all are asked for."""
BROKEN = "broken"


class ListedRun(NamedTuple):
    """A run. `hosts`: empty for this machine; `status`: not started, running, paused, finished, halted, died, unknown
    or broken; `fault`: why it is broken; `queued`: how many of its
    pending jobs are in Slurm's queue; `seen_s`: seconds since its hosts were last asked, None if one never was;
    `cost_usd`: of rented machines by now, None where none is known. Times in epoch seconds."""

    run: Run
    hosts: tuple[str, ...]
    status: str
    started: float | None
    finished: float | None
    counts: Mapping[str, int]
    eta_s: float | None
    cost_usd: float | None
    seen_s: float | None
    fault: str | None = None
    queued: int = 0

    @property
    def goes_on(self) -> bool:
        return self.status in ("running", "paused")


class Runs(NamedTuple):
    """The newest runs first. `left_out`: how many older ones are not among them."""

    runs: list[ListedRun]
    left_out: int


def list_runs(*, everything: bool = False) -> Runs:
    """List the runs that can be meant from the present directory, the newest first. Hosts are not asked: what is known
    of them is what was last read. `everything`: also the older runs that have ended."""
    found = newest_first()
    shown: list[ListedRun] = []
    ended = left_out = 0
    for run in found:
        if everything or ended < SHOWN:
            row = listed_run(run)
            ended += not row.goes_on
            shown.append(row)
            continue
        left_out += 1
    return Runs(shown, left_out)


def newest_first() -> list[Run]:
    """Return all runs that are known here, also those without a manifest, the newest first."""
    cwd, home = Path.cwd(), Path.home()
    runs = {run.root: run for run in directory.known(cwd, home)}
    project = locate_workers(cwd)
    if project.exists():
        runs.update((run.root, run) for run in directory.of_project(project.parent, cwd))
    folders = dict.fromkeys([cwd / LOCAL_RUNS, *(root.parent for root in runs)])
    for folder in folders:
        runs.update((run.root, run) for run in directory.without_manifest(folder))
    return sorted(runs.values(), key=lambda run: (directory.made_at(run), run.id), reverse=True)


def listed_run(run: Run) -> ListedRun:
    """Return what is known of one run; of one that cannot be read, why."""
    if not run.paths.manifest.exists():
        fault = f"it has no manifest.json; if nothing of it is needed, delete {run.root}"
        return ListedRun(run, (), BROKEN, None, None, {}, None, None, None, fault)
    try:
        if not on_hosts(run) and not run.paths.state.exists():
            return ListedRun(run, (), "not started", None, None, {}, None, None, 0.0)
        seen = last_seen(run)
        return _row(run, seen, time.time())
    except (UseError, FailedError, OSError) as error:
        fault = str(error)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"its files are damaged ({error})"
    return ListedRun(run, (), BROKEN, None, None, {}, None, None, None, fault.removeprefix(f"run {run.id} "))


def _row(run: Run, seen: LastSeen, now: float) -> ListedRun:
    meta = seen.document["meta"]
    hosts = () if seen.assigned is None else tuple(part.host for part in seen.assigned.parts)
    return ListedRun(
        run,
        hosts,
        _status(seen),
        epoch(meta["started"]) if meta["started"] else None,
        epoch(meta["finished"]) if meta["finished"] else None,
        {name: count for name, count in seen.document["counts"].items() if count},
        eta.seconds(seen.document, now) if seen.alive else None,
        _cost(meta),
        None if seen.age_s is None else round(seen.age_s, 1),
        queued=meta.get("queued") or 0,
    )


def _status(seen: LastSeen) -> str:
    meta = seen.document["meta"]
    if seen.assigned is not None and seen.age_s is None and meta["manager"] != "finished":
        return "unknown"
    if meta["manager"] == "running" and not seen.alive:
        return "died"
    return "paused" if meta["manager"] == "running" and meta["paused"] else str(meta["manager"])


def _cost(meta: Mapping[str, Any]) -> float | None:
    ends = [row.get("teardown") for row in meta.get("hosts", [meta])]
    costs = [one["cost_usd"] for one in ends if one and one.get("cost_usd") is not None]
    return round(sum(costs), 4) if costs else None


def document(found: Runs) -> dict[str, Any]:
    """Return the document of `wavequeue ls --json`."""
    rows = [
        {
            "run_id": row.run.id,
            "name": directory.title(row.run.id),
            "directory": str(row.run.root),
            "hosts": list(row.hosts),
            "status": row.status,
            "started": iso(row.started),
            "finished": iso(row.finished),
            "counts": dict(row.counts),
            "queued": row.queued,
            "jobs": sum(row.counts.values()),
            "eta_s": None if row.eta_s is None else round(row.eta_s, 1),
            "cost_usd": row.cost_usd,
            "seen_s": row.seen_s,
            "fault": row.fault,
        }
        for row in found.runs
    ]
    return {"runs": rows, "left_out": found.left_out}
