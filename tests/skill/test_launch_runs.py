"""The room of a worker, by what it says of its GPUs and what its runs say of their jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skill.common.errors import FailedError
from skill.hosts import probe
from skill.hosts.bootstrap import Facts, Python
from skill.hosts.connection import Unreachable
from skill.hosts.health import ProbeResult
from skill.hosts.registry import Worker
from skill.operations import launch_runs
from skill.operations.dispatch_runs import Seen
from skill.operations.launch_runs import Hosts
from skill.research.dispatch import Room
from tests.skill.fake_workers import make_store

FACTS = Facts("/home/me", Python("3.11.0", "/usr/bin/python3"), "", "x86_64", None, None, 9000, True, "h", frozenset(), None, None, False)  # fmt: skip  # noqa: E501
A = Worker("gpu-a")


def gpu(index: int, used: int) -> dict[str, Any]:
    return {
        "index": index, "uuid": f"GPU-{index}", "name": "NVIDIA H200", "total_mib": 140_000, "used_mib": used,
        "free_mib": 140_000 - used, "util": 0, "note": "",
    }  # fmt: skip


def job(name: str, status: str, gpus: tuple[int, ...] = (), cards: int = 1) -> dict[str, Any]:
    return {"id": name, "status": status, "cards": cards, "gpus": list(gpus)}


class OpenedRun:
    """A run whose host says this."""

    def __init__(self, jobs: list[dict[str, Any]], reason: str | None = None, state: str = "submitted") -> None:
        self._document = {"meta": {"hosts": [{"reason": reason, "state": state}]}, "jobs": jobs}

    def __enter__(self) -> OpenedRun:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def look(self, *, full: bool) -> dict[str, Any]:
        assert full, "an overview leaves jobs out"
        return self._document


def look(
    root: Path, monkeypatch: pytest.MonkeyPatch, opened_run: OpenedRun | None, records: list[dict[str, Any]],
    worker: Worker = A, result: ProbeResult | None = None,
) -> Seen | str:  # fmt: skip
    facts = {"python": {}, "cpus": 3, "gpus": [gpu(0, 0), gpu(1, 90_000), gpu(2, 90_000), gpu(3, 0)]}
    found = ProbeResult(FACTS, json.dumps(facts).encode()) if result is None else result
    monkeypatch.setattr(probe, "probe_all", lambda _hosts: {"gpu-a": found})

    def opened(_run: object) -> OpenedRun:
        if opened_run is None:
            raise FailedError("it is gone")
        return opened_run

    monkeypatch.setattr(launch_runs, "open_run", opened)
    store = make_store(root, [{"worker": "gpu-a", "run": "w", "claim": "w", **record} for record in records])
    return Hosts(store.paths.workers, store, lambda _text: None).look(worker, store.read("run"))


RUNS = [{"state": "running", "gpus": 1}, {"state": "done", "gpus": 1}]


@pytest.mark.parametrize(
    ("opened_run", "wanted"),
    [
        (OpenedRun([job("moons-r1", "running", (1,)), job("moons-r2", "completed")]), Seen(Room(2, 3), frozenset("w"))),
        (OpenedRun([job("moons-r1", "pending"), job("moons-r2", "completed")]), Seen(Room(1, 3), frozenset("w"))),
        (OpenedRun([job("moons-r1", "stuck"), job("moons-r2", "completed")]), Seen(Room(2, 3), frozenset("w"))),
        (OpenedRun([job("moons-r1", "pending", cards=0)]), Seen(Room(2, 2), frozenset("w"))),
        (OpenedRun([job("moons-r1", "running", (1,))], reason="another machine"), Seen(Room(1, 3), frozenset())),
        (OpenedRun([job("moons-r1", "running", (1,))], state="lost"), Seen(Room(1, 3), frozenset())),
        (None, Seen(Room(1, 3), frozenset())),
    ],
)
def test_the_room_is_what_neither_others_nor_own_runs_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened_run: OpenedRun | None, wanted: Seen
) -> None:
    assert look(tmp_path, monkeypatch, opened_run, RUNS) == wanted


def test_a_claim_that_its_run_does_not_know_yet_has_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(tmp_path, monkeypatch, OpenedRun([]), [{"state": "claimed", "gpus": 0}])
    assert found == Seen(Room(2, 2), frozenset("w"))


def test_slots_of_a_worker_are_as_many_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(tmp_path, monkeypatch, OpenedRun([]), [], A._replace(resources={"slots": 7}))
    assert found == Seen(Room(2, 7), frozenset())


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (
            ProbeResult(Unreachable("no route to host", "timeout")),
            "unknown, since it cannot be reached: no route to host",
        ),
        (
            ProbeResult(FACTS._replace(python=None, why_no_python="it has no Python 3.9")),
            "it has no Python 3.9; set it up with: wavequeue hosts setup gpu-a",
        ),
        (ProbeResult(FACTS, None, "it was killed"), "it could not be asked how it is: it was killed"),
        (ProbeResult(FACTS, b"hello"), "it could not be asked how it is: its answer cannot be understood"),
    ],
)
def test_a_worker_that_does_not_say_how_it_is_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, result: ProbeResult, says: str
) -> None:
    assert look(tmp_path, monkeypatch, OpenedRun([]), [], result=result) == says
