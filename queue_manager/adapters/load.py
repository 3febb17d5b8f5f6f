"""Load what a manager needs to continue a run: manifest, journal and state file, checked against each other."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from queue_manager.adapters import facts, host, processes
from queue_manager.adapters.aside import set_aside
from queue_manager.adapters.journal import JournalError, read_journal
from queue_manager.adapters.regular import open_regular, read_regular
from queue_manager.core import events as ev
from queue_manager.core import salvage
from queue_manager.core.events import Proc, Record
from queue_manager.core.journal_lines import replay
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import Manifest, ManifestError, decode, sha256
from queue_manager.core.model import QueueState
from queue_manager.core.state_format import FORMAT

_log = logging.getLogger(__name__)


class UseError(Exception):
    """The run cannot be managed as requested; the message says what to do instead."""


class Loaded(NamedTuple):
    """A run as its files describe it. `length`: bytes of the complete part of the journal. `is_state_damaged`: the
    snapshot is invalid, which does no harm, since it is rewritten from the journal."""

    manifest: Manifest
    digest: str
    records: list[Record]
    length: int
    state: QueueState
    is_state_damaged: bool


def load(paths: RunPaths) -> Loaded:
    """Load a run. Raises UseError, and OSError where a file cannot be read."""
    manifest, digest = read_manifest(paths.manifest)
    found = state_fault(paths.state)
    if not _is_there(paths.journal):
        if found is None and _is_there(paths.state):
            raise UseError(
                f"{paths.state} has lost its journal.jsonl and cannot continue without it; to see what can be "
                f"recovered: {_repair(paths)}; or give another --state"
            )
        if found is not None:
            raise UseError(f"{paths.state} {found}; give another --state")
    records, length = _read_journal(paths, digest)
    if not records and _is_there(paths.state):
        if found is None:
            raise UseError(
                f"{paths.journal} is empty, but {paths.state} describes a run; to see what can be recovered: "
                f"{_repair(paths)}"
            )
        if not _is_blank(paths.state):  # as a power cut leaves a file
            raise UseError(f"{paths.state} {found}; give another --state")
    state = QueueState(manifest)
    try:
        replay(state, records)
    except JournalError as error:
        raise UseError(f"{paths.journal}, {error}; to see what can be recovered: {_repair(paths)}") from None
    if records and found is None:
        _check_not_behind(paths, state)
    return Loaded(manifest, digest, records, length, state, found is not None)


def keep_damaged_state(paths: RunPaths) -> None:
    """Move a state file that is none out of the way; a new one is written from the journal. Raises OSError."""
    kept = set_aside(paths.state)
    _log.warning("%s was damaged; it is kept as %s, and rewritten from the journal", paths.state, kept.name)


def living_manager(state: Path, records: Iterable[Record]) -> str | None:
    """Return the manager of a run, whatever happened to its lock; None if none is known to live."""
    begun = [record.event for record in records if isinstance(record.event, ev.ManagerStarted)]
    last = [ev.values(event) for event in begun[-1:]]
    meta = facts.state_meta(state)
    for one in [*last, *([meta] if meta.get("manager") == "running" else [])]:
        pid, ticks = one.get("pid"), one.get("ticks")
        if not (isinstance(pid, int) and isinstance(ticks, int)) or ticks <= 0 or pid in (0, os.getpid()):
            continue
        if one.get("boot") == host.boot_id() and processes.alive(Proc(pid, ticks)) is True:
            return f"process {pid} on {one.get('host')}; it is running, though its lock file was removed"
    return None


def _repair(paths: RunPaths) -> str:
    return f"wavequeue repair {paths.root}"


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _is_blank(path: Path) -> bool:
    try:
        return not read_regular(path, 1 << 16).strip(b"\0 \n")
    except OSError:
        return False


def read_manifest(path: Path) -> tuple[Manifest, str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UseError(f"{path}: {error.strerror}; build one with: wavequeue build SPEC --output {path}") from None
    try:
        return decode(data.decode()), sha256(data)
    except (ManifestError, UnicodeDecodeError) as error:
        raise UseError(f"{path}: {error}") from None


def state_fault(path: Path) -> str | None:
    """Why there is no state file of ours, though there is a file; None if there is one, or no file at all."""
    try:
        with open_regular(path) as file:
            head = file.read(4096)
            file.seek(max(0, file.seek(0, os.SEEK_END) - 64))
            end = file.read()
            # The format stands at the beginning; a large snapshot need not be read whole.
            if f'"format": "{FORMAT}"'.encode() in head and end.rstrip().endswith(b"]}"):
                return None
            file.seek(0)
            ours = json.loads(file.read())["meta"]["format"] == FORMAT
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, RecursionError):
        ours = False
    return None if ours else "is not a state file of wavequeue"


def _read_journal(paths: RunPaths, digest: str) -> tuple[list[Record], int]:
    """The journal of a run that has begun, checked against the manifest; nothing for a new run."""
    if not _is_there(paths.journal):
        return [], 0
    try:
        open_regular(paths.journal).close()
        records, length = read_journal(paths.journal)
    except OSError as error:
        raise UseError(f"{paths.journal}: {error.strerror}") from None
    except JournalError as error:
        raise UseError(f"{error}; to see what can be recovered: {_repair(paths)}") from None
    if not records:
        return [], 0
    first = records[0].event
    if not isinstance(first, ev.RunStarted) or first.format != ev.FORMAT:
        raise UseError(f"{paths.journal} is not a journal of wavequeue; give another --state")
    if first.version > ev.VERSION:
        raise UseError(f"{paths.journal} was written by a newer wavequeue; use that one")
    if first.manifest_sha256 != digest:
        raise UseError(
            f"{paths.manifest} was changed after run {first.run_id} began. Put it back; "
            f"bring new jobs in with `wavequeue add SPEC --run {first.run_id}`, run old ones again with "
            f"`wavequeue retry JOB --run {first.run_id}`, or begin a new run with `wavequeue run SPEC`"
        )
    return records, length


def _check_not_behind(paths: RunPaths, state: QueueState) -> None:
    """Refuse a journal that has lost lines which the snapshot was made from: jobs would run again. Lines that were not
    on disk yet when the power went are no loss: nothing was done because of them."""
    meta = facts.state_meta(paths.state)
    seq = meta.get("seq")
    if meta.get("run_id") != state.run_id or not isinstance(seq, int) or seq <= state.seq:
        return
    try:
        rows = salvage.read_rows(json.loads(paths.state.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return
    ahead = salvage.ahead(state, rows)
    if ahead:
        names = ", ".join(ahead[:3]) + (f" and {len(ahead) - 3} more" if len(ahead) > 3 else "")
        raise UseError(
            f"{paths.journal} ends at line {state.seq} and has lost the {seq - state.seq} after it: according to "
            f"{paths.state}, {names} had progressed further. To see what can be recovered: {_repair(paths)}"
        )
