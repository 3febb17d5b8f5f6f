"""Look at what exists on this machine where a pull would write: what git tracks, earlier files, and which host each
came from.

What each host has brought stands in `written.jsonl` of the run, a line each, written before the file gets its place:
killed in between, the file is known as its host's, and never a file of a person's as a host's. A file that no line
names existed here before. The rules themselves are in skill/transfer/write_rules.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from build_manifest import regular_file
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Manifest
from queue_manager.core.times import epoch
from queue_manager.core.transfer_protocol import Seen, find
from skill.common.errors import FailedError, UseError
from skill.runs import assignment
from skill.runs.assignment import LOST, Assigned
from skill.runs.directory import Run
from skill.runs.path_map import Wanted, map_paths, wanted
from skill.transfer.code_files import NEVER
from skill.transfer.git import tracked_files
from skill.transfer.local_store import look, scan
from skill.transfer.write_rules import (
    AHEAD_NS,
    Claim,
    Facts,
    Rules,
    Writer,
    fold,
    is_program,
    is_program_text,
    spelt_out,
)

RECORD = "written.jsonl"
_STATE = RunPaths.of(Path()).state.name
_LARGE = 1 << 20
"""Bytes of a refused file from which on the host is asked not to send it again."""
_REFUSED = 1000
"""Refused files that are kept in mind, of each host."""
_MAX_LINE = 1 << 16
_MAX_RECORD = 64 << 20
_UNKNOWN = ""
"""The host of what one of them has brought, it is not known which."""
Clock = Callable[[], float]
StateFault = Callable[[Path], Union[str, None]]


class _Line(NamedTuple):
    """A file that came.

    `pattern`: by which its job had declared it, None for what `pull:` found. `version`: what it was on the host and
    what it was made here, where its time there was in the future.
    """

    name: str
    host: str
    pattern: str | None
    version: tuple[Seen, Seen] | None = None


class Gate:
    """Shared by all hosts of one pull of one run. Use it within `pull.alone`, and close it."""

    def __init__(
        self,
        record: Path,
        top: Path,
        asked: Mapping[str, Wanted],
        firm: Mapping[str, bool],
        earlier: Callable[[], frozenset[str]] = frozenset,
        clock: Clock = time.time,
    ) -> None:
        """`top`: where results go; `asked`: of each host of the run; `firm`: whether it has all jobs that it was given;
        `earlier`: tells what jobs of other runs brought below `top`, folded.

        Raises OSError, and FailedError where the record is no file.
        """
        self._earlier = earlier
        self._of_earlier: frozenset[str] | None = None
        self._top, self._asked, self._firm, self._clock = os.path.realpath(top), asked, firm, clock
        self._lock = threading.RLock()
        self._lines: dict[str, _Line] = {}
        self._refused: dict[str, dict[str, str]] = {}
        self._tracked: frozenset[str] | None = None
        self._git_refuses: str | None = None
        self._names: dict[str, dict[str, list[str]]] = {}
        self.is_new = not record.exists()
        fd = os.open(record, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FailedError(f"{record} is not a regular file; move it away, and pull again")
        self._file = os.fdopen(fd, "r+b")
        self._read()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def of(self, host: str, state_fault: StateFault = lambda _path: None) -> HostGate:
        """The same for the files of one host. `state_fault`: why a file is no state of its run, None if it is one."""
        asked = self._asked[host]
        others = {name: one.patterns[: one.declared] for name, one in self._asked.items() if name != host}
        return HostGate(self, host, Rules(host, asked.patterns, asked.declared, others, NEVER), state_fault)

    def now_ns(self) -> int:
        return int(self._clock() * 1e9)

    # -- the record ---------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the record. A damaged line is skipped: its file counts as one that existed before."""
        raw = b"\n"
        while line := self._file.readline(_MAX_LINE):
            raw = line
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError, RecursionError):
                self._take(json.loads(raw))
        if not raw.endswith(b"\n"):
            self._file.write(b"\n")

    def _take(self, row: dict[str, Any]) -> None:
        host = str(row["host"])
        if "refused" in row:
            self._refused.setdefault(host, {})[str(row["refused"])] = str(row["pattern"])
            return
        name, version = str(row["name"]), row.get("version")
        kept = None if version is None else (_seen(*version[0]), _seen(*version[1]))
        pattern = None if row["pattern"] is None else str(row["pattern"])
        self._lines[fold(name)] = _Line(name, host, pattern, kept)

    def _write(self, **row: Any) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def write(self, line: _Line) -> None:
        """Note whose file lies at a place from now on. Raises OSError."""
        with self._lock:
            if self._lines.get(fold(line.name)) == line:
                return
            row = {"name": line.name, "host": line.host, "pattern": line.pattern}
            self._write(**row, **({"version": line.version} if line.version is not None else {}))
            self._lines[fold(line.name)] = line

    def line(self, place: str) -> _Line | None:
        return self._lines.get(fold(place))

    def written(self, host: str) -> dict[str, str]:
        """What jobs of a host wrote and is here, with the pattern that declares it."""
        with self._lock:
            return {
                one.name: one.pattern for one in self._lines.values() if one.host == host and one.pattern is not None
            }

    def refused(self, host: str) -> dict[str, str]:
        """Large files of a host that were refused before, with the pattern that it found them by."""
        with self._lock:
            return dict(self._refused.get(host, {}))

    def note_refused(self, host: str, name: str, pattern: str) -> None:
        """Keep in mind that a host is not to send a file again. Raises OSError."""
        with self._lock:
            known = self._refused.setdefault(host, {})
            if name not in known and len(known) < _REFUSED:
                known[name] = pattern
                self._write(refused=name, host=host, pattern=pattern)

    def adopt(self, created: float) -> None:
        """Record what earlier versions, which kept no record, have pulled. Raises OSError.

        `created`: epoch seconds of the run: what has not changed since existed here before.
        """
        for host, asked in self._asked.items():
            for name, by in find(asked.patterns, scan(self._top), NEVER):
                pattern = asked.patterns[by] if by < asked.declared else None
                with contextlib.suppress(OSError):
                    is_late = os.lstat(os.path.join(self._top, name)).st_ctime >= created
                    known = self.line(name)
                    is_free = known is None or (known.host == _UNKNOWN and pattern is not None)
                    if is_late and is_free and not is_program(name):
                        self.write(_Line(name, _UNKNOWN if pattern is None else host, pattern))

    # -- what is here -------------------------------------------------------------------------------------------------

    def place(self, name: str) -> str:
        """Resolve all links in a name; the result is below the top."""
        folder, _, last = name.rpartition("/")
        real = os.path.realpath(os.path.join(self._top, folder))
        inner = os.path.relpath(real, self._top)
        return last if inner == "." else f"{inner}/{last}"

    def facts(self, place: str) -> Facts:
        with self._lock:
            if self._tracked is None:
                self._tracked = frozenset()
                try:
                    self._tracked = frozenset(map(fold, tracked_files(Path(self._top))))
                except UseError as error:
                    self._git_refuses = str(error)
            line = self._lines.get(fold(place))
            is_here = os.path.lexists(os.path.join(self._top, place))
            return Facts(
                is_tracked=fold(place) in self._tracked,
                is_here=is_here,
                twin=None if is_here else next(self._twins("", fold(place).split("/")), None),
                writer=self._writer(line, place),
                git_refuses=self._git_refuses,
            )

    def _writer(self, line: _Line | None, place: str) -> Writer | None:
        if line is not None:
            return Writer(line.host, line.pattern is not None, self._firm.get(line.host, False))
        if self._of_earlier is None:
            self._of_earlier = self._earlier()
        return Writer(_UNKNOWN, job=True, firm=False) if fold(place) in self._of_earlier else None

    def _twins(self, folder: str, parts: Sequence[str]) -> Iterator[str]:
        """Find names below a directory that differ from these only in case."""
        if folder not in self._names:
            names = self._names[folder] = {}
            with contextlib.suppress(OSError):
                for name in os.listdir(os.path.join(self._top, folder)):
                    names.setdefault(fold(name), []).append(name)
        for name in self._names[folder].get(parts[0], ()):
            path = f"{folder}/{name}" if folder else name
            if len(parts) == 1:
                yield path
            else:
                yield from self._twins(path, parts[1:])


