"""The evidence of a project as files: JSON lines, a line a run, and what they say together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from build_manifest.faults import Fault, SpecErrors
from skill.common import typed_json
from skill.common.files import locked, make_users_directory, read_text, write_whole
from skill.research import evidence
from skill.research.evidence import Aggregate, Evidence, EvidenceError
from skill.research.queue_text import MOST

LINES, AGGREGATE = "runs.jsonl", "aggregate.json"
"""The file that check-runs writes; a person may put others of its kind beside it. And the aggregate of all."""


def read(folder: Path) -> list[Evidence]:
    """All evidence in a folder; of one run that is there twice, the first line. Raises SpecErrors with all faults."""
    found: dict[str, Evidence] = {}
    faults: list[Fault] = []
    for file in sorted(folder.glob("*.jsonl")):
        for one in _lines(file, read_text(file, MOST), faults):
            found.setdefault(one.run, one)
    if faults:
        raise SpecErrors(faults)
    return list(found.values())


def _lines(file: Path, text: str, faults: list[Fault]) -> list[Evidence]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            if line.strip():
                found.append(evidence.decode(line))
        except EvidenceError as error:
            faults.append(Fault(str(file), number, 1, str(error), "correct the line, or remove it"))
    return found


def append(folder: Path, lock: Path, new: Sequence[Evidence]) -> list[Evidence]:
    """Add evidence of runs that have none yet, and return it. What is there stays as it is. Raises SpecErrors, OSError.

    `lock`: that of the research files.
    """
    file = folder / LINES
    with locked(lock):
        make_users_directory(folder)
        known = {one.run for one in read(folder)}
        fresh = [one for one in new if one.run not in known]
        if fresh:
            before = read_text(file, MOST) if file.exists() else ""
            ending = "\n" if before and not before.endswith("\n") else ""
            write_whole(file, before + ending + "".join(map(evidence.encode, fresh)), mode=None)
    return fresh


def write_aggregate(folder: Path, made: Aggregate) -> None:
    """Write the aggregate beside the evidence, if it has changed. Raises OSError."""
    text = typed_json.pretty(json.loads(json.dumps(evidence.document(made))))
    file = folder / AGGREGATE
    if not file.exists() or read_text(file, MOST) != text:
        make_users_directory(folder)
        write_whole(file, text, mode=None)
