"""Repair a run whose journal or state file is damaged or lost: find out what can be recovered, and write a new journal.

Nothing is overwritten: the damaged files are kept beside the new ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.adapters import evidence, host
from queue_manager.adapters.aside import set_aside
from queue_manager.adapters.files import write_whole
from queue_manager.adapters.load import UseError, living_manager, read_manifest, state_fault
from queue_manager.adapters.regular import read_regular
from queue_manager.adapters.run_lock import HeldError, Lock
from queue_manager.core import events as ev
from queue_manager.core import layout, shell_paths
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.rebuild import Head, Rebuilt, Trace, rebuild
from queue_manager.core.salvage import Lines, ahead, read_rows, whole_lines
from queue_manager.core.status import Status
from queue_manager.core.times import iso

_MOST = 1 << 31
"""Bytes of a journal or a state file."""
_SHOWN = 100
_NUMBER = re.compile(r"\d{1,4}")


class RepairError(Exception):
    """The run cannot be repaired, or need not be looked at now; the message says why."""


class _Found(NamedTuple):
    """What lies in the run's directory. `journal`: why it cannot be used, None where it is whole; `state`: the
    same of the state file, empty where there is none."""

    manifest: Manifest
    lines: Lines
    journal: str | None
    state: str | None
    rebuilt: Rebuilt


def answer(paths: RunPaths, asked: Mapping[str, Any]) -> dict[str, Any]:
    """{"op": "repair", "do": bool}: what is left of a run; with `do` a new journal is written, if one is needed.

    `needed`: whether anything is damaged, `faults` says what; `lines`: how many of the journal are whole; `counts`:
    jobs by the status that they would have; `changes`: what the journal does not tell, by the job's id; `lost`: what
    nothing tells; `kept`: the names of the damaged files. Raises RepairError and OSError.
    """
    do = asked.get("do") is True
    try:
        me = {"pid": os.getpid(), "host": os.uname().nodename, "since": iso(round(time.time(), 3))}
        lock = Lock(paths.lock, me, shared=True)
    except HeldError as error:
        raise RepairError(f"the run has a manager, which keeps its journal intact: {error}") from None
    try:
        found = _examine(paths)
        kept = _write(paths, found) if do else []
    except UseError as error:
        raise RepairError(str(error)) from None
    finally:
        lock.close()
    counts = {status.value: count for status, count in sorted(found.rebuilt.state.tallies.shown.items())}
    faults = [fault for fault in (found.journal, found.state) if fault]
    changes = found.rebuilt.changes if found.journal else {}
    return {
        "run_id": found.rebuilt.state.run_id,
        "needed": bool(faults),
        "faults": faults,
        "damaged": found.lines.damaged[:_SHOWN],
        "lines": len(found.lines.records),
        "counts": counts,
        "changes": dict(list(changes.items())[:_SHOWN]),
        "changed": len(changes),
        "lost": found.rebuilt.lost[:_SHOWN] if found.journal else [],
        "kept": kept,
        "done": do and bool(faults),
    }


def _examine(paths: RunPaths) -> _Found:
    manifest, digest = read_manifest(paths.manifest)
    state = state_fault(paths.state)
    document = _document(paths.state)
    meta = document.get("meta") if isinstance(document.get("meta"), dict) else {}
    assert isinstance(meta, dict)
    lines, journal = _read_lines(paths.journal, manifest)
    holder = living_manager(paths.state, lines.records)
    if holder is not None:
        raise RepairError(f"the run has a manager, which keeps its journal intact: {holder}")
    first = lines.records[0].event if lines.records else None
    expected = first.manifest_sha256 if isinstance(first, ev.RunStarted) else meta.get("manifest_sha256")
    if expected is not None and expected != digest:
        raise RepairError(f"{paths.manifest} is not the manifest that the run started with; restore that first")
    begun = [record.event for record in lines.records if isinstance(record.event, ev.ManagerStarted)]
    boot = begun[-1].boot if begun else meta.get("boot")
    head = Head(
        _run_id(meta, paths),
        digest,
        boot if isinstance(boot, str) and boot else host.boot_id(),
        meta.get("paused") is True,
        _cards(document),
    )
    rows = read_rows(document)
    left = rebuild(manifest, lines.records, {}, head, {}, 0.0).state
    traces = _traces(paths, manifest, [job.spec for job in left.jobs])
    made = rebuild(manifest, lines.records, rows, head, traces, round(time.time(), 3))
    if journal is None and ahead(left, rows):
        journal = f"{paths.journal} has lost its last lines: by {paths.state} some jobs had progressed further"
    return _Found(manifest, lines, journal, f"{paths.state} {state}" if state else None, made)


def _read_lines(path: Path, manifest: Manifest) -> tuple[Lines, str | None]:
    """What is left of the journal, and what is wrong with it in words."""
    try:
        lines = whole_lines(read_regular(path, _MOST), manifest)
    except FileNotFoundError:
        return Lines([], [], False), f"{path} is gone"
    except OSError as error:
        return Lines([], [], False), f"{path} cannot be read: {error.strerror}"
    if lines.damaged:
        others = len(lines.damaged) - 1
        more = f", and {others} more line{'' if others == 1 else 's'} like it" if others else ""
        return lines, f"{path}, {lines.damaged[0]}{more}"
    if not lines.records:
        return lines, f"{path} contains no line of a journal"
    return lines, None


def _document(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_regular(path, _MOST))
        if isinstance(found, dict):
            return found
    return {}


def _run_id(meta: Mapping[str, Any], paths: RunPaths) -> str:
    for name in (meta.get("run_id"), paths.root.name):
        if isinstance(name, str) and layout.id_fault(name) is None:
            return name
    return "repaired"


def _cards(document: Mapping[str, Any]) -> dict[int, str]:
    rows = document.get("gpus")
    found = {}
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("index"), int) and isinstance(row.get("uuid"), str):
            found[row["index"]] = row["uuid"]
    return found


def _traces(paths: RunPaths, manifest: Manifest, specs: list[JobSpec]) -> dict[str, Trace]:
    """What the attempts of these jobs have left: directories, logs and outputs."""
    ids = {spec.id for spec in specs}
    logs = set(_names(paths.log_dir))
    tries: dict[str, int] = {}
    attempts = {name: job for name in _names(paths.attempts) if (job := _of_attempt(name, ids))}
    for name, number in attempts.values():
        tries[name] = max(tries.get(name, 0), number)
    found = {}
    base = paths.manifest.parent / os.path.expanduser(manifest.cwd)
    for one in specs:
        spec = shell_paths.expanded(manifest, one, os.environ)
        n = tries.get(spec.id, 0)
        if paths.log(spec.id).name in logs:
            n = max(n, 1)
            while paths.earlier_log(spec.id, n, ids).name in logs:
                n += 1
        if n:
            is_open = (spec.id, n) in attempts.values()
            found[spec.id] = Trace(n, is_open, _has_output(paths, spec.expected_output, spec.cwd, base))
    return found


def _has_output(paths: RunPaths, pattern: str | None, cwd: str | None, base: Path) -> bool | None:
    """Whether a job's output is there, and was not before the run began."""
    if pattern is None:
        return None
    begun = 0
    with contextlib.suppress(OSError):
        begun = paths.manifest.stat().st_mtime_ns
    where = os.path.normpath(base / os.path.expanduser(cwd or "."))
    return evidence.find_output(pattern, where, begun).fresh


