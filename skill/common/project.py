"""The one owner of where files of a project are: workers.yaml, what people write beside it, and what is kept there."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

WORKERS = "workers.yaml"
"""The file that names the hosts of a project; its directory is that of the project."""
ENV = ".env"
SETTINGS = "vast.yaml"
"""What people write about renting machines."""
QUEUES = ("idea", "benchmark", "run", "publication")
"""The queues of the research files, each a JSON array."""
KEPT = ".wavequeue"
"""The directory of a project in which is kept what no person writes."""


def locate_workers(cwd: Path | None = None) -> Path:
    """workers.yaml of a directory (None: the present one) or of its nearest parent that has one; else where it would be
    made."""
    cwd = Path.cwd() if cwd is None else cwd
    for folder in (cwd, *cwd.parents):
        if (folder / WORKERS).exists():
            return folder / WORKERS
    return cwd / WORKERS


def workers_of(run: Path) -> Path:
    """workers.yaml of the project that a run lies in; where that has none, that of the present directory."""
    found = locate_workers(run)
    return found if found.exists() else locate_workers()


class ProjectPaths(NamedTuple):
    """Where each file of a project is. `kept`: the directory of what no person writes."""

    workers: Path
    env: Path
    setup: Path
    settings: Path
    blacklist: Path
    kept: Path
    known_hosts: Path
    ledger: Path
    workers_lock: Path
    blacklist_lock: Path
    rent_lock: Path
    watcher_lock: Path
    watcher_state: Path
    watcher_log: Path
    up_log: Path

    @classmethod
    def of(cls, workers: Path) -> ProjectPaths:
        """The files of the project that this workers.yaml is of; it need not exist."""
        beside, kept = workers.parent, workers.parent / KEPT
        return cls(
            workers,
            beside / ENV,
            beside / "setup.sh",
            beside / SETTINGS,
            beside / "vast_blacklist.json",
            kept,
            kept / "known_hosts",
            kept / "ledger.jsonl",
            kept / "workers.lock",
            kept / "vast_blacklist.lock",
            kept / "rent.lock",
            kept / "watcher.lock",
            kept / "watcher.json",
            kept / "watcher.log",
            kept / "up.log",
        )


class ResearchPaths(NamedTuple):
    """Where the research files of a project directory are: beside workers.yaml. `ids`: the highest number that was
    given to a record of each kind, so that none is given twice."""

    workers: Path
    root: Path
    queues: Path
    schemas: Path
    templates: Path
    research: Path
    lock: Path
    ids: Path

    @classmethod
    def of(cls, workers: Path) -> ResearchPaths:
        """The research files beside this workers.yaml; nothing of it need exist."""
        beside, kept = workers.parent, workers.parent / KEPT
        folders = (beside / "queues", beside / "schemas", beside / "templates", beside / "research")
        return cls(workers, beside, *folders, kept / "research.lock", kept / "research_ids.json")

    def queue(self, name: str) -> Path:
        """The file of one of QUEUES."""
        return self.queues / f"{name}_queue.json"

    def last_good(self, name: str) -> Path:
        """The last good copy of a queue, beside it."""
        return self.queues / f"{name}_queue.json.last-good"

    def study(self, project: str) -> StudyPaths:
        """The files of one research project."""
        return StudyPaths.of(self.research / project)


class StudyPaths(NamedTuple):
    """The files of one research project, `research/PROJECT/`."""

    root: Path
    settings: Path
    evidence: Path
    paper: Path
    benchmarks: Path
    probes: Path

    @classmethod
    def of(cls, root: Path) -> StudyPaths:
        """The files in this directory; nothing of it need exist."""
        return cls(root, root / "project.yaml", *(root / one for one in ("evidence", "paper", "benchmarks", "probes")))
