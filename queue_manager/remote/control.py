"""`python -m queue_manager.remote.control RUN`: read one request about a run on stdin, print one JSON document.

RUN is the id of a run in ~/.wavequeue/runs, or a run's directory. Requests are objects with an `op`, see `_OPS`; with a
`host_id` nothing is done on another machine than that. What cannot be done is answered by {"fault": TEXT}.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from queue_manager.adapters import facts, host_place
from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.overview import overview, overview_of
from queue_manager.core.status import Status

if TYPE_CHECKING:  # a look, for which a person waits, needs none of it
    from queue_manager.core.requests import Request

TAIL = 1024
"""Bytes of the end of a running job's log."""
MOST_TAILS = 200
MOST = 4 << 20
"""Bytes of a log in one answer."""
ELSEWHERE = "manager_on"
"""In the meta of a state that was looked at: the machine that its manager is on, where that is another one."""
_BEHIND = 2
"""Attempts that may have begun, one after the other, since the state was written."""
_JOURNAL_BLOCK = 1 << 24


class ControlError(Exception):
    """The request cannot be carried out; says why."""


def main(arguments: list[str] | None = None) -> int:
    """Print the document. 0; 1 where it is a fault."""
    (name,) = sys.argv[1:] if arguments is None else arguments
    try:
        found = answer(name, json.loads(sys.stdin.buffer.read()))
    except ControlError as error:
        found = {"fault": str(error)}
    except OSError as error:
        found = {"fault": f"{error.filename or 'this machine'}: {error.strerror or error}"}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        found = {"fault": f"not a valid request: {error!r}"}
    print(json.dumps(found), flush=True)  # for a large state many times faster than json.dump
    return 1 if "fault" in found else 0


