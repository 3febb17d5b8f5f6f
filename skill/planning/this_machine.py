"""Check a manifest on this machine as on a host: what it would meet here, and which of its jobs could start. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from queue_manager.core.manifest import Manifest
from skill.planning import host_preflight, local_preflight
from skill.planning.host_needs import Way
from skill.planning.host_preflight import Basics, Seen, Verdict
from skill.runs.dependencies import Dependencies

NAME = "this machine"
_ONLY_FAR = ("ssh", "code", "rsync", "clock")
"""Checks of what lies between two machines."""


def judge(manifest: Manifest, document: Mapping[str, Any]) -> Verdict:
    """Judge this machine by the document of queue_manager.remote.preflight. `manifest`: with an absolute cwd."""
    probe = document["probe"]
    python = probe["python"]
    version = f"{python['version']} {python['executable']}"
    basics = Basics(version, "", probe["screen"] is not None, probe["disk_free_mib"])
    seen = Seen(NAME, None, basics, document, way=Way(pushed=False, there=True), is_here=True)
    found = host_preflight.judge(manifest, [job.id for job in manifest.jobs], seen, lambda *_: False)
    never = local_preflight.check(manifest, probe)
    return found._replace(
        cells={name: cell for name, cell in found.cells.items() if name not in _ONLY_FAR},
        faults=(*([never.refusal] if never.refusal else []), *found.faults),
        warnings=tuple(dict.fromkeys([*never.warnings, *found.warnings])),
    )


def startable(manifest: Manifest, blocked: Collection[str]) -> int:
    """How many jobs could run, sooner or later, where some are blocked for as long as nothing changes."""
    dependencies = Dependencies(manifest)
    stopped = set(blocked)
    while True:
        held: dict[str, bool] = {}
        further = set()
        for job in manifest.jobs:
            if job.id in stopped:
                continue
            for need in dependencies.needs(job.id):
                if need.name not in held:
                    held[need.name] = not stopped.isdisjoint(need.ids)
                if held[need.name]:
                    further.add(job.id)
                    break
        if not further:
            return len(manifest.jobs) - len(stopped)
        stopped |= further
