"""What workers say of their runs comes into the queue and the evidence, once; what is unknown changes nothing."""

from __future__ import annotations

import json
import os
import random
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from queue_manager.core.layout import LOCAL_RUNS
from skill.common.errors import FailedError
from skill.operations.check_runs import Checked, check_runs
from skill.research import evidence_files
from skill.research.records import Record
from skill.research.store import Store
from skill.runs.access import JobLog, RunAccess
from skill.runs.directory import Run
from skill.runs.logs import Followed
from tests.skill.fake_workers import make_store
from tests.skill.killer import FORK, Killer

ON = "moons-gpu-a-20260101-100000"
RULES = {"acc": {"log": "acc=(.*)", "goal": "max"}}
COMPLETED = {
    "status": "completed", "exit_code": 0, "started": "2026-01-01T10:00:00.000Z",
    "completed": "2026-01-01T10:02:30.500Z", "metrics": {"acc": 0.9}, "gpus": [1], "attempts": 1,
    "code": "3f9c2d1a7b0e+5b21c09e",
}  # fmt: skip


def row(name: str, **fields: Any) -> dict[str, Any]:
    """A job's row as a manager writes it."""
    plain: dict[str, Any] = {
        "id": name, "host": "gpu-a", "status": "pending", "exit_code": None, "started": None, "completed": None,
        "attempt_ended": None, "error": None, "waiting": None, "attempts": 0, "gpus": [], "code": None, "metrics": {},
        "metric_errors": {},
    }  # fmt: skip
    return {**plain, **fields}


class Host:
    """A run on a host, with the rows of its jobs. `away`: why it cannot be reached."""

    def __init__(self, rows: list[dict[str, Any]], manager: str = "running", away: str | None = None) -> None:
        self.rows, self.manager, self.away = rows, manager, away
        self.logs: list[str] = []

    def open(self, _run: Run) -> RunAccess:
        return cast("RunAccess", self)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_error: object) -> None: ...

    def look(self, *, full: bool) -> dict[str, Any]:
        assert full
        hosts = [{"name": "gpu-a", "reachable": self.away is None, "reason": self.away}]
        cards = [{"index": n, "name": f"NVIDIA H{n}00", "host": "gpu-a"} for n in range(3)]
        return {"meta": {"manager": self.manager, "hosts": hosts}, "gpus": cards, "jobs": self.rows}

    def tail(self, found: Mapping[str, Any]) -> str:
        return f"step 5 of {found['id']}"

    def log(self, job: str, attempt: int | None, lines: int | None, *, follow: bool) -> JobLog:
        assert (attempt, lines, follow) == (None, 1, False), "one line is all that is asked for"
        self.logs.append(job)
        return JobLog((), [Followed(f"last line\x1b[1m of {job}\n".encode())])


def dispatched(root: Path, count: int = 1, **fields: Any) -> Store:
    """Research files with runs that a worker has."""
    run = {
        "state": "running", "worker": "gpu-a", "run": ON, "claim": ON, "claimed": "2026-01-01T09:59:00Z",
        "metrics": RULES, **fields,
    }  # fmt: skip
    store = make_store(root, [{**run, "params": {"lam": "0", "seed": f"{n}"}} for n in range(count)])
    (store.paths.study("moons").root / LOCAL_RUNS / ON).mkdir(parents=True)
    return store


def look(store: Store, host: Host) -> Checked:
    (one,) = check_runs(store.paths.workers, host.open).checked
    return one


def the_run(store: Store) -> Record:
    (record,) = store.read("run")
    return record


