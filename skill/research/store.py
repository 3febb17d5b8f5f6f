"""The queues as files: one writer at a time, every write whole and on the disk, and no edit by hand lost.

A person's editor takes no lock. So a change is a function of what the file has, and is made anew where the file has
changed before the rename. What took longer, such as asking hosts, is merged by record and key (`save`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from build_manifest.faults import Fault, SpecErrors
from skill.common import typed_json
from skill.common.errors import UseError
from skill.common.files import locked, make_directory, make_users_directory, read_text, write_whole
from skill.common.project import ResearchPaths
from skill.research import ids, queue_text
from skill.research.merge import ConflictsError, merge
from skill.research.queue_text import MOST, BrokenError
from skill.research.records import Record

Edit = Callable[[list[Record]], list[Record]]
"""What is to become of the records of a queue; called again with what the file has by then. It may raise UseError."""
_PAUSES = (0.02, 0.1, 0.3)
"""Seconds in which an editor that writes in place is done."""


class _ChangedError(Exception):
    """The file is no longer what it was when the change was made."""


class Store:
    """The queues beside one workers.yaml."""

    def __init__(self, workers: Path) -> None:
        self.paths = ResearchPaths.of(workers)

    def read(self, queue: str) -> list[Record]:
        """The records of a queue, in the order of its file. Raises SpecErrors with all faults, UseError."""
        return self._parsed(queue)[1]

    def text(self, queue: str) -> tuple[str, list[Record]]:
        """The text of a queue and its records. Raises as `read` does."""
        text, records = self._parsed(queue)
        return text or "", records

    def change(self, queue: str, edit: Edit) -> list[Record]:
        """Change a queue; returns its records. Raises what `read` and `edit` raise, and OSError; nothing is changed
        then."""
        with locked(self.paths.lock):
            return self._change(queue, edit)

    def add(
        self,
        queue: str,
        new: Callable[[list[Record]], Sequence[Record]],
        finish: Callable[[list[Record]], list[Record]] = list,
    ) -> list[Record]:
        """Add records without an id to a queue, made from what it has; returns them with their ids. `finish` makes what
        needs the ids. Raises as `change` does."""
        added: list[Record] = []

        def edit(records: list[Record]) -> list[Record]:
            nonlocal added
            numbered, counts = ids.numbered(queue, new(records), records, self._given())
            added = finish(numbered)
            if added:  # before the records: a number that is lost is no loss, one that is given twice is
                self._keep_given(counts)
            return [*records, *added]

        self.change(queue, edit)
        return added

    def save(self, queue: str, base: Sequence[Record], mine: Sequence[Record]) -> list[Record]:
        """Write what came of `base`, which was read some time ago; what was changed in the meantime stays. Returns the
        records. Raises UseError where both changed one key, OSError."""
        try:
            return self.change(queue, lambda theirs: merge(base, mine, theirs))
        except ConflictsError as error:
            path = self.paths.queue(queue)
            lines = [f"{path}: {one.record}{f', {one.key}' if one.key else ''}: {one.says}" for one in error.conflicts]
            raise UseError(
                "\n".join([*lines[:20], "nothing was written; settle it in the file, then run this again"])
            ) from None

    def _change(self, queue: str, edit: Edit) -> list[Record]:
        path = self.paths.queue(queue)
        make_users_directory(path.parent)
        for left in path.parent.glob(f".{path.name}*.tmp"):  # of a writer that was killed: nobody else writes now
            left.unlink(missing_ok=True)
        while True:
            text, records = self._parsed(queue)
            before = self._encoded(queue, records)
            edited = edit(records)
            after = self._encoded(queue, edited)
            if after == before and text is not None:
                return edited
            queue_text.parse(after, queue, str(path))
            with contextlib.suppress(_ChangedError):
                self._write(queue, text, after)
                return edited

    def _encoded(self, queue: str, records: list[Record]) -> str:
        try:
            return queue_text.encode(records)
        except ValueError as error:
            raise UseError(f"{self.paths.queue(queue)}: cannot be written as JSON: {error}") from None

    def _write(self, queue: str, before: str | None, after: str) -> None:
        path = self.paths.queue(queue)

        def check() -> None:
            if _text(path) != before:
                raise _ChangedError

        write_whole(path, after, mode=None, check=check)
        write_whole(self.paths.last_good(queue), after, mode=None)

    def _parsed(self, queue: str) -> tuple[str | None, list[Record]]:
        """The text of a queue (None: there is none) and its records."""
        path = self.paths.queue(queue)
        for pause in (*_PAUSES, None):
            text = _text(path)
            if text is None:
                return None, []
            try:
                return text, queue_text.parse(text, queue, str(path))
            except BrokenError as error:
                if pause is None:
                    raise SpecErrors([self._with_copy(queue, fault) for fault in error.faults]) from None
                time.sleep(pause)
        raise AssertionError

    def _with_copy(self, queue: str, fault: Fault) -> Fault:
        copy = self.paths.last_good(queue)
        if not copy.exists():
            return fault
        hint = f"{fault.instead}; the last good copy is {copy.name} beside it" if fault.instead else str(copy)
        return fault._replace(instead=hint)

    def _given(self) -> Mapping[str, int]:
        try:
            found: Any = queue_text.document(read_text(self.paths.ids, MOST), str(self.paths.ids))
        except (FileNotFoundError, SpecErrors):
            return {}  # the ids in the queues still count
        return {key: one for key, one in found.items() if type(one) is int} if isinstance(found, dict) else {}

    def _keep_given(self, counts: Mapping[str, int]) -> None:
        make_directory(self.paths.ids.parent)
        write_whole(self.paths.ids, typed_json.pretty(dict(counts)))


def _text(path: Path) -> str | None:
    try:
        return read_text(path, MOST)
    except FileNotFoundError:
        return None
