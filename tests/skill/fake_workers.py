"""Workers as a folder: what they were sent is there as files, so that several processes see the same ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from skill.common.project import WORKERS
from skill.hosts.registry import Worker
from skill.operations.dispatch_runs import Launched, Seen
from skill.research import dispatch
from skill.research.records import Record
from skill.research.store import Store

CREATED = "2026-01-01T10:00:00Z"


class FolderWorkers:
    """Workers with so many slots each. A request that comes twice is done once, as a manager does it."""

    def __init__(self, folder: Path, slots: int, step: Callable[[str], None] = lambda _name: None) -> None:
        self.folder, self.slots, self._step = folder, slots, step

    def look(self, worker: Worker, records: Sequence[Record]) -> Seen | str:
        self._step("look")
        there = {name for _, _, name in self.began(worker.name)}
        claimed = {record["id"] for record in records if record["state"] == dispatch.CLAIMED}
        rows = [{"cards": 0, "gpus": []}] * len(there | claimed)
        return Seen(dispatch.room({}, self.slots, rows), frozenset(run for run, _, _ in self.began(worker.name)))

    def launch(self, worker: Worker, records: Sequence[Record]) -> Launched:
        for run, request in dict.fromkeys((record["run"], record["claim"]) for record in records):
            self._step("send")
            ids = [record["id"] for record in records if (record["run"], record["claim"]) == (run, request)]
            place = self.folder / worker.name / run
            place.mkdir(parents=True, exist_ok=True)
            draft = place / f".{request}.{os.getpid()}"
            draft.write_text("\n".join(ids))
            try:
                os.link(draft, place / request)
            except FileExistsError:
                assert (place / request).read_text().split() == ids, "one request, and other jobs"
            draft.unlink()
            self._step("sent")
        return Launched(frozenset(record["id"] for record in records))

    def began(self, worker: str | None = None) -> list[tuple[str, str, str]]:
        """What began: the wavequeue run, the request and the id, of a worker or of all."""
        return [
            (file.parent.name, file.name, name)
            for file in sorted(self.folder.glob(f"{worker or '*'}/*/*"))
            if not file.name.startswith(".")
            for name in file.read_text().split()
        ]


def make_store(root: Path, runs: Iterable[dict[str, Any]]) -> Store:
    """The research files of a project `moons` with these runs, and what they lack filled in."""
    (root / WORKERS).write_text("workers:\n")
    store = Store(root / WORKERS)
    study = store.paths.study("moons")
    study.root.mkdir(parents=True)
    study.settings.write_text(
        f'id: moons\ntitle: Moons\nidea: more\ntarget: 0.9\nmetric: acc\ncreated: "{CREATED}"\n'.replace("0.9", '"0.9"')
    )
    new = [
        {"project": "moons", "command": "true", "priority": 0, "state": "pending", "created": CREATED, "gpus": 0, **run}
        for run in runs
    ]
    store.add("run", lambda _records: new)
    return store
