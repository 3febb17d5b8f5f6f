"""Check whether a manifest can run on a machine, by the document of a probe. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.launchers import LAUNCHERS
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.model import Need
from queue_manager.core.placement import impossible
from queue_manager.core.readings import Card, may_use
from queue_manager.core.state_types import need_of

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Findings(NamedTuple):
    """`refusal`: why nothing may be started, or None. `warnings`: what does not prevent the start."""

    refusal: str | None
    warnings: list[str]


NO_SCREEN = "screen is not installed, and every job runs in one"
WITHOUT = "launcher: process"


def needs_screen(manifest: Manifest) -> bool:
    """Whether the jobs of a manifest run in screens."""
    return LAUNCHERS[manifest.launcher].program == "screen"


def check(manifest: Manifest, probe: dict[str, Any]) -> Findings:
    """Compare what the jobs ask for with what the machine has."""
    if needs_screen(manifest):
        if probe["screen"] is None:
            return Findings(f"{NO_SCREEN}: sudo apt-get install -y screen; or add to the spec: {WITHOUT}", [])
        if probe["screen"].get("fault"):
            return Findings(f"screen does not run here, and every job runs in one: {probe['screen']['fault']}", [])
    if probe.get("bash", "") is None:
        return Findings("bash is not installed, and jobs' commands are run by it: sudo apt-get install -y bash", [])
    gpu_jobs = [job for job in manifest.jobs if job.gpus > 0]
    if not gpu_jobs:
        return Findings(None, [])
    if "gpu_unreadable" in probe:
        text = f"the GPUs cannot be read now, and jobs that need one wait until they can: {probe['gpu_unreadable']}"
        return Findings(None, [text])
    if not probe["gpus"]:
        return Findings(_no_cards(manifest, gpu_jobs, probe.get("gpu_note", "")), [])
    return _never_placed(manifest, gpu_jobs, _usable(manifest, probe))


def environment(document: Mapping[str, Any]) -> Findings:
    """Judge the environment that the spec names, as the host entered it; nothing where it names none."""
    found = document.get("activation")
    if not found:
        return Findings(None, [])
    if found["fault"] is not None:
        return Findings(f"{found['kind']} {found['name']}: {found['fault']}", [])
    return Findings(None, [found["note"]] if found.get("note") else [])


def unset_words(document: Mapping[str, Any], jobs: Collection[str]) -> list[str]:
    """What variables jobs and notify would miss, from the document of queue_manager.remote.preflight, which a host may
    have made up."""
    rows, names = document.get("unset"), document.get("unset_notify")
    found = [
        f"{name} is set neither in .env nor in the environment there, and notify needs it: no alerts are sent "
        f"until {name}=VALUE is in .env, or the run is started with it"
        for name in (names if isinstance(names, list) else ())
        if isinstance(name, str) and _VARIABLE.fullmatch(name)
    ]
    for name, ids in rows.items() if isinstance(rows, dict) else ():
        named = [job for job in ids if isinstance(job, str) and job in jobs] if isinstance(ids, list) else []
        if named and _VARIABLE.fullmatch(name):
            found.append(
                f"{name} is set neither in .env nor in the environment there, and {_take(len(named))} it "
                f"({listed(named, 5)}): write {name}=VALUE into .env, or export it first"
            )
    return found


def _take(count: int) -> str:
    return "1 job takes" if count == 1 else f"{count} jobs take"


def _usable(manifest: Manifest, probe: dict[str, Any]) -> list[Card]:
    """The cards that the run may use. A sick one counts, since it may recover; its memory is not known."""
    return [
        Card(row["index"], row["uuid"], row["name"], row["total_mib"] or 1 << 40, row["used_mib"] or 0)
        for row in probe["gpus"]
        if may_use(row["index"], manifest.gpus)
    ]


def _no_cards(manifest: Manifest, gpu_jobs: Sequence[JobSpec], note: str) -> str:
    some = len(gpu_jobs) < len(manifest.jobs)
    names = dict.fromkeys(job.phase for job in gpu_jobs)
    phases = (
        f", in phase {listed(names)}" if some and len(names) == 1 else f", in phases {listed(names)}" if some else ""
    )
    count = f"{len(gpu_jobs)} of {len(manifest.jobs)} jobs ask" if some else _all_ask(len(gpu_jobs))
    return (
        f"this machine has no GPU ({note or 'none was found'}), and {count} for one{phases}. Nothing was started.\n"
        "What would work:\n"
        "  - on the CPU here: write `gpus: 0` into the template (or the job) that can run without a GPU\n"
        "  - run this spec on a machine that has a GPU"
    )


def _all_ask(count: int) -> str:
    return "the only job asks" if count == 1 else f"all {count} jobs ask"


def _never_placed(manifest: Manifest, gpu_jobs: Sequence[JobSpec], cards: Sequence[Card]) -> Findings:
    """Jobs that no state of these cards can serve, by reason."""
    words: dict[Need, str | None] = {}
    hopeless: dict[str, list[str]] = {}
    for job in gpu_jobs:
        need = need_of(job)
        if need not in words:
            words[need] = impossible(need, cards, manifest.gpus)
        reason = words[need]
        if reason is not None:
            hopeless.setdefault(reason, []).append(job.id)
    count = sum(map(len, hopeless.values()))
    lines = [f"{_can(len(ids))} never run here ({listed(ids, 5)}): {reason}" for reason, ids in hopeless.items()]
    if count == len(manifest.jobs):
        return Findings("\n".join([*lines, "Nothing was started."]), [])
    return Findings(None, lines)


def _can(count: int) -> str:
    return "1 job can" if count == 1 else f"{count} jobs can"
