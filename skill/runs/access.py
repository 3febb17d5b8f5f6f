"""The door to a run, wherever it lives: `LocalRun` on this machine, `RemoteRun` on hosts. See `skill.runs.open`."""

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
"""Gives each host its part of new jobs: from the manifest with them, the jobs, the host of each job that is there, and
the state of the run. Raises UseError."""


class Outcome(NamedTuple):
    """What became of a request at one manager. `host`: whose; empty for a run on this machine. `started`: the manager
    had gone and was started again. `notices`: what a person should know of that start."""

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
    """What jobs wrote, as far as it is on this machine, by the job's id.

    `found`: number of output files of each completed job that has an expected_output; `numbers`: those of its JSON
    output; `away`: completed jobs whose results have not been pulled. `last_line`: the last line of a job's log; `log`:
    where the log of its newest attempt is on this machine, None where it is not.
    """

    found: Mapping[str, int]
    numbers: Mapping[str, Mapping[str, float]]
    away: tuple[str, ...]
    last_line: Callable[[Row], str]
    log: Callable[[Row], Path | None]


class RunAccess(Protocol):
    """One run. Use it in a `with` block, which ends its connections.

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
        """The manifest, with what was added or changed since as far as is known here."""

    def begin(self) -> bool:
        """Start the manager of a run that has no state, or a damaged one. False where there is nothing to start so."""

    def look(self, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> Document:
        """The state now. `full`: with every job, where a host would leave out what ended long ago. `meanwhile`: what to
        do while hosts are waited for."""

    def alive(self, document: Document) -> bool:
        """Whether the run may go on by itself, as `look` found it."""

    def tail(self, row: Row) -> str:
        """The last line in the log of a running job, as `look` found it."""

    def watch(self) -> Followed:
        """The run, followed from now on; `close` what this gives."""

    def evidence(self, job: str, lines: int) -> Evidence:
        """What is known of a job, with the last `lines` lines of its log."""

    def log(self, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
        """The log of an attempt (None: the newest), or its last lines. `follow`: until the job has ended."""

    def results(self, document: Document) -> Results:
        """What completed jobs wrote. `document`: the state with every job."""

    def history(self, needles: Iterable[str]) -> dict[str, list[Record]]:
        """The records of each manager whose line in the journal holds one of `needles`, as far as the journal is on
        this machine, by host; of a run on this machine by an empty name."""

    def request(self, document: Document, request: Request, *, start: bool) -> list[Outcome]:
        """Ask all managers that a request is for, at once. `start`: where none lives, start one. Empty if it is for
        none of them. What fails on one host stops no other."""

    def add(self, document: Document, request: Request, share: Share) -> list[Outcome]:
        """Add jobs; on hosts, as `share` gives them out."""
