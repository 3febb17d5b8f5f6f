"""The one interface to a run, wherever it is: `LocalRun` on this machine, `RemoteRun` on hosts. See
`skill.runs.open`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from queue_manager.core.events import JobsAdded, Record
    from queue_manager.core.manifest import JobSpec, Manifest
    from queue_manager.core.requests import Request
    from skill.hosts.connection import Unreachable
    from skill.runs.digest import Row
    from skill.runs.directory import Document, Run
    from skill.runs.logs import Followed as LogPiece
    from skill.runs.requests import Asked
    from skill.runs.watched import Followed

Share: TypeAlias = "Callable[[Manifest, Sequence[JobSpec], Mapping[str, str], Document], Mapping[str, JobsAdded]]"
"""Assigns new jobs to hosts: from the manifest with them, the jobs, the host of each existing job, and the state of the
run. Raises UseError."""


class Outcome(NamedTuple):
    """The outcome of a request at one manager. `host`: its name; empty for a run on this machine. `started`: the
    manager had ended and was started again. `notices`: lines for the user about that start."""

    host: str
    asked: Asked | Unreachable | str
    started: bool
    notices: tuple[str, ...] = ()


class Evidence(NamedTuple):
    """What is known of one job: the state of its run, the run's manifest, the journal's records about the job, and the
    last lines in the log of its newest attempt."""

    document: Document
    manifest: Manifest
    records: Sequence[Record]
    log: Sequence[str]


class JobLog(NamedTuple):
    """A log. `about`: lines that say whose log it is, and how old. `pieces` may raise FailedError."""

    about: tuple[str, ...]
    pieces: Iterable[LogPiece]


class Results(NamedTuple):
    """What jobs wrote, where it is on this machine, by the job's id.

    `found`: number of output files of each completed job that has an expected_output; `numbers`: those of its JSON
    output; `away`: completed jobs whose results have not been pulled. `last_line`: the last line of a job's log; `log`:
    the path of the log of its newest attempt on this machine, None where it is not here.
    """

    found: Mapping[str, int]
    numbers: Mapping[str, Mapping[str, float]]
    away: tuple[str, ...]
    last_line: Callable[[Row], str]
    log: Callable[[Row], Path | None]


class RunAccess(Protocol):
    """One run. Use it in a `with` block, which closes its connections.

    All methods raise FailedError where what they need cannot be read, and UseError for a job that does not exist.
    """

    run: Run

    def __enter__(self) -> RunAccess: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    @property
    def names(self) -> list[str]:
        """The hosts of the run; empty for a run on this machine."""

    @property
    def manifest(self) -> Manifest:
        """The manifest, with later additions and changes, where they are known here."""

    def begin(self) -> bool:
        """Start the manager of a run that has no state, or a damaged one. Returns False where there is nothing to
        start."""

    def look(self, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> Document:
        """Return the present state. `full`: with every job; without it a host leaves out jobs that ended long ago.
        `meanwhile`: called while the hosts answer."""

    def alive(self, document: Document) -> bool:
        """Return whether a manager is running, as `look` found it."""

    def tail(self, row: Row) -> str:
        """Return the last line in the log of a running job, as `look` found it."""

    def watch(self) -> Followed:
        """Follow the run from now on; `close` the result."""

    def evidence(self, job: str, lines: int) -> Evidence:
        """Return what is known of a job, with the last `lines` lines of its log."""

    def log(self, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
        """Return the log of an attempt (None: the newest), or its last lines. `follow`: until the job has ended."""

    def results(self, document: Document) -> Results:
        """Return what completed jobs wrote. `document`: the state with every job."""

    def history(self, needles: Iterable[str]) -> dict[str, list[Record]]:
        """Return the records of each manager whose line in the journal contains one of `needles`, where the journal is
        on this machine, by host; for a run on this machine under an empty name."""

    def request(self, document: Document, request: Request, *, start: bool) -> list[Outcome]:
        """Send a request to all managers that it concerns, at once. `start`: start a manager where none is running.
        Empty if it concerns none. A failure on one host stops no other."""

    def add(self, document: Document, request: Request, share: Share) -> list[Outcome]:
        """Add jobs; on hosts, as `share` assigns them."""
