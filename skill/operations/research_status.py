"""What all research projects are at, from the files alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from skill.common.errors import UseError
from skill.fleet import ledger, ledger_file
from skill.research import projects
from skill.research.overview import Row, overview
from skill.research.store import Store


class Overview(NamedTuple):
    """A row for each project, and the USD that all rented machines cost so far."""

    rows: tuple[Row, ...]
    spent: float


def project_status(workers: Path) -> Overview:
    """Look at all projects. Raises UseError where there are none, SpecErrors where a file is wrong."""
    store = Store(workers)
    names = projects.names(store.paths)
    if not names:
        raise UseError(f"there is no project beside {workers}; {projects.BEGIN}")
    rented = ledger_file.rentals(workers).values()
    prices = {one.worker: one.offered.dph for one in rented}
    found = {name: projects.read(store.paths, name) for name in names}
    rows = overview(found, store.read("idea"), store.read("run"), prices)
    return Overview(tuple(rows), ledger.spent(rented, time.time()))
