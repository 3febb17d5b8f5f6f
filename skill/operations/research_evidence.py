"""What the evidence of a project says together: a table for each phase, and effects against a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from build_manifest.faults import listed, nearest
from skill.common.errors import UseError
from skill.operations.research_projects import the_project
from skill.reports.cells import Table
from skill.research import evidence, evidence_files, projects
from skill.research.evidence import Aggregate, Evidence
from skill.research.store import Store


class Found(NamedTuple):
    """The evidence of a project. `control`: what its effects are compared with; empty where nothing says."""

    project: str
    lines: Sequence[Evidence]
    aggregate: Aggregate
    control: Mapping[str, str]

    def document(self) -> dict[str, Any]:
        """The document of `wavequeue research evidence --json`."""
        return {"project": self.project, "control": dict(self.control), **evidence.document(self.aggregate)}


def aggregate_evidence(workers: Path, project: str | None, control: Mapping[str, str] | None = None) -> Found:
    """Put the evidence of a project together (None: of the only one), and write that beside it.

    `control`: values of grid keys, in place of those of project.yaml; then nothing is written. Raises UseError where no
    cell has them, SpecErrors for what is wrong with files, OSError.
    """
    store = Store(workers)
    name = the_project(store, project)
    study = store.paths.study(name)
    own = projects.read(store.paths, name).get("control", {})
    lines = evidence_files.read(study.evidence)
    wanted = control or own
    made = evidence.aggregate(lines, wanted)
    if wanted and lines:
        _check(list(made.tables.values()), wanted, "--control" if control else f"{study.settings}: control")
    if not control and lines:
        evidence_files.write_aggregate(study.evidence, made)
    return Found(name, lines, made, wanted)


def _check(tables: Sequence[Table], control: Mapping[str, str], where: str) -> None:
    """Raise UseError where no phase has a cell with these values."""
    if any({**cell.key, **control} == cell.key for table in tables for cell in table.cells):
        return
    keys = list(dict.fromkeys(name for table in tables for name in table.keys))
    for name, value in control.items():
        values = list(dict.fromkeys(cell.key[name] for table in tables for cell in table.cells if name in cell.key))
        if name not in keys:
            close = nearest(name, keys)
            hint = f"did you mean {close}?" if close else f"there are: {listed(keys)}"
            raise UseError(f"{where} {name}={value}: no key is called {name}; {hint}")
        if value not in values:
            raise UseError(f"{where} {name}={value}: no run has this value; {name} is one of: {listed(values)}")
    raise UseError(f"{where} {listed(f'{key}={one}' for key, one in control.items())}: no cell has all of these values")