def lines(store: Store) -> list[dict[str, Any]]:
    file = store.paths.study("moons").evidence / evidence_files.LINES
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_run_that_completed_is_done_and_its_numbers_are_evidence(tmp_path: Path) -> None:
    store = dispatched(tmp_path)
    one = look(store, Host([row("moons-r1", **COMPLETED)]))
    record = the_run(store)
    assert record == one.record
    wanted = {
        "state": "done", "exit_code": 0, "finished": "2026-01-01T10:02:30.500Z", "last_line": "last line of moons-r1",
        "attempts": 1,
    }  # fmt: skip
    assert {key: record[key] for key in wanted} == wanted
    (line,) = lines(store)
    assert line == {
        "run": "moons-r1", "on": ON, "job": "moons-r1", "phase": "research", "params": {"lam": "0", "seed": "0"},
        "metrics": {"acc": 0.9}, "errors": {}, "goals": {"acc": "max"}, "code": "3f9c2d1a7b0e+5b21c09e",
        "commit": "3f9c2d1a7b0e", "dirty": True, "host": "gpu-a", "gpus": ["NVIDIA H100"],
        "started": "2026-01-01T10:00:00.000Z", "finished": "2026-01-01T10:02:30.500Z", "duration_s": 150.5,
        "exit_code": 0,
    }  # fmt: skip
    aggregate = json.loads((store.paths.study("moons").evidence / evidence_files.AGGREGATE).read_text())
    assert aggregate["phases"][0]["rows"][0]["metrics"]["acc"]["runs"] == ["moons-r1"]


def test_what_is_done_is_not_asked_again(tmp_path: Path) -> None:
    store, host = dispatched(tmp_path), Host([row("moons-r1", **COMPLETED)])
    look(store, host)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert check_runs(store.paths.workers, lambda _run: pytest.fail("asked")).checked == ()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("away", ["no route to host", "it is not the machine that the run was submitted to"])
def test_a_worker_that_is_away_makes_its_runs_unknown_and_changes_nothing(tmp_path: Path, away: str) -> None:
    store = dispatched(tmp_path)
    before = store.read("run")
    one = look(store, Host([row("moons-r1", **COMPLETED)], away=away))
    assert one.unknown == away
    assert store.read("run") == before
    assert lines(store) == []


def test_a_run_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    def fail(_run: Run) -> RunAccess:
        raise FailedError("hosts.json is damaged")

    store = dispatched(tmp_path)
    (one,) = check_runs(store.paths.workers, fail).checked
    assert one.unknown == "hosts.json is damaged"
    assert look(store, Host([])).unknown.startswith("its worker does not have it")
    (store.paths.study("moons").root / LOCAL_RUNS / ON).rmdir()
    assert look(store, Host([])).unknown.endswith("does not exist; dispatch again to settle it")
    assert the_run(store)["state"] == "running"


def test_a_metric_that_is_not_found_is_told_and_the_run_is_done(tmp_path: Path) -> None:
    store = dispatched(tmp_path)
    row_now = row("moons-r1", **{**COMPLETED, "metrics": {"acc": None}, "metric_errors": {"acc": "no line has acc="}})
    one = look(store, Host([row_now]))
    assert one.record["state"] == "done"
    assert one.found is not None
    assert one.found.errors == {"acc": "no line has acc="}
    (line,) = lines(store)
    assert (line["metrics"], line["errors"]) == ({}, {"acc": "no line has acc="})


def test_metrics_that_the_manager_still_reads_are_waited_for(tmp_path: Path) -> None:
    store, unread = dispatched(tmp_path), row("moons-r1", **{**COMPLETED, "metrics": {}})
    assert look(store, Host([unread])).record["state"] == "running"
    assert lines(store) == []
    assert look(store, Host([unread], manager="finished")).record["state"] == "done"
    assert lines(store)[0]["errors"] == {"acc": "it was not read"}


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"status": "pending", "waiting": "waits for a GPU"}, "running"),
        ({"status": "running", "started": "2026-01-01T10:00:00Z", "attempts": 1}, "running"),
        ({"status": "failed_oom", "attempts": 1, "exit_code": 1}, "running"),
        ({"status": "stuck", "attempts": 2, "exit_code": 1, "error": "exit code 1"}, "failed"),
        ({"status": "stuck", "error": "a precondition does not hold"}, "stuck"),
        ({"status": "blocked", "error": "needs job a"}, "stuck"),
        ({"status": "cancelled", "completed": "2026-01-01T10:00:00Z"}, "cancelled"),
    ],
)
def test_the_states_of_jobs_as_states_of_runs(tmp_path: Path, fields: dict[str, Any], state: str) -> None:
    store = dispatched(tmp_path)
    look(store, Host([row("moons-r1", **fields)]))
    record = the_run(store)
    assert record["state"] == state
    assert record.get("error") == (fields.get("error") if state in ("failed", "stuck") else None)
    assert lines(store) == []