class HostGate:
    """What one host may write, and what it is asked for."""

    def __init__(self, gate: Gate, host: str, rules: Rules, state_fault: StateFault) -> None:
        self._gate, self._host, self._rules, self._state_fault = gate, host, rules, state_fault
        self.ahead: list[str] = []
        """Those whose time on the host is ahead of this machine's clock."""
        self.kept_out: dict[str, str] = {}
        """What the host was asked not to send, with the reason."""

    def fault(self, name: str, by: int) -> str | None:
        """Why a result that the host found by the pattern of index `by` is not taken; None if it is."""
        claim = self._rules.claim(name, by)
        return "is not declared" if claim is None else self._fault(name, claim)

    def _fault(self, name: str, claim: Claim) -> str | None:
        place = self._gate.place(name)
        return self._rules.fault(name, claim, self._gate.facts(place), place)

    def document_fault(self, name: str, path: Path) -> str | None:
        """Why a document of the run's directory, which lies in `path`, does not replace the one before; None if it
        does."""
        fault = self._state_fault(path) if name == _STATE else None
        return None if fault is None else f"{fault}; the previous one is kept"

    def admit(self, name: str, by: int, there: Seen, put: Seen, head: bytes) -> str | None:
        """Record that a result is moved into place now, or say why it is refused. Raises OSError.

        `there` and `put`: the version on the host, and as it is made here; `head`: how the file begins. Call it with
        nothing else writing here, and then put the file there at once.
        """
        claim = self._rules.claim(name, by)
        if claim is None:
            return "is not declared"
        fault = self._fault(name, claim)
        if fault is None and not claim.is_spelt and is_program_text(head):
            fault = self._rules.program_fault
        if fault is not None:
            return fault
        version = None if put == there else (there, put)
        self._gate.write(_Line(self._gate.place(name), self._host, claim.pattern if claim.job else None, version))
        if version is not None:
            self.ahead.append(name)
        return None

    def bounded(self, there: Seen) -> Seen:
        """Limit a version's time to the current time of this machine."""
        now = self._gate.now_ns()
        return there if there.mtime_ns <= now + AHEAD_NS else there._replace(mtime_ns=now)

    def here(self, name: str, seen: Seen) -> Seen:
        """What lies here, for comparing it with the host's: a time in the future that came from there tells nothing."""
        if seen.mtime_ns <= self._gate.now_ns() + AHEAD_NS:
            return seen
        line = self._gate.line(name)
        return seen._replace(mtime_ns=0) if line is not None and line.host in (self._host, _UNKNOWN) else seen

    def have(self, files: Mapping[str, Seen]) -> dict[str, Seen]:
        """List what is here, in the versions that the host knows."""
        found = {}
        for name, seen in files.items():
            line = self._gate.line(name)
            known = line.version if line is not None and line.host == self._host else None
            found[name] = known[0] if known is not None and known[1] == seen else self.here(name, seen)
        return found

    def note_refused(self, name: str, by: int, size: int) -> None:
        """Keep in mind what the host need not send again. Raises OSError."""
        claim = self._rules.claim(name, by)
        if claim is not None and size >= _LARGE:
            self._gate.note_refused(self._host, name, claim.pattern)

    def written(self) -> dict[str, str]:
        """The results of this host's jobs that came in this pull and before, with the pattern that declares each."""
        return self._gate.written(self._host)

    def closed(self, patterns: Sequence[str]) -> tuple[str, ...]:
        """List what was refused before and still is: the host is asked not to send it."""
        index = {pattern: n for n, pattern in enumerate(patterns)}
        self.kept_out.clear()
        for name, pattern in self._gate.refused(self._host).items():
            fault = self.fault(name, index[pattern]) if pattern in index else None
            if fault is not None:
                self.kept_out[name] = fault
        return tuple(self.kept_out)


