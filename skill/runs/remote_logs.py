"""Logs of jobs on hosts: read over SSH, followed over attempts and cut connections, or as they were pulled before."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Union

from queue_manager.core import events
from queue_manager.core.events import (
    AttemptEnded,
    AttemptStarted,
    AttemptStarting,
    CodeSeen,
    JournalError,
    Record,
    RecoveryChosen,
)
from queue_manager.core.layout import RunPaths
from queue_manager.core.status import Status
from queue_manager.core.times import duration
from skill.common.errors import FailedError, UseError
from skill.hosts.connection import Host, Unreachable
from skill.runs import assignment, directory, logs, pulled_states, requests, state_schema
from skill.runs.access import Evidence, JobLog
from skill.runs.digest import FINAL, Row, reason
from skill.runs.directory import Run
from skill.runs.local import read_log
from skill.runs.logs import Followed
from skill.runs.remote import RemoteRun

_PAUSE, _MOST_PAUSE = 0.2, 1.0
"""Seconds between two questions while nothing comes: the first, and at most."""
_AGAIN, _MOST_AGAIN = 0.5, 5.0
"""Seconds until a host that does not answer is asked again: the first time, and at most."""
_IN_VAIN = frozenset({"auth", "host_key", "shell"})
"""Kinds of Unreachable that do not pass by themselves."""


class Piece(NamedTuple):
    """What a host says of a job and of its log, in one answer; see queue_manager.remote.control.log.

    `document`: its state with the row of this job alone. It was read before the log was, and so was `goes_on`: whether
    anything there may still end the job. `file` names the log that `data` is of; None where there is none yet.
    `begin` and `size` in bytes. `attempt`: whose log it is; None where no later one has a log.
    """

    host: str
    document: Mapping[str, Any]
    goes_on: bool
    file: str | None
    begin: int
    size: int
    data: bytes
    attempt: int | None

    @property
    def row(self) -> Row:
        """How the job stands."""
        found: Row = self.document["jobs"][0]
        return found

    @property
    def end(self) -> int:
        """Where the data ends in the file."""
        return self.begin + len(self.data)


_STATUSES = tuple(status.value for status in Status)
Answer = Union[Piece, Unreachable, str]
Ask = Callable[..., Answer]
"""Asks for a log, by what queue_manager.remote.control.log takes beside the job."""


def host_of(remote: RemoteRun, job: str) -> str:
    """The host that a job belongs to. Raises UseError where there is no such job, FailedError."""
    found = remote.owner().get(job)
    if found is None:  # it may have been added there since
        host: str = requests.one(remote.look(full=True), job)["host"]
        return host
    return found


class Asker:
    """Asks the host that has a job for its log, over one connection that is made anew where it was cut."""

    def __init__(self, remote: RemoteRun, job: str) -> None:
        self._remote, self._job = remote, job
        self.host = host_of(remote, job)

    def __call__(self, **asked: Any) -> Answer:
        """What queue_manager.remote.control.log takes beside the job. What names a file on one host means none on
        another."""
        host, _, file = (asked.get("file") or "").rpartition(" ")
        if host == self.host:
            asked["file"] = file
        answer = self._remote.call(self.host, {"op": "log", "job": self._job, **asked})
        found = read_answer(answer, self.host, self._job) if isinstance(answer, dict) else answer
        return f"{self.host}: {found}" if isinstance(found, str) else found

    def again(self, why: Unreachable) -> None:
        """The host was not reached, and will be asked again: by then the job may have gone to another.

        Raises FailedError where asking again is in vain.
        """
        self._remote.refresh()
        host, self.host = self.host, host_of(self._remote, self._job)
        if host == self.host and (why.kind in _IN_VAIN or not isinstance(self._remote.way(host), Host)):
            raise FailedError(f"{host}: {why.reason}")


def read_answer(answer: Mapping[str, Any], host: str, job: str) -> Piece | str:
    """What a host answered when it was asked for a log; in words, where that is none."""
    try:
        document, file = answer["state"], answer["file"]
        words = state_schema.fault(document)
        if words is not None:
            return f"what it sent is not a state of a run ({words})"
        (row,) = document["jobs"]
        begin, size, attempt = answer["begin"], answer["size"], answer["attempt"]
        if row["id"] != job or not all(type(one) is int and one >= 0 for one in (begin, size, attempt or 0)):
            raise ValueError("another job")
        if not (file is None or isinstance(file, str)) or type(answer["goes_on"]) is not bool:
            raise ValueError("file")
        data = base64.b64decode(answer["data"], validate=True)
        document = {
            **state_schema.clean({**document, "jobs": []}),
            "jobs": [{**state_schema.clean(row), "id": job, "host": host}],
        }
        name = None if file is None else f"{host} {file}"
        return Piece(host, document, answer["goes_on"], name, begin, size, data, attempt)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return f"what it sent is not a log of {job} ({str(error)[:80]!r})"


# -- reading ------------------------------------------------------------------------------------------------------


def read(ask: Ask, first: Piece, attempt: int | None) -> Iterator[bytes]:
    """A log from its first piece on, up to where it ended then. Raises FailedError where the rest cannot be had."""
    yield first.data
    at = first.end
    while first.data and at < first.size:
        piece = ask(attempt=attempt, file=first.file, offset=at)
        if not isinstance(piece, Piece):
            why = f"{first.host}: {piece.reason}" if isinstance(piece, Unreachable) else piece
            raise FailedError(f"{why}; the log was read up to byte {at} of {first.size}")
        if piece.file != first.file or not piece.data:
            raise FailedError(
                f"{first.host}: the log disappeared while it was being read, at byte {at} of {first.size}"
            )
        yield piece.data
        at = piece.end


class _Place:
    """How far the logs of a job have been read.

    `file` is open, up to byte `at`, and is that of attempt `number`; where none is, `attempt` is asked for.
    """

    def __init__(self, lines: int | None) -> None:
        self.lines = lines
        self.host: str | None = None
        self.file: str | None = None
        self.at = self.number = 0
        self.attempt: int | None = None

    def question(self) -> dict[str, Any]:
        if self.file is not None:
            return {"file": self.file, "offset": self.at}
        return {"lines": self.lines} if self.attempt is None else {"attempt": self.attempt}

    def take(self, piece: Piece) -> Iterator[Followed]:
        """What a piece says that is new."""
        if self.host not in (None, piece.host):
            yield Followed(note=f"it is on {piece.host} now")
            self.file = self.attempt = self.lines = None
            self.number = 0
        self.host = piece.host
        if piece.file is None:
            return
        if piece.file != self.file:
            begun = self.number > 0
            # The state may be behind the logs.
            self.number = piece.attempt or max(self.attempt or self.number + 1, piece.row["attempt"])
            if begun:
                yield Followed(note=f"attempt {self.number} begins")
        self.file, self.at, self.attempt = piece.file, piece.end, None
        yield Followed(piece.data)

    def is_at_end(self, piece: Piece) -> bool:
        """Whether all of the newest log that there is has been read; else it is time to ask again at once."""
        if piece.file is None:
            if self.attempt is None or piece.row["attempt"] <= self.attempt:
                return True
            self.attempt += 1  # that one wrote nothing
            return False
        if self.at < piece.size:
            return not piece.data
        if piece.attempt is not None:
            self.file, self.attempt = None, piece.attempt + 1
        return piece.attempt is None


def follow_log(
    ask: Ask, lines: int | None, again: Callable[[Unreachable], None], sleep: Callable[[float], None] = time.sleep
) -> Iterator[Followed]:
    """Give a job's log as it comes, over all its attempts, until the job has ended.

    Begins with the last `lines` lines (None: all). A host that is not reached is asked until it is, from where the log
    was read to; `again` is told before, and may raise. Raises FailedError where the host says that it cannot go on, or
    nobody is left to end the job.
    """
    place = _Place(lines)
    waiting, lost, pause, trying = "", False, _PAUSE, _AGAIN
    while True:
        piece = ask(**place.question())
        if isinstance(piece, str):
            raise FailedError(piece)
        if isinstance(piece, Unreachable):
            again(piece)
            if not lost:
                yield Followed(note=f"unreachable: {piece.reason}; trying again until it answers")
            lost = True
            sleep(trying)
            trying = min(_MOST_AGAIN, 2 * trying)
            continue
        if lost:
            yield Followed(note=f"{piece.host} is reachable again")
        lost, trying = False, _AGAIN
        yield from place.take(piece)
        if not place.is_at_end(piece):
            continue
        row = piece.row
        if row["status"] in FINAL:
            yield Followed(note=logs.ended(row))
            return
        if not piece.goes_on:
            raise FailedError(
                f"the manager on {piece.host} has died, and this job is not running; continue with: wavequeue resume"
            )
        note = "" if row["status"] == "running" else f"{row['status']}: {reason(row)}"
        if note and note != waiting:
            yield Followed(note=note)
        waiting = note
        pause = _PAUSE if piece.data else min(_MOST_PAUSE, 1.5 * pause)
        sleep(pause)


# -- what is here ----------------------------------------------------------------------------------------------


class Pulled(NamedTuple):
    """A log as it was pulled. `row`: how the job stood then; `age` in words."""

    path: Path
    row: Row
    age: str


def pulled(remote: RemoteRun, host: str, job: str, attempt: int | None) -> Pulled | None:
    """The log of an attempt (None: the newest) as it was pulled; None where it was not."""
    run = remote.run
    document = pulled_states.documents(run, remote.assigned).get(host)
    row = next((row for row in (document or {"jobs": []})["jobs"] if row["id"] == job), None)
    folder = mirrored(run, host)
    if document is None or row is None or not folder.paths.log_dir.is_dir():
        return None
    try:
        path = logs.log_path(folder, row, attempt, {one["id"] for one in document["jobs"]})
    except UseError:  # there was none by then
        return None
    at = pulled_states.age(remote.assigned, host, time.time())
    age = "pulled at an unknown time" if at is None else f"pulled {duration(at)} ago"
    return Pulled(path, state_schema.clean(row), age) if path.is_file() else None


def mirrored(run: Run, host: str) -> Run:
    """What is here of a host, as if it were the run."""
    return Run(run.id, RunPaths.of(assignment.host_folder(run, host)))


# -- for one job ------------------------------------------------------------------------------------------------------


def log(remote: RemoteRun, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
    """See RunAccess.log. While the host is not reached, what was pulled of the log stands for it."""
    ask = Asker(remote, job)
    first = ask(attempt=attempt, lines=lines)
    name = f"run {remote.run.id}, job {job}"
    if isinstance(first, Unreachable):
        kept = pulled(remote, ask.host, job, attempt)
        if kept is not None and (not follow or kept.row["status"] in FINAL):
            stood = f"attempt {attempt or kept.row['attempt']}, {kept.row['status']} then"
            unreachable = f"wavequeue: {ask.host} is unreachable: {first.reason}"
            return JobLog((unreachable, f"{name}, {stood}; this was {kept.age}"), read_log(kept.path, lines))
    if follow:
        return JobLog((name,), follow_log(ask, lines, ask.again))
    if isinstance(first, Unreachable):
        what = "its log" if attempt is None else f"the log of attempt {attempt}"
        raise FailedError(f"{ask.host} is unreachable: {first.reason}; {what} was not pulled before")
    if isinstance(first, str):
        raise FailedError(first)
    logs.check_attempt(first.row, attempt)
    note = f"attempt {attempt or first.row['attempt']}, {first.row['status']}"
    return JobLog((f"{name} on {first.host}, {note}",), _whole(ask, first, attempt))


def _whole(ask: Ask, first: Piece, attempt: int | None) -> Iterator[Followed]:
    if first.file is None or (attempt is not None and first.attempt not in (None, attempt)):
        raise FailedError(f"{first.host}: its log does not exist: the attempt has written nothing yet")
    for data in read(ask, first, attempt):
        yield Followed(data)


def evidence(remote: RemoteRun, job: str, lines: int) -> Evidence:
    """See RunAccess.evidence."""
    document = remote.look(full=True)
    manifest = remote.manifest
    host = remote.owner().get(job)
    if host is None or all(spec.id != job for spec in manifest.jobs):
        host = requests.one(document, job)["host"]
    reachable = any(row["name"] == host and row["reachable"] for row in document["meta"]["hosts"])
    found = records(remote, host, job, reachable=reachable)
    ask = Asker(remote, job)
    piece = ask(lines=lines) if reachable else None
    data = b""
    if isinstance(piece, Piece):
        with contextlib.suppress(FailedError):  # cut off in the middle: what came tells something
            for part in read(ask, piece, None):
                data += part
    elif (kept := pulled(remote, host, job, None)) is not None:
        data = logs.tail(kept.path, lines)
    log = [str(state_schema.clean(line)) for line in logs.plain(data).splitlines()]
    return Evidence(document, manifest, found, log)


# -- the journal --------------------------------------------------------------------------------------------------


def records(remote: RemoteRun, host: str, job: str, *, reachable: bool) -> list[Record]:
    """The journal's records about attempts of a job: of its host, or as pulled where that is not reached."""
    needles = [f'"job":"{job}"', '"CodeSeen"']
    answer = remote.call(host, {"op": "journal", "needles": needles}) if reachable else None
    if isinstance(answer, dict):
        lines = answer.get("lines")
        found = [record for line in (lines if isinstance(lines, list) else ()) if (record := _decode(line)) is not None]
    else:
        found = []
        with contextlib.suppress(FailedError):
            found = directory.records(mirrored(remote.run, host), needles)
    return [record for one in found if (record := _or_raise(one)) is not None]


def _decode(line: Any) -> Record | None:
    with contextlib.suppress(JournalError, TypeError, AttributeError, RecursionError):
        return events.decode(line)
    return None


def _or_raise(record: Record) -> Record | None:
    """A record about an attempt, with nothing that would command a terminal; None where it is none."""
    event = record.event
    if isinstance(event, CodeSeen) and isinstance(event.code, str | None) and isinstance(event.since, int | float):
        return record._replace(event=replace(event, code=event.code and str(state_schema.clean(event.code))))
    if isinstance(event, RecoveryChosen):
        return record._replace(event=replace(event, action=str(state_schema.clean(str(event.action)))))
    if not isinstance(event, (AttemptStarting, AttemptStarted, AttemptEnded)) or type(event.n) is not int:
        return None
    if isinstance(event, AttemptStarting):
        return record if all(type(index) is int for index in event.indices) else None
    if isinstance(event, AttemptEnded):
        if event.status not in _STATUSES or not (event.exit_code is None or isinstance(event.exit_code, int)):
            return None
        words = [None if text is None else state_schema.clean(str(text)) for text in (event.error, event.warning)]
        return record._replace(event=replace(event, error=words[0], warning=words[1]))
    return record