def test_a_failed_run_that_is_retried_is_followed(tmp_path: Path) -> None:
    store = dispatched(tmp_path)
    failed = row("moons-r1", status="stuck", attempts=1, exit_code=1, error="exit code 1")
    host = Host([failed])
    assert look(store, host).record["state"] == "failed"
    look(store, host)
    assert host.logs == ["moons-r1"], "its log does not change any more"
    assert look(store, Host([row("moons-r1", status="running", attempts=2)])).record["state"] == "running"
    assert "error" not in the_run(store)
    assert look(store, Host([row("moons-r1", **{**COMPLETED, "attempts": 2})])).record["state"] == "done"


def test_a_claim_whose_dispatcher_was_killed_is_settled_by_a_look(tmp_path: Path) -> None:
    store = dispatched(tmp_path, state="claimed")
    assert look(store, Host([row("moons-r1", **COMPLETED)])).record["state"] == "done"


def test_a_state_that_a_person_changed_meanwhile_stays(tmp_path: Path) -> None:
    store = dispatched(tmp_path)

    class Slow(Host):
        def look(self, *, full: bool) -> dict[str, Any]:
            store.change("run", lambda records: [{**one, "state": "cancelled", "notes": "mine"} for one in records])
            return super().look(full=full)

    check_runs(store.paths.workers, Slow([row("moons-r1", **COMPLETED)]).open)
    assert (the_run(store)["state"], the_run(store)["notes"]) == ("cancelled", "mine")


def test_a_note_that_a_person_wrote_meanwhile_stays(tmp_path: Path) -> None:
    store = dispatched(tmp_path)

    class Slow(Host):
        def look(self, *, full: bool) -> dict[str, Any]:
            store.change("run", lambda records: [{**one, "notes": "mine"} for one in records])
            return super().look(full=full)

    check_runs(store.paths.workers, Slow([row("moons-r1", **COMPLETED)]).open)
    assert (the_run(store)["state"], the_run(store)["notes"]) == ("done", "mine")


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: processes are killed here, and the machine goes on."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


def _check_until(killer: Killer, store: Store, host: Host) -> None:
    killer.watch_writes()
    check_runs(store.paths.workers, host.open)


@pytest.mark.usefixtures("no_disk")
def test_checks_that_are_killed_at_any_step_write_each_number_once(tmp_path: Path) -> None:
    chance = random.Random(15)
    killed = number = 0
    while killed < 65:
        number += 1
        folder = tmp_path / f"{number}"
        folder.mkdir()
        store = dispatched(folder, 4)
        names = [f"moons-r{n}" for n in range(1, 5)]
        for done in (2, 4):
            host = Host([row(name, **COMPLETED) if n < done else row(name) for n, name in enumerate(names)])
            process = FORK.Process(target=_check_until, args=(Killer(chance.randrange(1, 16)), store, host))
            process.start()
            process.join(120)
            killed += process.exitcode == -signal.SIGKILL
            assert [record["id"] for record in store.read("run")] == names
        check_runs(store.paths.workers, host.open)
        assert Counter(line["run"] for line in lines(store)) == Counter(names)
        assert [record["state"] for record in store.read("run")] == ["done"] * 4
        assert number < 200


def test_an_evidence_file_that_a_person_ended_without_a_newline_is_added_to(tmp_path: Path) -> None:
    store = dispatched(tmp_path, 2)
    look_at = [row("moons-r1", **COMPLETED), row("moons-r2")]
    check_runs(store.paths.workers, Host(look_at).open)
    file = store.paths.study("moons").evidence / evidence_files.LINES
    file.write_text(file.read_text().rstrip("\n"))
    check_runs(store.paths.workers, Host([row("moons-r1", **COMPLETED), row("moons-r2", **COMPLETED)]).open)
    assert [line["run"] for line in lines(store)] == ["moons-r1", "moons-r2"]
