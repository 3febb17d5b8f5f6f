"""Check all research files: each fault with its file, its line and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from build_manifest.faults import Fault, SpecErrors
from skill.common.errors import UseError
from skill.common.project import QUEUES
from skill.hosts.registry import Registry
from skill.research import evidence_files, projects, queue_text, references
from skill.research.records import Record
from skill.research.references import Known
from skill.research.store import Store


class Checked(NamedTuple):
    """What was looked at, and all that is wrong with it. `records`: how many each queue has, of those that can be
    read."""

    faults: tuple[Fault, ...]
    projects: int
    records: dict[str, int]


def validate(workers: Path) -> Checked:
    """Check queues, projects and evidence beside workers.yaml. Changes nothing. Raises UseError without any."""
    store = Store(workers)
    if not store.paths.queues.is_dir():
        raise UseError(f"there are no research files beside {workers}; {projects.BEGIN}")
    faults: list[Fault] = []
    names = projects.names(store.paths)
    for name in names:
        faults += _of_project(store, name)
    read: dict[str, tuple[str, list[Record]]] = {}
    for queue in QUEUES:
        try:
            read[queue] = store.text(queue)
        except SpecErrors as error:
            faults += error.faults
    known = Known(names, _ids(read, "idea"), _ids(read, "run"), _pools(workers))
    for queue, (text, records) in read.items():
        found = list(references.faults(records, known))
        faults += queue_text.faults(found, text, str(store.paths.queue(queue)))
    return Checked(tuple(faults), len(names), {queue: len(records) for queue, (_, records) in read.items()})


def _of_project(store: Store, name: str) -> Iterator[Fault]:
    try:
        evidence_files.read(store.paths.study(name).evidence)
    except SpecErrors as error:
        yield from error.faults
    try:
        projects.read(store.paths, name)
    except SpecErrors as error:
        yield from error.faults
    except UseError as error:  # no YAML: the text begins with file and line
        where, _, what = str(error).partition(": ")
        yield Fault(where, 0, 0, what)


def _ids(read: dict[str, tuple[str, list[Record]]], queue: str) -> set[str] | None:
    return {record["id"] for record in read[queue][1]} if queue in read else None


def _pools(workers: Path) -> set[str] | None:
    """The pools of workers.yaml; None where it cannot be read or has none, since hosts may come later."""
    try:
        return {one.pool for one in Registry.load(workers).workers.values() if one.pool} or None
    except UseError:
        return None
