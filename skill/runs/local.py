"""A run on this machine: its files, and its manager."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from build_manifest import regular_file
from queue_manager.core import shell_paths
from queue_manager.core.events import Record
from queue_manager.core.manifest import Manifest
from queue_manager.core.requests import Request
from skill.common.errors import FailedError
from skill.runs import directory, local_manager, logs, outputs, requests
from skill.runs.access import Evidence, JobLog, Outcome, Results, Share
from skill.runs.digest import Row
from skill.runs.directory import Document, Run
from skill.runs.logs import Followed
from skill.runs.watched import Watched

_CHUNK = 1 << 20


class LocalRun:
    """See `skill.runs.access.RunAccess`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._alive = False
        self._manifest: Manifest | None = None
        self._read: tuple[tuple[int, int], Document] | None = None

    def __enter__(self) -> LocalRun:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    @property
    def names(self) -> list[str]:
        return []

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = directory.read_manifest(self.run)
        return self._manifest

    def begin(self) -> bool:
        if local_manager.is_alive(self.run) or not directory.is_state_lost(self.run):
            return False
        local_manager.start(self.run)
        return True

    def look(self, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> Document:  # noqa: ARG002
        document, self._alive = local_manager.look(self.run)
        return document

    def alive(self, document: Document) -> bool:  # noqa: ARG002
        return self._alive

    def tail(self, row: Row) -> str:
        return logs.last_line(Path(row["log"]))

    def watch(self) -> Watched:
        return Watched(self.run, directory.read_state(self.run))

    def _state(self) -> Document:
        """The state, read again once its file has changed: who asks about many jobs reads it once."""
        try:
            info = os.stat(self.run.paths.state)
            version = (info.st_mtime_ns, info.st_ino)
        except OSError:
            return directory.read_state(self.run)  # which says what is wrong
        if self._read is None or self._read[0] != version:
            self._read = version, directory.read_state(self.run)
        return self._read[1]

    def evidence(self, job: str, lines: int) -> Evidence:
        document = self._state()
        row = requests.one(document, job)
        records = directory.records(self.run, [f'"job":"{job}"', '"CodeSeen"'])
        log: list[str] = []
        if row["attempt"]:
            path = logs.log_path(self.run, row, None, _ids(document))
            if path.exists():
                log = logs.plain(logs.tail(path, lines)).splitlines()
        return Evidence(document, self.manifest, records, log)

    def log(self, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
        document = self._state()
        row, about = requests.one(document, job), f"run {self.run.id}, job {job}"
        if follow:
            path = logs.log_path(self.run, {**row, "attempt": max(1, row["attempt"])}, None, _ids(document))
            return JobLog((about,), self._follow(job, lines, path))
        path = logs.log_path(self.run, row, attempt, _ids(document))
        about += f", attempt {attempt or row['attempt']}, {row['status']}"
        return JobLog((about,), read_log(path, lines))

    def _follow(self, job: str, lines: int | None, path: Path) -> Iterator[Followed]:
        watched = self.watch()

        def look() -> Row:
            watched.look()
            return requests.one(watched.document, job)

        def goes_on() -> bool:
            row = requests.one(watched.document, job)
            return watched.alive or (row["status"] == "running" and _process_is_there(row))

        return logs.follow(path, lines, look, goes_on)

    def results(self, document: Document) -> Results:
        completed = {row["id"] for row in document["jobs"] if row["status"] == "completed"}
        found: dict[str, int] = {}
        numbers: dict[str, dict[str, float]] = {}
        for job in shell_paths.whole(self.manifest, os.environ).jobs:
            if job.id in completed and job.expected_output is not None:
                paths = outputs.files(os.path.join(document["meta"]["cwd"], job.cwd or ""), job.expected_output)
                found[job.id] = len(paths)
                if len(paths) == 1 and paths[0].endswith(".json"):
                    numbers[job.id] = outputs.read_numbers(paths[0])
        return Results(found, numbers, (), lambda row: logs.last_line(Path(row["log"])), lambda row: Path(row["log"]))

    def history(self, needles: Iterable[str]) -> dict[str, list[Record]]:
        return {"": directory.records(self.run, needles)}

    def request(self, document: Document, request: Request, *, start: bool) -> list[Outcome]:
        asked, started = requests.ask(self.run, request), False
        notices: tuple[str, ...] = ()
        if asked.answer is None and start and not asked.alive and asked.waits is None:
            local_manager.start(self.run, document["meta"]["poll"])
            notices = directory.start_notices(directory.read_state(self.run)["meta"]["conditions"])
            asked, started = requests.ask(self.run, request), True
        return [Outcome("", asked, started, notices)]

    def add(self, document: Document, request: Request, share: Share) -> list[Outcome]:  # noqa: ARG002 one machine
        return self.request(document, request, start=True)


def read_log(path: Path, lines: int | None) -> Iterator[Followed]:
    """The content of a log file, or its last lines. Raises FailedError where there is none."""
    try:
        if lines is not None:
            yield Followed(logs.tail(path, lines))
            return
        with regular_file.open_regular(path, follow=False) as file:
            while data := file.read(_CHUNK):
                yield Followed(data)
    except FileNotFoundError:
        raise FailedError(f"{path} does not exist: the attempt has written nothing yet") from None


def _ids(document: Document) -> set[str]:
    return {row["id"] for row in document["jobs"]}


def _process_is_there(row: Row) -> bool:
    pid = row["screen_pid"]
    return pid is not None and Path(f"/proc/{pid}").exists()
