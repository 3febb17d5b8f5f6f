"""What was last read of a host of a run, kept beside the run: shown while the host cannot be reached."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from build_manifest import regular_file
from queue_manager.core.layout import RunPaths, id_fault
from skill.common import typed_json
from skill.common.files import make_directory, write_whole
from skill.runs import directory, logs, state_schema
from skill.runs.digest import GONE
from skill.runs.directory import Document

_LOOK, _WHOLE = "look.json", "look.whole.json"
"""The last state, short or whole, and the last whole one."""
_MOST = directory.MOST_STATE + (1 << 20)


class HostSnapshot(NamedTuple):
    """What a host said when it was looked at, see queue_manager.remote.control.look.

    `document` is None where its manager has not begun; `tails`: last lines of running jobs' logs by id; `added`: lines
    of its journal about jobs that were added there.
    """

    document: Document | None
    alive: bool
    tails: Mapping[str, str] = {}
    added: tuple[str, ...] = ()


class Kept(NamedTuple):
    """A state as it was kept. `at`: epoch seconds when it was read, by the clock here."""

    document: Document
    at: float


def parse_snapshot(answer: Mapping[str, Any], jobs: Collection[str] | None = None) -> HostSnapshot | str:
    """A host's answer to a look, looked through; or why it is none, in words.

    `jobs`: those that are known to be there; beside these a state may have what the answer itself says was added. None:
    any.
    """
    try:
        document, alive, tails, added = (answer[name] for name in ("state", "alive", "tails", "added"))
        there = frozenset(job for line in added for job in _added_ids(line))
        if document is not None:
            words = state_schema.fault(document, None if jobs is None else {*jobs, *there})
            if words is not None:
                return f"what it sent is not a state of a run ({words})"
        if type(alive) is not bool:
            raise ValueError("alive")
        last_lines = {job: state_schema.clean(logs.last_plain_line(text)) for job, text in tails.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"what it sent is not a view of a run ({str(error)[:80]!r})"
    if document is not None:
        document = state_schema.clean(document)
        gone = answer.get("gone")  # an older runtime does not tell
        if type(gone) is int and 0 <= gone <= len(document["jobs"]):
            document["meta"][GONE] = gone
    return HostSnapshot(document, alive, last_lines, tuple(added))


def _added_ids(line: str) -> list[str]:
    """The jobs that a line of a journal tells of. Raises ValueError where it does not tell of jobs that were added."""
    from queue_manager.core import events  # hardly ever was a job added

    event = events.decode(line).event
    if not isinstance(event, events.JobsAdded) or any(id_fault(spec.id) for spec in event.specs):
        raise ValueError("jobs that were added")
    return [spec.id for spec in event.specs]


def keep(folder: Path, found: HostSnapshot, at: float) -> None:
    """Keep what a host said. `at` in epoch seconds. A disk that is full here prevents no look."""
    with contextlib.suppress(OSError):
        make_directory(folder)
        if found.document is not None:
            text = json.dumps({"at": at, "state": found.document}, ensure_ascii=False)
            for name in (_LOOK,) if found.document.get("overview") else (_LOOK, _WHOLE):
                write_whole(folder / name, text, durable=False)
        path = folder / directory.ADDED
        lines = "".join(f"{line.rstrip()}\n" for line in found.added)
        if lines and (not path.exists() or path.stat().st_size != len(lines.encode())):
            write_whole(path, lines)


def recall(folder: Path, *, whole: bool = False) -> Kept | None:
    """The state of a host as it was last kept; None if none was. `whole`: rather an older one with all its jobs.

    One that was pulled counts, too.
    """
    _take_pulled(folder)
    for name in (_WHOLE, _LOOK) if whole else (_LOOK,):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = typed_json.decode(regular_file.read(folder / name, _MOST, follow=False), _MOST)
            kept = Kept(data["state"], float(data["at"]))
            if state_schema.fault(kept.document) is None:
                return kept
    return None


def _take_pulled(folder: Path) -> None:
    """Keep the state that was pulled as what was last read, if it came later than that."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        pulled, look = RunPaths.of(folder).state, folder / _LOOK
        at = pulled.stat().st_ctime  # its other time is the host's
        if look.exists() and look.stat().st_mtime >= at:
            return
        document = directory.parse_state(regular_file.read(pulled, _MOST, follow=False))
        keep(folder, HostSnapshot(state_schema.clean(document), alive=False), at)


def added(folder: Path) -> list[str]:
    """Ids of the jobs that were added on a host, as far as is known here."""
    return [spec.id for event in directory.read_added(folder / directory.ADDED) for spec in event.specs]


def count_added(folder: Path) -> int:
    """Bytes of what is kept of jobs that were added; changes whenever more are."""
    try:
        return (folder / directory.ADDED).stat().st_size
    except OSError:
        return 0
