"""What others read: the snapshot with its cached rows, alerts.jsonl and summary.md."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from queue_manager.adapters.files import SHOWN, write_whole
from queue_manager.adapters.journal import SnapshotWriter
from queue_manager.adapters.line_file import LineFile
from queue_manager.core import alerts, job_metrics, pace, snapshot, summary
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.model import QueueState
from queue_manager.core.snapshot import Situation
from queue_manager.core.status import Status
from queue_manager.core.times import iso

_ROWS_AT_ONCE = 1000


class Publisher:
    """Keeps what is published up to date with one run's state. `wake` is called when a snapshot has been written.
    `share`: of the time, that goes into writing at most."""

    def __init__(
        self, paths: RunPaths, state: QueueState, wake: Callable[[], None], share: float = pace.OWN_HOST.writing
    ) -> None:
        self._paths, self._state, self._wake = paths, state, wake
        self._rows: list[bytes] = []
        self._queue_wide: tuple[object, ...] | None = None
        self._writer = SnapshotWriter(paths.state, share)
        self._stale = True
        self._head: dict[str, Any] | None = None
        """As written last, like the rows; both hold what was in the journal by then."""
        self._alerts, self._metrics = LineFile(paths.alerts), LineFile(paths.metrics)

    @property
    def error(self) -> OSError | None:
        """Why the last snapshot could not be written."""
        return self._writer.error

    def changed(self) -> None:
        """Something that the snapshot shows is different now."""
        self._stale = True

    def due_in(self) -> float | None:
        """Seconds until a snapshot has to be written; None if none is wanted, or one is being written."""
        if not self._stale or math.isinf(self._writer.ready_at()):
            return None
        return max(0.0, self._writer.ready_at() - time.monotonic())

    def snapshot(self, situation: Callable[[], Situation], now: float) -> None:
        """Write a snapshot if one is wanted and may be written now; only then is `situation` asked for."""
        if self.due_in() == 0.0:
            self._writer.write(self._render(situation(), now), self._wake)
            self._stale = False

    def final(self, situation: Situation, now: float) -> None:
        """Write summary.md and then the last snapshot: who reads there that the run has finished finds the summary.

        Raises OSError; the snapshot is written all the same, where that is what can be.
        """
        try:
            text = summary.summary(self._state, str(self._paths.log_dir), now)
            write_whole(self._paths.summary, [text.encode()], mode=SHOWN)
        finally:
            self._writer.finish(self._render(situation, now))

    def stalled(self, kind: str, text: str, now: float) -> None:
        """Write what was written last once more, if that may be done now, with a condition of its own. For while the
        state is ahead of a journal that takes nothing: what is not in there is shown to nobody."""
        if self._head is None or self.due_in() != 0.0:
            return
        meta = self._head["meta"]
        others = [row for row in meta["conditions"] if row["kind"] != kind]
        meta = {**meta, "updated": iso(now), "conditions": [*others, {"kind": kind, "text": text, "since": iso(now)}]}
        self._writer.write(self._document({**self._head, "meta": meta}), self._wake)

    def halted(self, now: float) -> None:
        """Write what was written last once more, as the document of a manager that goes no further because of a fault
        of ours: its state may be ahead of the journal."""
        if self._head is not None:
            meta = {**self._head["meta"], "updated": iso(now), "manager": "halted"}
            self._writer.finish(self._document({**self._head, "meta": meta}))

    def _render(self, situation: Situation, now: float) -> Callable[[], Iterator[bytes]]:
        """Bring the rows up to date, and hand over a document that later changes do not touch."""
        state = self._state
        self._rows += [b""] * (len(state.jobs) - len(self._rows))
        queue_wide = (
            snapshot.queue_reason(state, situation.refuses),
            snapshot.card_reason(state),
            tuple(sorted(situation.impossible.items(), key=str)),
        )
        if queue_wide != self._queue_wide:
            self._queue_wide = queue_wide
            state.touched.update(job.order for job in state.jobs if job.status is Status.PENDING)
        for order in state.touched:
            self._rows[order] = _dump(snapshot.job_row(state, state.jobs[order], situation))
        state.touched.clear()
        self._head = snapshot.head(state, situation, now)
        return self._document(self._head)

    def _document(self, head: dict[str, Any]) -> Callable[[], Iterator[bytes]]:
        rows = list(self._rows)

        def document() -> Iterator[bytes]:
            yield b"{" + b",\n".join(_dump(key) + b": " + _dump(value) for key, value in head.items())
            yield b',\n"jobs": [\n'
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                yield (b",\n" if start else b"") + b",\n".join(rows[start : start + _ROWS_AT_ONCE])
            yield b"\n]}\n"

        return document

    # -- alerts -------------------------------------------------------------------------------------------------

    def catch_up(self, records: Iterable[Record]) -> None:
        """Tell of what is in the journal and not in alerts.jsonl or metrics.jsonl, after a crash between the two."""
        records = list(records)
        for file, line_of in ((self._alerts, alerts.alert), (self._metrics, self._metric)):
            known = file.last_seq()
            file.add(line for record in records if record.seq > known and (line := line_of(record)) is not None)

    def _metric(self, record: Record) -> str | None:
        return job_metrics.line(self._state, record)

    def alert(self, records: Iterable[Record]) -> None:
        """Append alerts and metrics; what the disk does not take is kept and tried again."""
        records = list(records)
        self._alerts.add(line for record in records if (line := alerts.alert(record)) is not None)
        self._metrics.add(line for record in records if (line := self._metric(record)) is not None)

    def alert_now(self, kind: str, text: str, now: float, seq: int) -> None:
        """Tell of something that cannot go through the journal."""
        row = {"seq": seq, "at": iso(now), "kind": kind, "text": text}
        self._alerts.add([json.dumps(row, ensure_ascii=False) + "\n"])


_encode = json.JSONEncoder(ensure_ascii=False).encode
"""Made once: json.dumps makes an encoder for each call."""


def _dump(value: Any) -> bytes:
    return _encode(value).encode()
