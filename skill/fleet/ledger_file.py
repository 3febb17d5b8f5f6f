"""The ledger of a project: .wavequeue/ledger.jsonl beside workers.yaml. Lines are appended and never changed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from skill.common.files import append_to, make_directory, read_text, wait_for_lock
from skill.common.project import ProjectPaths
from skill.fleet import ledger
from skill.fleet.ledger import Rental

_MOST = 64 << 20


def rentals(registry: Path) -> dict[str, Rental]:
    """Return what was rented, by label. Raises UseError where the ledger cannot be read."""
    file = ProjectPaths.of(registry).ledger
    try:
        return ledger.fold(read_text(file, _MOST), str(file))
    except FileNotFoundError:
        return {}


def by_instance(registry: Path) -> dict[int, Rental]:
    """Return those that became instances, by their number. Raises UseError."""
    return {one.instance_id: one for one in rentals(registry).values() if one.instance_id is not None}


def note(registry: Path, event: str, label: str, **fields: Any) -> None:
    """Append a line; it is on disk when this returns. Raises OSError."""
    file = ProjectPaths.of(registry).ledger
    make_directory(file.parent)
    with append_to(file) as lines:
        wait_for_lock(lines)
        # What a killed writer left is no line: it goes, so that ours begins one.
        lines.seek(0)
        text = lines.read()
        lines.truncate(text.rfind(b"\n") + 1)
        lines.write(ledger.line(event, label, time.time(), **fields).encode())
        lines.flush()
        os.fsync(lines.fileno())
