"""A run told event by event: its journal, and its state document as the manager itself would write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from queue_manager.core import events as ev
from queue_manager.core import snapshot
from queue_manager.core.events import Event, Proc, Record
from queue_manager.core.launchers import SLURM
from queue_manager.core.layout import RunPaths, session_name
from queue_manager.core.manifest import JobSpec, Manifest, Phase, encode
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Card, Cards
from queue_manager.core.snapshot import Situation

T0 = 1767261600.0
"""2026-01-01T10:00:00Z"""
RUN_ID = "demo-20260101-100000"


def job(name: str, phase: str = "main", **fields: Any) -> JobSpec:
    return JobSpec(name, f"run {name}", phase, **{"gpus": 0, **fields})


def manifest(*jobs: JobSpec, phases: tuple[Phase, ...] | None = None, **fields: Any) -> Manifest:
    """A manifest of these jobs; its phases are those that the jobs name, if none are given."""
    names = dict.fromkeys(one.phase for one in jobs)
    return Manifest("demo", jobs, phases or tuple(Phase(name) for name in names), **fields)


class Story:
    """Applies events, one second apart."""

    def __init__(self, made: Manifest, root: Path = Path("/runs") / RUN_ID) -> None:
        self.manifest = made
        self.paths = RunPaths.of(root)
        self.state = QueueState(made)
        self.records: list[Record] = []
        self.at = T0
        self.queued: dict[int, str] = {}
        self.tell(ev.RunStarted(RUN_ID, made.project, "sha"))
        self.tell(ev.ManagerStarted("gpu-a", 4711, "boot"))

    def tell(self, *added: Event) -> Story:
        for event in added:
            record = Record(self.state.seq + 1, self.at, event)
            self.state.apply(record)
            self.records.append(record)
            self.at += 1.0
        return self

    def start(self, name: str, *cards: int) -> Story:
        """The next attempt of a job starts, on these cards."""
        n = self.state.job(name).n + 1
        uuids = tuple(f"GPU-{index}" for index in cards)
        used = (3,) * len(cards)
        intent = ev.AttemptStarting(name, n, 1, session_name(RUN_ID, name, n), "boot", uuids, cards, None, used)
        proc = Proc(1000 + n, 5)
        return self.tell(intent, ev.AttemptStarted(name, n, proc, proc, proc))

    def submit(self, *names: str) -> Story:
        """The next attempts of jobs go to Slurm."""
        for name in names:
            n = self.state.job(name).n + 1
            self.tell(ev.AttemptStarting(name, n, 1, session_name(RUN_ID, name, n), SLURM))
        return self

    def begin(self, name: str, node: str, *gpus: int, ago: float = 0.0) -> Story:
        """Slurm has started the attempt of a job on a node, so many seconds before it is seen."""
        proc = Proc(7, 3)
        n = self.state.job(name).n
        return self.tell(ev.AttemptStarted(name, n, proc, proc, proc, node, gpus, self.at - ago))

    def end(self, name: str, status: str = "completed", **fields: Any) -> Story:
        """The attempt of a job ends."""
        fields.setdefault("exit_code", 0 if status == "completed" else 1)
        n = self.state.job(name).n
        return self.tell(ev.AttemptEnded(name, n, status, **fields))

    def tell_retry(self, name: str) -> Story:
        """The delay of a failed job is over."""
        return self.tell(ev.RetryDue(name))

    def complete(self, *names: str) -> Story:
        for name in names:
            self.start(name).end(name)
        return self

    def document(self, manager: str = "running", cards: tuple[Card, ...] = ()) -> dict[str, Any]:
        """The document now, through JSON, as a reader has it."""
        situation = Situation(
            Cards(cards), {}, manager, "/code", 5.0, None, lambda name: str(self.paths.log(name)), queued=self.queued
        )
        made = snapshot.head(self.state, situation, self.at)
        made["jobs"] = [snapshot.job_row(self.state, one, situation) for one in self.state.jobs]
        found: dict[str, Any] = json.loads(json.dumps(made))
        return found

    def write(self, manager: str = "running") -> RunPaths:
        """Put manifest, journal and state where the story's paths say."""
        self.paths.log_dir.mkdir(parents=True, exist_ok=True)
        self.paths.manifest.write_text(encode(self.manifest))
        self.paths.journal.write_text("".join(map(ev.encode, self.records)))
        self.paths.state.write_text(json.dumps(self.document(manager)))
        return self.paths
