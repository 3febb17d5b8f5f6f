"""A run on hosts, reached from here: all its hosts asked at once, and one view over them.

A host that does not answer is unknown: what was last read of it is shown, with its age, and nothing is concluded.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Union

from skill.common import typed_json
from skill.common.errors import FailedError, UseError
from skill.common.project import workers_of
from skill.hosts import bootstrap, early_ssh, registry
from skill.hosts.connection import CommandResult, Host, Unreachable, each
from skill.hosts.registry import Registry
from skill.runs import assignment, directory, state_cache, state_schema
from skill.runs.access import Evidence, JobLog, Outcome, Results, Share
from skill.runs.assignment import LOST, MARKS, PLANNED, Assigned, Part
from skill.runs.digest import FINAL, Row
from skill.runs.directory import Document, Run
from skill.runs.merge import Look, merge

if TYPE_CHECKING:
    from queue_manager.core.events import Record
    from queue_manager.core.manifest import Manifest
    from queue_manager.core.requests import Request
    from skill.runs.host_poller import WatchedHosts
    from skill.runs.requests import Asked

TRIES = 2
LOOK = 20.0
"""Seconds for a host to say how it stands."""
_START = 90.0
_CONNECT = 15.0
"""Seconds for a connection, beside those for what is asked."""
T = TypeVar("T")
Why = Union[Unreachable, str]
"""Why there is no answer: the host is not reached, or it answered that it cannot, in words."""


class RemoteRun:
    """One run and its hosts. Connects when first asked; `close` it.

    `looks`: what is known of each host, by its name. Methods that take a host raise UseError where the run is not on
    it. Different hosts may be asked from different threads.
    """

    def __init__(self, run: Run, found: Assigned, *, once: bool = False) -> None:
        self.run, self.assigned, self._once = run, found, once
        self.looks: dict[str, Look] = {}
        self._tails: dict[str, Mapping[str, str]] = {}
        self._ways: dict[str, Host | Unreachable] = {}
        self._registry: tuple[Path, Registry] | None = None
        self._whole: Manifest | None = None
        self._added = 0
        self._added_there: dict[str, tuple[int, frozenset[str]]] = {}
        self._merged = False
        self._seen: tuple[int, int] | None = None

    @classmethod
    def open(cls, run: Run, *, once: bool = False) -> RemoteRun | None:
        """The hosts of a run; None if it runs on this machine. `once`: see Host. Raises FailedError, and UseError for
        workers.yaml."""
        early_ssh.made_from(assignment.path(run))
        seen = _stamp(assignment.path(run))
        found = assignment.read(run)
        if found is None:
            return None
        made = cls(run, found, once=once)
        made._seen = seen
        made.refresh()
        return made

    @classmethod
    def at(cls, run: Run, *, once: bool = False) -> RemoteRun:
        """The hosts of a run that is known to be on some. `once`: see Host. Raises FailedError, and UseError for
        workers.yaml."""
        made = cls.open(run, once=once)
        if made is None:
            raise FailedError(f"{assignment.path(run)} no longer exists")
        return made

    def __enter__(self) -> RemoteRun:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections."""
        for way in self._ways.values():
            if isinstance(way, Host):
                way.close()

    # -- who is asked -----------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """The hosts that have, or had, jobs of the run."""
        return [part.host for part in self.assigned.parts]

    @property
    def manifest(self) -> Manifest:
        """The run's manifest, with the jobs that were added on hosts as far as that is known. Raises FailedError."""
        added = sum(state_cache.count_added(assignment.host_folder(self.run, name)) for name in self.names)
        if self._whole is None or added != self._added:
            self._whole, self._added = directory.read_manifest(self.run), added
        return self._whole

    def owner(self) -> dict[str, str]:
        """The host that each job belongs to now, by the job's id, with those that were added there."""
        folders = {name: assignment.host_folder(self.run, name) for name in self.names}
        added = {job: name for name, folder in folders.items() for job in state_cache.added(folder)}
        return {**added, **self.assigned.host_of()}

    def refresh(self) -> None:
        """Record what others have written into hosts.json meanwhile."""
        seen = _stamp(assignment.path(self.run))
        if seen != self._seen:
            self.assigned, self._seen = assignment.read(self.run) or self.assigned, seen
        for part in self.assigned.parts:
            if part.host not in self._ways:
                self._ways[part.host] = self._way(part.host)

    def _way(self, name: str) -> Host | Unreachable:
        if self._registry is None:
            where = workers_of(self.run.root)
            early_ssh.made_from(where)
            self._registry = where, Registry.load(where)
        where, known = self._registry
        try:
            return registry.connect(known.named(name), where, TRIES, once=self._once)
        except UseError as error:
            return Unreachable(str(error), "name")

    def way(self, name: str) -> Host | Unreachable:
        """How a host is reached, whether it answers or not; Unreachable where it is not registered any more."""
        return self._ways[name]

    def each(
        self,
        act: Callable[[str], T],
        patience: float,
        names: Iterable[str] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> dict[str, T | Why]:
        """Act on hosts (None: on all), at once. Who has not answered after `patience` seconds is unreachable.
        `meanwhile`: see connection.each."""
        chosen = self.names if names is None else list(names)
        ways = {name: self._ways[name] for name in chosen}
        hosts = [way for way in ways.values() if isinstance(way, Host)]
        found = each(hosts, lambda host: act(host.name), patience, meanwhile)
        return {name: way if isinstance(way, Unreachable) else found[name] for name, way in ways.items()}

    # -- asking -----------------------------------------------------------------------------------------------------

    def call(self, name: str, request: Mapping[str, Any], timeout: float = LOOK) -> dict[str, Any] | Why:
        """Ask queue_manager.remote.control on one host, for `timeout` seconds at most; see there for requests and
        answers.

        Nothing is done on another machine than the one that got the jobs. A connection that is cut is made anew, once:
        what is asked twice does no harm.
        """
        part, way = self.assigned.part(name), self._ways[name]
        if isinstance(way, Unreachable):
            return way
        if part.python is None or part.runtime is None:
            return f"its jobs were not sent there yet; finish that with: {self._submit}"
        asked = json.dumps({**request, "host_id": part.host_id})
        given: dict[str, Any] = {"shown": asked} if request["op"] == "look" else {"stdin": asked.encode()}
        argv = bootstrap.module(None, part.python, part.runtime, "control", self.run.id)
        limit = state_schema.most_bytes(
            len(part.jobs) + len(self._added_on(name)), state_cache.count_added(self.run.root)
        )
        result = way.run(argv, **given, timeout=timeout, limit=limit)
        if isinstance(result, Unreachable) and result.kind == "dropped":
            result = way.run(argv, **given, timeout=timeout, limit=limit)
        return result if isinstance(result, Unreachable) else self._answer(result, limit)

    def _added_on(self, name: str) -> frozenset[str]:
        """The jobs that are known to have been added on a host."""
        folder = assignment.host_folder(self.run, name)
        size = state_cache.count_added(folder)
        if self._added_there.get(name, (-1,))[0] != size:
            self._added_there[name] = size, frozenset(state_cache.added(folder))
        return self._added_there[name][1]

    @property
    def _submit(self) -> str:
        return "wavequeue submit SPEC"

    def _answer(self, result: CommandResult, limit: int) -> dict[str, Any] | str:
        """What a host answered. Our own code not being there is no fault of the way to it."""
        try:
            found = typed_json.decode(result.out, limit)
            if isinstance(found, dict):
                return found if "fault" not in found else str(state_schema.clean(str(found["fault"])))[:2000]
        except typed_json.DocumentError:
            pass
        return f"its answer cannot be understood ({result.why}); restore the runtime there with: {self._submit}"

    def ask(self, requests: Mapping[str, Request], patience: float | None = None) -> dict[str, Asked | Why]:
        """Have the managers of these hosts carry out a request each, all at once.

        Each waits `patience` seconds for its manager at most. A request stays there; under the same id it is done once.
        """
        from skill.runs.requests import PATIENCE, body, read_answer

        seconds = PATIENCE if patience is None else patience

        def one(name: str) -> Asked | Why:
            asked = {"op": "ask", "request": body(requests[name]), "patience": seconds}
            found = self.call(name, asked, seconds + LOOK)
            return read_answer(found, requests[name]) if isinstance(found, dict) else found

        return self.each(one, seconds + LOOK + _CONNECT, requests)

    def start(self, names: Iterable[str], poll: float | None) -> dict[str, int | Why]:
        """Start managers on hosts that have just answered that none lives there; their processes. One that holds the
        run meanwhile is meant.

        `poll` in seconds. Writes them into hosts.json. Raises OSError.
        """
        found = self.each(lambda name: self._start(name, poll), _START + _CONNECT, names)
        with assignment.changed(self.run) as now:
            for name, pid in found.items():
                if isinstance(pid, int):
                    now.assigned = now.assigned.with_part(now.assigned.part(name)._replace(pid=pid))
        self.refresh()
        return found

    def _start(self, name: str, poll: float | None) -> int | Why:
        part, way = self.assigned.part(name), self._ways[name]
        assert isinstance(way, Host)
        return bootstrap.start(way, part.python or "", part.runtime or "", self.run.id, poll)

    # -- looking ----------------------------------------------------------------------------------------------------

    def look(self, *, full: bool = False, meanwhile: Callable[[], object] | None = None) -> Document:
        """Look at all hosts now: one document, see skill.runs.merge. `full`: with every job; `meanwhile`: what to do
        while they are waited for. Raises FailedError."""
        self.refresh()
        found = self.each(lambda name: self.look_at(name, full=full), LOOK + _CONNECT, meanwhile=meanwhile)
        for name, one in found.items():
            if isinstance(one, Unreachable):
                self.recall(name, one.reason, full=full)
        return self.document()

    def look_at(self, name: str, *, full: bool = False) -> Look:
        """Look at one host, and keep what it said; where it says nothing, what was last kept is what is known."""
        part = self.assigned.part(name)
        if part.state == PLANNED and part.python is None:
            self.looks[name] = Look(name, None)
            return self.looks[name]
        answer = self.call(name, {"op": "look", "full": full})
        found = (
            state_cache.parse_snapshot(answer, (*part.jobs, *self._added_on(name)))
            if isinstance(answer, dict)
            else answer
        )
        if isinstance(found, Unreachable):
            return self.recall(name, found.reason, full=full)
        if isinstance(found, str):
            return self.recall(name, found, full=full, answered=True)
        at = time.time()
        state_cache.keep(assignment.host_folder(self.run, name), found, at)
        self._tails[name] = found.tails
        self.looks[name] = look = Look(name, found.document, at, found.alive)
        if part.state == LOST and not part.revoked:
            self._revoke(part)
        return look

    def recall(self, name: str, why: str, *, full: bool = False, answered: bool = False) -> Look:
        """Take what was last kept of a host for what is known of it; `why` it cannot be known now."""
        kept = state_cache.recall(assignment.host_folder(self.run, name), whole=full)
        look = Look(name, None, reason=why, answered=answered)
        self.looks[name] = look if kept is None else look._replace(document=kept.document, at=kept.at)
        self._tails.pop(name, None)
        return self.looks[name]

    def _revoke(self, part: Part) -> None:
        """Have a host that was given up and is back stop what others do now.

        Its manager takes the request, or the next one there: it lies in the inbox.
        """
        from queue_manager.core.requests import Request
        from skill.runs.requests import PATIENCE, Asked, body, read_answer

        moved = frozenset(part.moved)
        for number, jobs in enumerate((part.first(), *(batch.jobs for batch in part.batches))):
            # One for each batch: one that never came makes the host refuse all that is asked with it.
            gone = tuple(job for job in jobs if job in moved)
            request = Request(f"revoke-{self.run.id}"[:110] + (f"-{number}" if number else ""), "cancel", gone)
            asked = {"op": "ask", "request": body(request), "patience": PATIENCE}
            found = self.call(part.host, asked, PATIENCE + LOOK) if gone else None
            answer = read_answer(found, request) if isinstance(found, dict) else None
            if gone and not (isinstance(answer, Asked) and (answer.answer is not None or not answer.alive)):
                break
        else:
            with assignment.changed(self.run) as now:
                now.assigned = now.assigned.with_part(now.assigned.part(part.host)._replace(revoked=True))

    def document(self) -> Document:
        """One document of what is known of all hosts now. Raises FailedError."""
        looks = [self.looks[name] for name in self.names if name in self.looks]
        made = merge(self.assigned, self._manifest_for(looks), looks, time.time())
        self._merged = True
        return made

    def _manifest_for(self, looks: list[Look]) -> Manifest:
        """The manifest, or of a large one only what a single short view needs: reading all of it takes a second."""
        documents = [look.document for look in looks]
        if (
            self._merged
            or self._whole is not None
            or len(looks) < len(self.names)
            or any(part.moved for part in self.assigned.parts)
            or not all(document is not None and document.get("overview") for document in documents)
        ):
            return self.manifest
        rows = [row for document in documents if document is not None for row in document["jobs"]]
        if any(MARKS in (row["waiting"] or "") for row in rows):
            return self.manifest
        return directory.read_outline(self.run, {row["id"] for row in rows})

    def tail(self, row: Row) -> str:
        """The last line in the log of a running job, as last read."""
        return self._tails.get(row["host"], {}).get(row["id"], "")

    # -- as any run ------------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Nothing is started here: `submit` starts managers that have not begun, and `request` others."""
        return False

    def alive(self, document: Document) -> bool:
        """Whether anything of it may go on by itself."""
        return alive(document)

    def watch(self) -> WatchedHosts:
        """The run, followed from now on."""
        from skill.runs.host_poller import WatchedHosts

        return WatchedHosts(self)

    def evidence(self, job: str, lines: int) -> Evidence:
        """What is known of a job: of its host, or as pulled where that is not reached."""
        from skill.runs import remote_logs

        return remote_logs.evidence(self, job, lines)

    def log(self, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
        """The log of a job: of its host, or as pulled where that is not reached."""
        from skill.runs import remote_logs

        return remote_logs.log(self, job, attempt, lines, follow=follow)

    def results(self, document: Document) -> Results:
        """What has been pulled of what completed jobs wrote."""
        from skill.runs import logs, pulled_results

        home = pulled_results.read_results(self.run, self.assigned, self.manifest, document)

        def last_line(row: Row) -> str:
            path = home.logs.get(row["id"])
            return "" if path is None else str(state_schema.clean(logs.last_line(path)))

        return Results(home.found, home.numbers, home.away, last_line, lambda row: home.logs.get(row["id"]))

    def history(self, needles: Iterable[str]) -> dict[str, list[Record]]:
        """The journals as they were last pulled; a host whose journal is not here, or is none, has no records."""
        found = {}
        for name in self.names:
            with contextlib.suppress(FailedError):
                found[name] = directory.records(Run.at(assignment.host_folder(self.run, name)), needles)
        return found

    def request(self, document: Document, request: Request, *, start: bool) -> list[Outcome]:
        """Ask the hosts that a request is for, all at once. Raises OSError."""
        from skill.runs import remote_requests

        return remote_requests.send(self, document, request, start=start)

    def add(self, document: Document, request: Request, share: Share) -> list[Outcome]:
        """Add jobs to hosts, as `share` gives them out. Raises OSError."""
        from skill.runs import remote_requests

        return remote_requests.add(self, document, request, share)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes whenever a file is replaced; None where there is none."""
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_ino


def alive(document: Document) -> bool:
    """Whether anything of a run on hosts may go on."""
    return bool(document["meta"]["manager"] == "running")


def is_unfinished(run: Run, host: Host) -> bool:
    """Whether a run has jobs on a host that are not known to have ended, by what was read of it or else by itself."""
    found = assignment.read(run)
    mine = [part for part in found.parts if part.host == host.name] if found is not None else []
    mine = [part for part in mine if part.state != LOST and not _never_came(part)]
    own = {job for part in mine for job in part.own()}
    if not own:
        return False
    try:
        document = directory.read_pulled_state(assignment.host_folder(run, host.name), len(own))
        statuses = {row["id"]: row["status"] for row in document["jobs"]}
    except (OSError, ValueError, KeyError, TypeError):
        statuses = {}
    if all(statuses.get(job) in FINAL for job in own):
        return False
    facts = bootstrap.facts(host, run.id)
    if isinstance(facts, Unreachable) or facts.manager_pid is not None:
        return True
    if facts.python is not None and facts.manifest_sha256 is None and all(part.state == PLANNED for part in mine):
        return False  # the submit broke off before the run was placed there
    return not facts.ended


def _never_came(part: Part) -> bool:
    """Whether nothing of a part was ever brought to its host: its interpreter is written down before anything is."""
    return part.state == PLANNED and part.python is None