def left_alone(folder: Path, top: Path, patterns: Sequence[str]) -> list[str]:
    """What is below `top` of outputs that are not spelt out, and did not come from a run in `folder`: a pull of a new
    run replaces none of it."""
    spelt = set(map(spelt_out, patterns))
    names = [name for name in look(top, patterns, NEVER).files if name not in spelt]
    brought = brought_by_runs(folder, top) if names else frozenset()
    return [name for name in names if fold(name) not in brought]


def brought_by_runs(folder: Path, top: Path, but: Path | None = None) -> frozenset[str]:
    """What jobs of the runs in a directory, all `but` one, have brought below `top`, folded: results of the same
    project, which those of a new run may replace. A record or a run that cannot be read tells of nothing."""
    found: set[str] = set()
    for record in folder.glob(f"*/{RECORD}"):
        with contextlib.suppress(OSError, FailedError):
            row = None if record.parent == but else assignment.read(Run.at(record.parent))
            if row is None or os.path.realpath(row.source) != os.path.realpath(top):
                continue
            for line in regular_file.read(record, _MAX_RECORD, follow=False).splitlines():
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                    brought = json.loads(line)
                    if "refused" not in brought:  # the last line of a name counts
                        (found.discard if brought["pattern"] is None else found.add)(fold(str(brought["name"])))
    return frozenset(found)


def open_gate(run: Run, found: Assigned, manifest: Manifest) -> Gate:
    """The gate for one pull of a run. Raises OSError and FailedError."""
    path_maps = {part.host: map_paths(run, found, manifest, part) for part in found.parts}
    asked = {part.host: wanted(path_maps[part.host], manifest, part) for part in found.parts}
    firm = {part.host: part.state != LOST and not part.moved for part in found.parts}
    top = next(iter(path_maps.values())).here
    gate = Gate(run.root / RECORD, top, asked, firm, lambda: brought_by_runs(run.root.parent, top, run.root))
    if gate.is_new and any(assignment.host_folder(run, host).exists() for host in found.pulled):
        gate.adopt(epoch(found.created))
    return gate


def _seen(size: Any, mtime_ns: Any) -> Seen:
    return Seen(int(size), int(mtime_ns))
