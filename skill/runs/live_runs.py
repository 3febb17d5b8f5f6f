"""Runs that go on where a spec is about to be run, and have to do with it: the same again, or the same files. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from build_manifest.faults import listed

_NAMED = 3


class LiveRun(NamedTuple):
    """A run that goes on. `pid`: of its manager, None where it has gone and jobs still run. `same`: it has the same
    jobs in the same place. `shared`: outputs that both would write, some of `shared_count`."""

    run_id: str
    pid: int | None
    same: bool
    shared: tuple[str, ...]
    shared_count: int


def read(rows: Iterable[Mapping[str, Any]]) -> list[LiveRun]:
    """The runs of a document of queue_manager.adapters.existing. Raises ValueError, KeyError, TypeError where it is
    none."""
    return [
        LiveRun(
            str(row["run_id"]),
            None if row["pid"] is None else int(row["pid"]),
            row["same"] is True,
            tuple(map(str, row["shared"])),
            int(row["shared_count"]),
        )
        for row in rows
    ]


def refusal(runs: Iterable[LiveRun], spec: str, where: str = "on this machine", file: str = "") -> str | None:
    """Why a spec is not started beside a run with the same jobs, and what to do instead; None if it may be. `spec`: its
    name; `file`: what is given to mean it again, where that is another."""
    for run in runs:
        if run.same:
            state = f"is live {where}" if run.pid is not None else f"has jobs that still run {where}, without a manager"
            watch = "watch" if run.pid is not None else "resume"
            return (
                f"{run.run_id} {state} and runs the jobs of {spec}: a second run would write the same files. "
                f"Follow it: wavequeue {watch} --run {run.run_id}; add more jobs to it: "
                f"wavequeue add {file or spec} --run {run.run_id}; to run everything beside it anyway: --again"
            )
    return None


def warnings(runs: Iterable[LiveRun], unknown: Iterable[str] = (), where: str = "here") -> list[str]:
    """What to say of other runs that write the same files, a line each. `unknown`: of which it could not be told."""
    lines = [f"it is unknown whether another run {where} writes the same files ({text})" for text in unknown]
    for run in runs:
        if run.shared_count:
            more = f" and {run.shared_count - _NAMED} more" if run.shared_count > _NAMED else ""
            count = "1 output" if run.shared_count == 1 else f"{run.shared_count} outputs"
            lines.append(
                f"{run.run_id}, which is live {where}, also writes {count} of this run: "
                f"{listed(run.shared[:_NAMED])}{more}; the one that ends last wins"
            )
    return lines