def _of_attempt(name: str, ids: set[str]) -> tuple[str, int] | None:
    job, mark, n = name.rpartition("~")
    return (job, int(n)) if mark and job in ids and _NUMBER.fullmatch(n) and int(n) else None


def _names(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _write(paths: RunPaths, found: _Found) -> list[str]:
    """Put the new journal in place, the damaged one beside it. Returns the names of what was kept. Raises OSError."""
    kept: list[Path] = []
    if found.state is not None:
        kept.append(set_aside(paths.state))
    if found.journal is None:
        return [path.name for path in kept]
    beside = None
    if paths.journal.is_file():
        beside = _free(paths.journal)
        shutil.copyfile(paths.journal, beside)  # copied, so that there is a journal at every moment
        kept.append(beside)
    elif paths.journal.exists() or paths.journal.is_symlink():
        beside = set_aside(paths.journal)
        kept.append(beside)
    made = found.rebuilt
    completed = made.state.tallies.counts.get(Status.COMPLETED, 0)
    text = (
        f"the journal was repaired: {len(found.lines.records)} whole lines of it, {len(found.lines.damaged)} damaged; "
        f"{len(made.changes)} jobs by the snapshot and what their attempts left; {completed} are completed"
    )
    end = Record(made.state.seq + 1, round(time.time(), 3), ev.RunRepaired(text, beside.name if beside else ""))
    write_whole(paths.journal, ("".join(map(ev.encode, [*made.records, end])).encode(),), mode=0o600)
    # It counts lines of the old journal: by the new one's numbers, results would be taken for safe that are not.
    if paths.acknowledged.exists():
        kept.append(set_aside(paths.acknowledged))
    return [path.name for path in kept]


def _free(path: Path) -> Path:
    now, n = time.time(), 0
    while layout.damaged(path, now, n).exists():
        n += 1
    return layout.damaged(path, now, n)
