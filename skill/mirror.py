"""What was last read of a host of a run, kept beside the run: shown while the host cannot be reached."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core import events
from queue_manager.core.layout import RunPaths, id_fault
from skill import logs, runs, sound
from skill.files import write_whole
from skill.runs import Document

_LOOK, _WHOLE = "look.json", "look.whole.json"
"""The last state, short or whole, and the last whole one."""


class Told(NamedTuple):
    """What a host said when it was looked at, see queue_manager.control.look.

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


def told(answer: Mapping[str, Any]) -> Told | str:
    """A host's answer to a look, looked through; or why it is none, in words."""
    try:
        document, alive, tails, added = (answer[name] for name in ("state", "alive", "tails", "added"))
        if document is not None:
            words = sound.fault(document)
            if words is not None:
                return f"what it sent is no state of a run ({words})"
        if type(alive) is not bool:
            raise ValueError("alive")
        said = {job: sound.clean(logs.said_last(text)) for job, text in tails.items()}
        for line in added:
            _check_added(line)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"what it sent is no look at a run ({str(error)[:80]!r})"
    return Told(None if document is None else sound.clean(document), alive, said, tuple(added))


def _check_added(line: str) -> None:
    """Raises ValueError where a line does not tell of jobs that were added."""
    event = events.decode(line).event
    if not isinstance(event, events.JobsAdded) or any(id_fault(spec.id) for spec in event.specs):
        raise ValueError("jobs that were added")


def keep(folder: Path, found: Told, at: float) -> None:
    """Keep what a host said. `at` in epoch seconds. A disk that is full here hinders no look."""
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if found.document is not None:
            text = json.dumps({"at": at, "state": found.document}, ensure_ascii=False)
            for name in (_LOOK,) if found.document.get("overview") else (_LOOK, _WHOLE):
                write_whole(folder / name, text, durable=False)
        path = folder / runs.ADDED
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
            data = json.loads((folder / name).read_bytes())
            kept = Kept(data["state"], float(data["at"]))
            if sound.fault(kept.document) is None:
                return kept
    return None


def _take_pulled(folder: Path) -> None:
    """Keep the state that was pulled as what was last read, if it came later than that."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        pulled, look = RunPaths.of(folder).state, folder / _LOOK
        at = pulled.stat().st_ctime  # its other time is the host's
        if look.exists() and look.stat().st_mtime >= at:
            return
        document = runs.parse_state(pulled.read_bytes())
        if sound.fault(document) is None:
            keep(folder, Told(sound.clean(document), alive=False), at)


def added(folder: Path) -> list[str]:
    """Ids of the jobs that were added on a host, as far as is known here."""
    return [spec.id for event in runs.read_added(folder / runs.ADDED) for spec in event.specs]


def count_added(folder: Path) -> int:
    """Bytes of what is kept of jobs that were added; changes whenever more are."""
    try:
        return (folder / runs.ADDED).stat().st_size
    except OSError:
        return 0
