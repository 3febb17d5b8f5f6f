"""What a manifest would meet on a machine: real files, and run directories whose locks are held."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters import existing
from queue_manager.adapters.run_lock import Lock
from queue_manager.core import events as ev
from queue_manager.core.events import Record, encode
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.manifest import JobSpec, Manifest
from queue_manager.core.manifest import encode as encode_manifest
from skill.planning import existing_outputs
from skill.runs import live_runs
from tests.core.states import manifest


def job(name: str, output: str | None, **fields: Any) -> JobSpec:
    return JobSpec(name, "x", "p", expected_output=output, **fields)


class Machine:
    """A home with runs, some of them live."""

    def __init__(self, root: Path) -> None:
        self.home, self.cwd = HostPaths.of(root / "home"), root / "code"
        self.cwd.mkdir()
        self.locks: list[Lock] = []

    def run(
        self,
        name: str,
        made: Manifest,
        *,
        live: bool = True,
        added: tuple[JobSpec, ...] = (),
        place: Path | None = None,
    ) -> None:
        paths = RunPaths.of((place or self.home.root) / "runs" / name)
        paths.root.mkdir(parents=True)
        paths.manifest.write_text(encode_manifest(made._replace(cwd=str(self.cwd))))
        if added:
            paths.journal.write_text(encode(Record(1, 1.0, ev.JobsAdded((), {}, added))))
        if live:
            host = socket.gethostname() if place is None else "another"
            self.locks.append(Lock(paths.lock, {"pid": os.getpid(), "host": host, "since": "x"}))

    def meets(self, *jobs: JobSpec) -> dict[str, Any]:
        found = existing.describe(manifest(*jobs), str(self.cwd), self.home)
        json.dumps(found)
        return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for lock in made.locks:
        lock.close()


def test_outputs_that_are_there_are_reported_with_their_newest_change(machine: Machine) -> None:
    for name, at in (("a.pt", 10), ("sub/b1.pt", 20), ("sub/b2.pt", 30)):
        (machine.cwd / name).parent.mkdir(exist_ok=True)
        (machine.cwd / name).touch()
        os.utime(machine.cwd / name, (at, at))
    jobs = (job("a", "a.pt"), job("b", "b*.pt", cwd="sub"), job("c", "c.pt"), job("d", None))
    assert machine.meets(*jobs) == {
        "outputs": [("a", 10.0), ("b", 30.0)], "outputs_untried": 0, "live": [], "live_unknown": [],
    }  # fmt: skip


def test_a_slow_file_system_is_given_up(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.cwd / "a").touch()
    monkeypatch.setattr(existing, "PATIENCE", -1.0)
    assert machine.meets(job("a", "a"), job("b", "b"), job("c", None))["outputs_untried"] == 2


@pytest.mark.parametrize("theirs", [["a", "b"], ["a", "b", "c"], ["a"]], ids=["the same", "more", "a part"])
def test_a_live_run_of_the_same_jobs_is_the_same(machine: Machine, theirs: list[str]) -> None:
    machine.run("r", manifest(*(job(name, None) for name in theirs)))
    machine.run("ended", manifest(job("a", None), job("b", None)), live=False)
    assert machine.meets(job("a", None), job("b", None))["live"] == [
        {"run_id": "r", "pid": os.getpid(), "same": True, "shared": [], "shared_count": 0}
    ]


def test_outputs_that_another_live_run_writes_are_reported(machine: Machine) -> None:
    other = manifest(job("x", "out/a.pt"), job("y", "logs/*.json"))._replace(project="other")
    machine.run("r", other, added=(job("z", "late.pt"),))
    machine.run("apart", manifest(job("q", "elsewhere.pt"))._replace(project="other"))
    mine = (job("a", "./out/a.pt"), job("b", "logs/b.json"), job("c", "c.pt"), job("d", "late*"))
    (row,) = machine.meets(*mine)["live"]
    assert (row["run_id"], row["same"], row["shared_count"]) == ("r", False, 3)
    assert row["shared"] == [str(machine.cwd / name) for name in ("out/a.pt", "logs/b.json", "late*")]


def test_runs_of_other_machines_that_have_the_home_write_the_same_files(machine: Machine) -> None:
    root = machine.home.root
    machine.run("r", manifest(job("a", "a.pt")), place=root / "hosts" / "node-7-0123abcd")
    machine.run("ended", manifest(job("a", "a.pt")), place=root / "hosts" / "node-8-", live=False)
    shared = [str(machine.cwd / "a.pt")]
    row = {"run_id": "r", "pid": 0, "same": True, "shared": shared, "shared_count": 1}
    assert machine.meets(job("a", "a.pt"))["live"] == [row]
    machine.home = HostPaths(root / "hosts" / "node-8-", root)
    assert machine.meets(job("a", "a.pt"))["live"] == [row]
    machine.run("first", manifest(job("b", None), job("a", "a.pt")), place=root)
    assert [one["run_id"] for one in machine.meets(job("a", "a.pt"))["live"]] == ["first", "r"]


def test_a_run_whose_next_manager_waits_in_slurm_goes_on(machine: Machine) -> None:
    machine.run("r", manifest(job("a", "a.pt")), live=False)
    paths = RunPaths.of(machine.home.runs / "r")
    paths.slurm.mkdir()
    for manager, going in (("running", 1), ("finished", 0)):
        paths.state.write_text(json.dumps({"meta": {"manager": manager}})[:-1] + ",\n" + '"jobs": []}')
        assert len(machine.meets(job("a", "a.pt"))["live"]) == 0
        paths.manager_job.touch()
        assert len(machine.meets(job("a", "a.pt"))["live"]) == going
        paths.manager_job.unlink()


def test_the_same_jobs_in_another_place_are_no_matter(machine: Machine) -> None:
    machine.run("r", manifest(job("a", "a.pt")))
    assert existing.describe(manifest(job("a", "a.pt")), str(machine.cwd / "other"), machine.home)["live"] == []


def test_a_run_of_which_it_cannot_be_determined_whether_it_goes_on_is_named(machine: Machine) -> None:
    machine.run("r1", manifest(job("a", "a.txt")), live=False)
    RunPaths.of(machine.home.runs / "r1").lock.mkdir()
    found = machine.meets(job("a", "a.txt"))
    assert found["live"] == []
    (unknown,) = found["live_unknown"]
    assert unknown == f"run r1: {machine.home.runs / 'r1' / 'manager.lock'}: Is a directory"
    read = existing_outputs.read({"existing": found})
    assert read is not None
    assert live_runs.warnings(read.live, read.live_unknown) == [
        f"it is unknown whether another run here writes the same files ({unknown})"
    ]
    shutil.rmtree(machine.home.runs)
    machine.home.runs.write_text("")
    assert machine.meets(job("a", "a.txt"))["live_unknown"] == [f"{machine.home.runs}: Not a directory"]


def test_a_run_that_cannot_be_read_stops_nothing(machine: Machine) -> None:
    machine.run("r", manifest(job("a", "a.pt")))
    (machine.home.runs / "r" / "manifest.json").write_text("{")
    (machine.home.runs / "file").touch()
    assert machine.meets(job("a", "a.pt"))["live"] == []
