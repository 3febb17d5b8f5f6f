"""Check whether a spec can run on this machine. Starts nothing, and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import LOCAL_RUNS
from queue_manager.core.manifest import Manifest
from skill.common.project import locate_workers
from skill.common.units import jobs_text
from skill.hosts import registry
from skill.operations.build_spec import Given, beside, expected, file_of, hosts_warning, settle
from skill.planning import existing_outputs, slurm_plan, this_machine
from skill.planning.host_preflight import Verdict
from skill.runs import live_runs, local_manager

HERE = "localhost"
"""What this machine is called where a host is asked for."""


class Checked(NamedTuple):
    """`faults`: why nothing could start here; `blocked`: why some jobs could not, while others can; `warnings`: what
    prevents no start."""

    verdict: Verdict
    faults: tuple[str, ...]
    blocked: tuple[str, ...]
    warnings: tuple[str, ...]


def is_meant(names: Sequence[str], pool: str | None, manifest: Manifest) -> bool:
    """Whether this machine is to be checked: it was named, or no host is known that could be. Raises UseError."""
    known = registry.Registry.load(locate_workers()).workers
    if tuple(names) == (HERE,):
        return HERE not in known
    return not names and pool is None and not manifest.hosts and not any(one.enabled for one in known.values())


def check_here(manifest: Manifest, spec: Given) -> Checked:
    """Check a built spec on this machine. Raises FailedError where that is not possible."""
    manifest = settle(manifest, beside(spec))
    place = beside(spec) / LOCAL_RUNS if manifest.launcher == SLURM else None
    document = local_manager.preflight(manifest, place)
    found = judge(manifest, document)
    there = existing_outputs.read(document)
    faults, warnings = [*found.faults], [*hosts_warning(manifest), *found.warnings]
    if manifest.launcher == SLURM:
        warnings += slurm_plan.warnings(manifest, expected(manifest, beside(spec)))
    if there is not None:
        refused = live_runs.refusal(there.live, str(spec), file=file_of(spec))
        faults += [refused] if refused else []
        warnings += [] if refused else live_runs.warnings(there.live, there.live_unknown)
        warnings += existing_outputs.words(there, manifest.jobs)
    return Checked(found.verdict, tuple(faults), found.blocked, tuple(warnings))


def judge(manifest: Manifest, document: Mapping[str, Any]) -> Checked:
    """Judge this machine by what `local_manager.preflight` found. Jobs that are blocked stop the others only where
    none is left that could start."""
    verdict = this_machine.judge(manifest, document)
    blocked = {job for row in verdict.blocked for job in row.jobs}
    about = [row.words() for row in verdict.blocked]
    faults = [text for text in verdict.faults if text not in about]
    left = this_machine.startable(manifest, blocked)
    if blocked and not left:
        return Checked(verdict, (*faults, f"no job could start: {'; '.join(about)}"), (), verdict.warnings)
    waiting = len(manifest.jobs) - left - len(blocked)
    if waiting > 0:
        about.append(f"{jobs_text(waiting)} more could not start, since they depend on those")
    return Checked(verdict, tuple(faults), tuple(about), verdict.warnings)
