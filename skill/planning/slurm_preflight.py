"""Judge whether a cluster can run a manifest, by what its Slurm said of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from build_manifest.faults import listed
from queue_manager.core.terminal_text import one_line
from skill.common.typed_json import fits
from skill.common.units import jobs_text
from skill.planning.preflight_schema import Slurm


class Findings(NamedTuple):
    """`short`: in a word; `faults`: why jobs can never run there; `warnings`: what else a person should know."""

    short: str
    faults: tuple[str, ...]
    warnings: tuple[str, ...]


def check(document: Mapping[str, Any]) -> Findings:
    """Judge a document of queue_manager.remote.preflight, which a host may have made up."""
    found = document.get("slurm")
    if fits(found, Slurm) is not None:
        return Findings("unknown", ("it does not say what its Slurm is",), ())
    assert isinstance(found, dict)
    if found["fault"] is not None:
        return Findings("no Slurm", (one_line(found["fault"], 300),), ())
    faults = [
        f"Slurm can never run {jobs_text(row['count'])} ({listed(row['jobs'], 5)}): {one_line(row['says'], 300)} "
        f"(asked for: {' '.join(row['options']) or 'nothing'})"
        for row in found["refused"]
    ]
    untried = found["untried"]
    warnings = [f"{untried} more kinds of needs were not tried with Slurm"] if untried else []
    return Findings(f"Slurm {found['version']}", tuple(faults), tuple(warnings))
