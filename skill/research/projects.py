"""The projects of the research files: research/PROJECT/project.yaml of each, which people write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from build_manifest.faults import Fault, SpecErrors
from skill.common.errors import UseError
from skill.common.project import ResearchPaths
from skill.hosts.registry import mapping_in, place_of
from skill.research.record_faults import RecordFault, record_faults, unknown
from skill.research.records import Project, Record

TEMPLATES = Path(__file__).with_name("templates")
"""What a project begins with; `init` copies it beside the queues, where people may change it."""
BEGIN = "begin one: wavequeue research init --title TITLE --idea IDEA --target TARGET --metric METRIC"


def names(paths: ResearchPaths) -> list[str]:
    """The ids of all projects: the directories of research/ that have a project.yaml."""
    return sorted(found.parent.name for found in paths.research.glob("*/project.yaml"))


def check(name: str, known: Iterable[str]) -> None:
    """Raise UseError, with the nearest project there is, where this one is not among them."""
    known = list(known)
    if name not in known:
        raise UseError("; ".join(unknown("project", name, known, BEGIN)))


def read(paths: ResearchPaths, name: str) -> Record:
    """A project as its file has it. Raises UseError where there is none, SpecErrors with all that is wrong with it."""
    check(name, names(paths))
    file = paths.study(name).settings
    tree = mapping_in(file)
    if tree is None:
        raise SpecErrors([Fault(str(file), 1, 1, "a project has to be a mapping", "begin with: title: TITLE")])
    project: Record = _plain(tree)
    found = [*record_faults(project, Project), *_identity(project, file)]
    if found:
        raise SpecErrors([Fault(str(file), *_place(tree, one), one.what, one.instead) for one in found])
    return project


def _identity(project: Mapping[str, Any], file: Path) -> Iterator[RecordFault]:
    name = file.parent.name
    if project.get("id", name) != name:
        yield RecordFault(("id",), f"this is the project {name}, by its directory", f"write id: {name}")


def _place(tree: Any, fault: RecordFault) -> tuple[int, int]:
    for step in fault.at[:-1]:
        tree = tree[step]
    return place_of(tree, fault.at[-1]) if fault.at else (1, 1)


def _plain(value: Any) -> Any:
    """A value of YAML without what its reader kept for writing it again."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
