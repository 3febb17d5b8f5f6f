"""What a spec would run on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.readings import may_use
from skill.operations.build_spec import build, earlier, hosts_warning, settle
from skill.planning import existing_outputs, local_preflight, plan
from skill.planning.plan import Machine
from skill.runs import live_runs, local_manager


class Planned(NamedTuple):
    """What a spec would run. `document`: see `wavequeue plan --json`. `faults`: why it cannot run here, in words."""

    document: Mapping[str, Any]
    machine: Machine
    warnings: tuple[str, ...]
    faults: tuple[str, ...]


def plan_spec(spec: str) -> Planned:
    """Plan a spec: its phases and jobs, the GPUs that there are, and how long it takes. Starts nothing.

    Raises SpecErrors where the spec cannot be built, FailedError.
    """
    warnings: list[str] = []
    built = build(spec, warnings.append)
    beside = Path(spec).absolute().parent
    manifest = settle(built.manifest, beside)
    document = local_manager.examine(manifest)
    found, there = document["probe"], existing_outputs.read(document)
    checked = local_preflight.check(manifest, found)
    usable = [row for row in found["gpus"] if may_use(row["index"], manifest.gpus)]
    machine = Machine(found["host"], found["cpus"], tuple(row["total_mib"] or 0 for row in usable))
    faults = [checked.refusal] if checked.refusal else []
    warnings += [*hosts_warning(manifest), *checked.warnings]
    warnings += local_preflight.unset_words(document, {job.id for job in manifest.jobs})
    if there is not None:
        refused = live_runs.refusal(there.live, spec)
        faults += [refused] if refused else []
        warnings += [] if refused else live_runs.warnings(there.live)
        warnings += existing_outputs.words(there, manifest.jobs)
    if not Path(manifest.cwd).is_dir():
        faults.append(f"cwd {manifest.cwd} is not there")
    made = plan.plan(manifest, machine, plan.history(earlier(manifest.project, beside)), [*warnings, *faults])
    made["totals"]["outputs_there"] = None if there is None else len(there.outputs)
    return Planned(made, machine, tuple(warnings), tuple(faults))