def answer(name: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out one request. Raises ControlError, and for what is no request ValueError, KeyError or TypeError."""
    home = host_place.here()
    wanted = asked.get("host_id")
    if "/" not in name:
        home = host_place.of_run(home, name)
    if wanted is not None and facts.host_id(home.root) != wanted:
        raise ControlError(f"it is not the machine that the run was submitted to; {_whose(home, wanted)}")
    paths = RunPaths.of(Path(name) if "/" in name else home.runs / name)
    if not paths.root.is_dir():
        raise ControlError(f"run {paths.root.name} does not exist")
    return _OPS[asked["op"]](paths, asked)


def _whose(home: HostPaths, wanted: object) -> str:
    """What came of it, and what may be done where only the machine's name or machine-id has changed."""
    if home.base is None or facts.host_id(home.base) != wanted:
        return "nothing was done there"
    name = facts.owner(home.base).partition("\n")[0]
    return f"nothing was done there. If it is {name} under a new name, run there: rm ~/.wavequeue/machine"


def look(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "look", "full": bool}: `state` is the state document, or its overview, and null where there is none.

    `alive`: whether a manager holds the run, or the next one is queued in Slurm; `gone`: where none does, how many of
    the jobs that it left running have no session any more, else null, also where Slurm alone knows; `tails`: the end of
    each running job's log, by its id; `added`: the journal's lines about jobs that were added.
    """
    read = _state if asked.get("full") else _overview
    holder = facts.holder(paths.lock)
    document = read(paths)
    if document is not None and holder is None and document["meta"]["manager"] == "running":
        document = read(paths)  # it may have ended in between, and have written its last state just before
    alive = holder is not None
    if document is not None:
        alive = note_manager(paths, document, holder)
    running: list[dict[str, Any]] = []
    if document is not None:
        running = [row for row in document["jobs"] if row["status"] == Status.RUNNING.value]
    began = [row for row in running if row["screen_pid"] is not None]
    gone = sum(not facts.is_session(row["screen_pid"], row["screen_name"]) for row in began)
    is_known = not alive and (document is None or document["meta"].get("launcher") != SLURM)
    running = running[:MOST_TAILS]
    return {
        "state": document,
        "alive": alive,
        "gone": gone if is_known else None,
        "tails": {row["id"]: _end(Path(row["log"]), TAIL) for row in running},
        "added": _lines(paths, ['"JobsAdded"']),
    }


def note_manager(paths: RunPaths, document: dict[str, Any], holder: facts.Holder | None) -> bool:
    """Note in the state of a run where its manager is, if that is not on this machine. Returns whether one lives or the
    next one is queued."""
    meta = document["meta"]
    if holder is not None:
        if holder.host not in ("", os.uname().nodename):
            meta[ELSEWHERE] = holder.host
        return True
    waits = _next_manager(paths)
    if waits is not None:
        text = f"the next manager {waits}; running jobs go on, and others start once it runs"
        meta["conditions"] = [*meta["conditions"], {"kind": "manager", "text": text, "since": meta["updated"]}]
    return waits is not None


def _next_manager(paths: RunPaths) -> str | None:
    """Where the next manager of a run is that none holds, see managers.next_one."""
    if not paths.manager_job.exists():
        return None
    from queue_manager.slurm.managers import next_one

    return next_one(paths, str(facts.state_meta(paths.state).get("manager")))


def manager(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG001
    """{"op": "manager"}: `alive` as a look tells, and `conditions`: what that would add to those of the state."""
    document = {"meta": {**facts.state_meta(paths.state), "conditions": []}}
    if "manager" not in document["meta"]:
        return {"alive": facts.held_by(paths.lock) is not None, "conditions": []}
    alive = note_manager(paths, document, facts.holder(paths.lock))
    return {"alive": alive, "conditions": document["meta"]["conditions"]}


def _goes_on(paths: RunPaths) -> bool:
    """Whether a manager lives, or the next one is queued."""
    return facts.held_by(paths.lock) is not None or _next_manager(paths) is not None


def ask(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "ask", "request": {...}, "patience": SECONDS}: have the manager carry out a request, see core.requests.

    `answer` is null where none came while the manager lived, in so many seconds at most. The request stays, and is
    taken by the next manager; sent again under the same id it is done once. `waits`: where that is, if Slurm has it.
    """
    from queue_manager.core.requests import RequestError, decode_request

    try:
        request = decode_request(json.dumps(asked["request"]))
    except RequestError as error:
        raise ControlError(str(error)) from None
    found = _answered(paths, request)
    if found is None:
        send(paths, request)
        found = wait(paths, request, lambda: facts.held_by(paths.lock) is not None, float(asked.get("patience", 15.0)))
    alive = facts.held_by(paths.lock) is not None
    waits = None if alive or found is not None else _next_manager(paths)
    return {"answer": found, "alive": alive, **({} if waits is None else {"waits": waits})}


def send(paths: RunPaths, request: Request) -> None:
    """Put a request into the inbox, whole and durable, and ring the bell. Raises OSError."""
    from queue_manager.core.requests import encode_request

    make_directory(paths.inbox)
    write_whole(paths.request(request.id), [encode_request(request).encode()])
    _ring(paths.bell)


def _ring(bell: Path) -> None:
    with contextlib.suppress(OSError):  # nobody listens: the manager finds the request when it begins
        fd = os.open(bell, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, b"r")
        finally:
            os.close(fd)


def wait(paths: RunPaths, request: Request, alive: Callable[[], bool], patience: float) -> dict[str, Any] | None:
    """The answer to a request; None if none came in `patience` seconds, or the manager has gone."""
    until = time.monotonic() + patience
    pause = 0.005
    while True:
        there = alive()
        found = _answered(paths, request)
        if found is not None or not there or time.monotonic() > until:
            return found
        time.sleep(pause)
        pause = min(0.2, pause * 1.5)


def _answered(paths: RunPaths, request: Request) -> dict[str, Any] | None:
    from queue_manager.core.requests import decode_answer

    with contextlib.suppress(OSError, ValueError, KeyError):
        return decode_answer(paths.answer(request.id).read_text(encoding="utf-8"))._asdict()
    return None


def log(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "log", "job": ID, "attempt": N or null, ...}: bytes of a log, the newest one's where no attempt is named.

    From byte `offset` on, or the last `lines` lines. `file` names the file that was read before: as long as there is
    more of it, that is read on though a later attempt has begun. The answer: the `file`, `begin` (byte), `size`, `data`
    in base64, `newest`: whether the file is that of the newest attempt, and `attempt`: the number of its attempt, null
    where no later one has a log. What was read before the file was: `state`, with the row of this job alone, and
    `goes_on`: whether anything is left that may end the job.
    """
    import base64

    from queue_manager.remote.log_piece import Logs

    job, attempt = str(asked["job"]), asked.get("attempt")
    alive = _goes_on(paths)
    document = _state(paths)
    if document is None:
        raise ControlError("its manager has not started")
    rows = {row["id"]: row for row in document["jobs"]}
    if job not in rows:
        raise ControlError(f"there is no job {job}")
    found = {
        "state": {**document, "jobs": [rows[job]], "overview": True, "jobs_total": len(rows)},
        "goes_on": alive or (document["meta"].get("launcher") != SLURM and _runs(rows[job])),
    }
    directory = Path(rows[job]["log"]).parent
    paths = RunPaths(paths.manifest, paths.state, directory)
    newest = paths.log(job)
    known = rows[job]["attempt"]
    earlier = {n: paths.earlier_log(job, n, rows) for n in range(1, known + _BEHIND + 1)}
    if attempt is not None:
        aside = (one for n, one in earlier.items() if n >= attempt and (n < known or one.exists()))
        newest = next(aside, newest)
    lines, most = asked.get("lines"), min(MOST, int(asked.get("limit") or MOST))
    begin = max(0, int(asked.get("offset") or 0))
    piece = Logs(newest, earlier).read(asked.get("file"), begin, None if lines is None else int(lines), most)
    found["newest"] = piece.path == newest
    found["attempt"] = next((n for n, one in earlier.items() if one == piece.path), None)
    data = base64.b64encode(piece.data).decode()
    return {**found, "file": piece.file, "begin": piece.begin, "size": piece.size, "data": data}


def _runs(row: Mapping[str, Any]) -> bool:
    """Whether the session of a running job is there: it writes the job's end, whether a manager lives or not."""
    pid = row["screen_pid"]
    return row["status"] == Status.RUNNING.value and pid is not None and Path(f"/proc/{pid}").exists()


def journal(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "journal", "needles": [TEXT]}: `lines` of the journal that hold one of the needles."""
    return {"lines": _lines(paths, list(map(str, asked["needles"])))}


def _lines(paths: RunPaths, needles: list[str]) -> list[str]:
    wanted = [needle.encode() for needle in needles]
    found: list[str] = []
    rest = b""
    with contextlib.suppress(FileNotFoundError), paths.journal.open("rb") as file:
        while data := file.read(_JOURNAL_BLOCK):
            data = rest + data
            whole = data.rfind(b"\n") + 1  # the manager may be writing the last line just now
            found += _lines_with(wanted, data[:whole])
            rest = data[whole:]
    return found


def _lines_with(wanted: list[bytes], data: bytes) -> list[str]:
    """The lines that hold one of `wanted`, found without looking at each: most of a journal has none."""
    spans: dict[int, int] = {}
    for needle in wanted:
        at = data.find(needle)
        while at >= 0:
            end = data.index(b"\n", at) + 1
            spans[data.rfind(b"\n", 0, at) + 1] = end
            at = data.find(needle, end)
    return [data[begin:end].decode() for begin, end in sorted(spans.items())]


def _overview(paths: RunPaths) -> dict[str, Any] | None:
    try:
        found = overview_of(paths.state.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ControlError(f"{paths.state} cannot be read") from None
    if found is None:
        document = _state(paths)
        found = None if document is None else overview(document)
    return found


def _state(paths: RunPaths) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(paths.state.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        raise ControlError(f"{paths.state} cannot be read") from None
    return found


def _end(path: Path, size: int) -> str:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size).decode(errors="replace")
    return ""


def acknowledge(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "acknowledge", "seq": N}: all results up to the journal's line N were pulled, so that a rented machine may
    end itself. One that says less than an earlier one changes nothing. `seq`: what counts from now on."""
    from queue_manager.core import machine

    seq = int(asked["seq"])
    try:
        before = machine.parse_acknowledged(paths.acknowledged.read_text(encoding="utf-8"))
    except OSError:
        before = 0
    if seq > before:
        write_whole(paths.acknowledged, [machine.acknowledged_text(seq, time.time()).encode()])
        _ring(paths.bell)
    return {"seq": max(seq, before)}


def repair(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "repair", "do": bool}: see repair.answer."""
    # It needs most of the queue manager, which every other request would wait for.
    from queue_manager.remote import repair as work

    try:
        return work.answer(paths, asked)
    except work.RepairError as error:
        raise ControlError(str(error)) from None


_OPS: dict[str, Callable[[RunPaths, Mapping[str, Any]], dict[str, Any]]] = {
    "look": look,
    "ask": ask,
    "log": log,
    "journal": journal,
    "acknowledge": acknowledge,
    "repair": repair,
    "manager": manager,
}


if __name__ == "__main__":
    sys.exit(main())
