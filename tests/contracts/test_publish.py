"""alerts.jsonl on a disk that gets full; and what of the state is published when."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queue_manager.adapters.journal import SnapshotWriter
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.layout import RunPaths
from queue_manager.core.manifest import JobSpec, Manifest, Phase
from queue_manager.core.model import QueueState
from queue_manager.core.snapshot import Situation
from queue_manager.publish import Publisher
from tests.contracts.test_journal import room


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    return RunPaths.of(tmp_path)


@pytest.fixture
def state() -> QueueState:
    return QueueState(Manifest("p", (JobSpec("a", "true", "main"),), (Phase("main"),)))


@pytest.fixture
def publisher(paths: RunPaths, state: QueueState) -> Publisher:
    return Publisher(paths, state, lambda: None)


def test_what_the_disk_does_not_take_is_reported_later_and_once(paths: RunPaths, publisher: Publisher) -> None:
    publisher.alert_now("disk", "first", 0.0, 1)
    whole = paths.alerts.read_bytes()
    for size in range(len(whole), len(whole) * 3, 7):
        with room(size):
            publisher.alert_now("disk", f"at {size}", 0.0, 1)
        assert paths.alerts.read_bytes() in (whole, whole + _rest(paths, whole))
    publisher.alert_now("disk", "last", 0.0, 1)
    texts = [json.loads(line)["text"] for line in paths.alerts.read_text().splitlines()]
    assert texts == ["first", *(f"at {size}" for size in range(len(whole), len(whole) * 3, 7)), "last"]


def situation() -> Situation:
    return Situation(None, {}, "finished", "/", 1.0, None, lambda job: f"logs/{job}.log")


def test_who_reads_that_a_run_has_finished_finds_its_summary(
    paths: RunPaths, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    finish = SnapshotWriter.finish

    def watched(self: SnapshotWriter, render: Callable[[], Iterator[bytes]]) -> None:
        there.append(paths.summary.exists())
        finish(self, render)

    monkeypatch.setattr(SnapshotWriter, "finish", watched)
    publisher.final(situation(), 0.0)
    assert there == [True]
    assert json.loads(paths.state.read_text())["meta"]["manager"] == "finished"


def test_a_summary_that_cannot_be_written_keeps_no_state_from_being_published(
    paths: RunPaths, publisher: Publisher
) -> None:
    paths.summary.mkdir()
    with pytest.raises(OSError, match="summary"):
        publisher.final(situation(), 0.0)
    assert json.loads(paths.state.read_text())["meta"]["manager"] == "finished"


# -- only what is in the journal --------------------------------------------------------------------------------------


def published(paths: RunPaths) -> tuple[int, str, list[str], str]:
    """Seq, status of the one job, kinds of conditions, and what the manager is said to be."""
    document = json.loads(paths.state.read_text())
    meta = document["meta"]
    return meta["seq"], document["jobs"][0]["status"], [row["kind"] for row in meta["conditions"]], meta["manager"]


def going_on(paths: RunPaths, publisher: Publisher, state: QueueState) -> None:
    """Publish the state, and let a job start that the journal knows nothing of."""
    publisher.snapshot(lambda: situation()._replace(manager="running"), 1.0)
    publisher.final(situation()._replace(manager="running"), 1.0)
    assert published(paths) == (0, "pending", [], "running")
    state.apply(Record(1, 2.0, ev.AttemptStarting("a", 1, 1, "wq.a.1", "boot")))
    publisher.changed()


def test_what_a_full_disk_keeps_from_the_journal_is_not_published(paths: RunPaths, state: QueueState) -> None:
    written = threading.Event()
    publisher = Publisher(paths, state, written.set)
    publisher.stalled("disk", "the disk is full", 0.5)
    assert not paths.state.exists(), "nothing is known yet of which the journal knows"
    going_on(paths, publisher, state)
    deadline = time.monotonic() + 60
    while published(paths)[2] == [] and time.monotonic() < deadline:
        publisher.stalled("disk", "the disk is full", 3.0)
        written.wait(0.05)
    assert published(paths) == (0, "pending", ["disk"], "running")
    publisher.final(situation(), 4.0)
    assert published(paths) == (1, "running", [], "finished")


def test_what_was_half_decided_when_a_fault_ended_the_manager_is_not_published(
    paths: RunPaths, publisher: Publisher, state: QueueState
) -> None:
    going_on(paths, publisher, state)
    publisher.halted(3.0)
    assert published(paths) == (0, "pending", [], "halted")


def test_metrics_are_reported_once_whatever_a_crash_left(paths: RunPaths) -> None:
    jobs = tuple(JobSpec(name, "true", "main", metrics={"acc": {"log": "acc=(.*)"}}) for name in "abc")
    state = QueueState(Manifest("p", jobs, (Phase("main"),)))
    records = []
    for name in "abc":
        for event in (ev.JobSkipped(name), ev.MetricsRead(name, {"acc": 0.5}, {})):
            records.append(Record(state.seq + 1, 10.0, event))
            state.apply(records[-1])
    Publisher(paths, state, lambda: None).alert(records[:2])
    whole = paths.metrics.read_bytes()
    for left in (b"", b'{"seq": 4, "at": "20'):  # it was killed before the second line, or a power cut left half of it
        paths.metrics.write_bytes(whole + left)
        for _ in range(2):
            Publisher(paths, state, lambda: None).catch_up(records)
        lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
        assert [(row["job"], row["metrics"]) for row in lines] == [(name, {"acc": 0.5}) for name in "abc"]


def _rest(paths: RunPaths, whole: bytes) -> bytes:
    """What stands behind `whole`, which has to be whole lines."""
    rest = paths.alerts.read_bytes()[len(whole) :]
    for line in rest.splitlines(keepends=True):
        assert line.endswith(b"\n")
        json.loads(line)
    return rest
