"""Pending runs go to workers once each: in their order, into the room there is, even if a dispatcher is killed."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from skill.common.errors import UseError
from skill.fleet import reconcile
from skill.hosts.registry import Registry, Ssh, Worker
from skill.operations import dispatch_runs, launch_runs
from skill.operations.dispatch_runs import Launched, Seen, dispatch_to
from skill.research import dispatch
from skill.research.dispatch import Room
from skill.research.store import Store
from tests.skill.fake_workers import FolderWorkers, make_store
from tests.skill.killer import FORK, Killer

A, B = Worker("gpu-a"), Worker("gpu-b")


def ids(numbers: list[int]) -> list[str]:
    return [f"moons-r{number}" for number in numbers]


# -- what is chosen ---------------------------------------------------------------------------------------------------


def chosen(runs: list[dict[str, Any]], free: Room, **more: Any) -> list[str]:
    records = [
        {"id": f"r{n}", "project": "moons", "priority": 0, "state": "pending", **run} for n, run in enumerate(runs)
    ]
    pools = more.pop("pools", {})
    had = {record["id"]: record["worker"] for record in records if "worker" in record}
    waiting = dispatch.waiting(records, pools, more.get("asked"))
    return [
        record["id"] for record in dispatch.choose(waiting, free, "gpu-a", had, pools, more.get("pool"))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("runs", "free", "more", "wanted"),
    [
        ([{}, {"priority": 2}, {"priority": 1}, {"priority": 2}], Room(4, 0), {}, ["r1", "r3", "r2", "r0"]),
        ([{}, {}, {}], Room(2, 9), {}, ["r0", "r1"]),
        ([{"gpus": 4}, {}, {"gpus": 0}], Room(2, 1), {}, ["r1", "r2"]),
        ([{"gpus": 0}, {"gpus": 0}], Room(8, 1), {}, ["r0"]),
        ([{"pool": "big"}, {}], Room(2, 0), {"pool": "small"}, ["r1"]),
        ([{"pool": "big"}, {}], Room(2, 0), {"pool": "big"}, ["r0", "r1"]),
        ([{}, {}], Room(2, 0), {"pool": "small", "pools": {"moons": "big"}}, []),
        ([{"state": "done", "worker": "gpu-a"}, {"depends_on": ["r0"]}], Room(1, 0), {}, ["r1"]),
        ([{"state": "done", "worker": "gpu-b"}, {"depends_on": ["r0"]}], Room(1, 0), {}, []),
        ([{"state": "running", "worker": "gpu-a"}, {"depends_on": ["r0"]}], Room(1, 0), {}, []),
        ([{"state": "claimed"}, {"state": "stuck"}], Room(9, 9), {}, []),
    ],
)
def test_who_goes_next(runs: list[dict[str, Any]], free: Room, more: dict[str, Any], wanted: list[str]) -> None:
    assert chosen(runs, free, **more) == wanted


@pytest.mark.parametrize(
    ("cards", "rows", "wanted"),
    [
        ({0: 0, 1: 0}, [], Room(2, 3)),
        ({0: 0, 1: 9000}, [], Room(1, 3)),
        ({0: 9000, 1: 0}, [{"cards": 1, "gpus": [0]}], Room(1, 3)),
        ({0: 0, 1: 0}, [{"cards": 1, "gpus": []}], Room(1, 3)),
        ({0: 9000, 1: 9000}, [{"cards": 1, "gpus": [0]}, {"cards": 1, "gpus": []}], Room(0, 3)),
        ({}, [{"cards": 0, "gpus": []}, {"cards": 0, "gpus": []}], Room(0, 1)),
    ],
)
def test_the_room_of_a_worker(cards: dict[int, int], rows: list[dict[str, Any]], wanted: Room) -> None:
    assert dispatch.room(cards, 3, rows) == wanted


# -- what becomes of it -----------------------------------------------------------------------------------------------


def test_runs_go_where_there_is_room_and_the_others_stay_pending(tmp_path: Path) -> None:
    store = make_store(tmp_path, [{"priority": n % 2} for n in range(6)])
    hosts = FolderWorkers(tmp_path / "there", 2)
    found = dispatch_to(store, [A, B], hosts)
    assert [one.id for one in found.dispatched] == ids([2, 4, 6, 1])
    assert (found.waiting, found.notes, found.faults) == (6, (), False)
    states = [record["state"] for record in store.read("run")]
    assert states == ["running", "running", "pending", "running", "pending", "running"]
    assert dispatch_to(store, [A, B], hosts).dispatched == ()


def test_later_runs_are_added_to_the_run_that_their_worker_has(tmp_path: Path) -> None:
    store = make_store(tmp_path, [{}, {}, {"settings": {"conda": "other"}}])
    hosts = FolderWorkers(tmp_path / "there", 1)
    for slots in (1, 2, 3):
        hosts.slots = slots
        dispatch_to(store, [A], hosts)
    runs = [record["run"] for record in store.read("run")]
    assert runs[0] == runs[1] != runs[2], "a run of wavequeue has one environment"
    first, second, third = store.read("run")
    assert dispatch.is_first(first)
    assert second["claim"].startswith("add-")
    assert dispatch.is_first(third)


class Fixed:
    """Workers that answer with what they were given."""

    def __init__(self, seen: Seen | str, launched: Callable[[list[str]], Launched]) -> None:
        self._seen, self._launched = seen, launched

    def look(self, _worker: Worker, _records: object) -> Seen | str:
        return self._seen

    def launch(self, _worker: Worker, records: Any) -> Launched:
        return self._launched([record["id"] for record in records])


ROOM = Seen(Room(0, 5), frozenset())


@pytest.mark.parametrize(
    ("launched", "state", "note"),
    [
        (lambda names: Launched(frozenset(), unsent=frozenset(names), why="no conda"), "pending", "gpu-a: no conda"),
        (lambda names: Launched(frozenset(), dict.fromkeys(names, "bad")), "stuck", "moons-r1: bad"),
        (lambda _names: Launched(frozenset(), why="cut off"), "claimed", "gpu-a: cut off"),
    ],
)
def test_what_is_not_there_is_told(
    tmp_path: Path, launched: Callable[[list[str]], Launched], state: str, note: str
) -> None:
    store = make_store(tmp_path, [{}])
    found = dispatch_to(store, [A], Fixed(ROOM, launched))
    (record,) = store.read("run")
    assert (record["state"], found.dispatched, found.notes) == (state, (), (note,))
    assert ("worker" in record) == (state != "pending"), "a claim that came to nothing leaves no trace"


def test_a_worker_that_is_unknown_stops_no_other(tmp_path: Path) -> None:
    class Half(FolderWorkers):
        def look(self, worker: Worker, records: Any) -> Seen | str:
            return "unknown, since it cannot be reached" if worker.name == "gpu-a" else super().look(worker, records)

    found = dispatch_to(make_store(tmp_path, [{}, {}]), [A, B], Half(tmp_path / "there", 1))
    assert [one.worker for one in found.dispatched] == ["gpu-b"]
    assert found.notes == ("gpu-a: unknown, since it cannot be reached",)
    assert not found.faults, "there is another time"


def test_what_a_worker_says_after_old_claims_were_settled_is_told(tmp_path: Path) -> None:
    store = make_store(tmp_path, [{}, {}])
    dispatch_to(store, [A], Fixed(Seen(Room(0, 1), frozenset()), lambda _names: Launched(frozenset(), why="cut off")))
    found = dispatch_to(store, [A], Fixed("it is full of smoke", lambda names: Launched(frozenset(names))))
    assert [one.id for one in found.dispatched] == ids([1])
    assert found.notes == ("gpu-a: it is full of smoke",)


def test_a_worker_of_another_pool_is_not_asked(tmp_path: Path) -> None:
    class Never(FolderWorkers):
        def look(self, worker: Worker, records: Any) -> Seen | str:
            raise AssertionError((worker, records))

    store = make_store(tmp_path, [{"pool": "big"}])
    found = dispatch_to(store, [A._replace(pool="small")], Never(tmp_path / "there", 1))
    assert (found.dispatched, found.waiting) == ((), 1)
    assert found.left == ("1 run waits for a free slot in the pool big",)


def test_a_claim_that_a_person_took_back_stays_with_the_person(tmp_path: Path) -> None:
    store = make_store(tmp_path, [{}])

    def launched(names: list[str]) -> Launched:
        store.change("run", lambda records: [{**record, "state": "cancelled"} for record in records])
        return Launched(frozenset(names))

    dispatch_to(store, [A], Fixed(ROOM, launched))
    assert store.read("run")[0]["state"] == "cancelled"


# -- several at once, and killed ones ---------------------------------------------------------------------------------


def check(store: Store, hosts: FolderWorkers, count: int) -> None:
    """That each of so many runs is in the queue, and began once."""
    assert [record["id"] for record in store.read("run")] == ids(list(range(1, count + 1)))
    began = Counter(name for _, _, name in hosts.began())
    assert began == Counter(ids(list(range(1, count + 1))))
    where = {name: (run, request) for run, request, name in hosts.began()}
    for record in store.read("run"):
        assert (record["state"], record["run"], record["claim"]) == ("running", *where[record["id"]])


@pytest.fixture
def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: processes are killed here, and the machine goes on."""
    monkeypatch.setattr(os, "fsync", lambda _fd: None)


def _dispatch_at(start: Barrier, queues: list[tuple[Store, FolderWorkers]]) -> None:
    for store, hosts in queues:
        start.wait()
        dispatch_to(store, [A, B], hosts)


@pytest.mark.usefixtures("no_disk")
def test_two_dispatchers_at_one_moment_dispatch_every_run_once(tmp_path: Path) -> None:
    queues = []
    for number in range(49):  # the fiftieth is real: see tests/e2e/test_research.py
        folder = tmp_path / f"{number}"
        folder.mkdir()
        queues.append((make_store(folder, [{"priority": n} for n in range(6)]), FolderWorkers(folder / "there", 3)))
    start = FORK.Barrier(2)
    both = [FORK.Process(target=_dispatch_at, args=(start, queues)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    for store, hosts in queues:
        check(store, hosts, 6)


def _dispatch_until(killer: Killer, store: Store, folder: Path, slots: int) -> None:
    killer.watch_writes()
    dispatch_to(store, [A, B], FolderWorkers(folder, slots, killer.step))


@pytest.mark.usefixtures("no_disk")
def test_dispatchers_that_are_killed_at_any_step_run_nothing_twice_and_lose_nothing(tmp_path: Path) -> None:
    chance = random.Random(14)
    killed = number = 0
    while killed < 65:
        number += 1
        folder = tmp_path / f"{number}"
        folder.mkdir()
        store = make_store(folder, [{} for _ in range(8)])
        for slots in (2, 3, 4):
            process = FORK.Process(
                target=_dispatch_until, args=(Killer(chance.randrange(1, 30)), store, folder / "there", slots)
            )
            process.start()
            process.join(120)
            killed += process.exitcode == -signal.SIGKILL
            store.read("run")  # raises if the queue is not whole
        hosts = FolderWorkers(folder / "there", 4)
        dispatch_to(store, [A, B], hosts)
        dispatch_to(store, [A, B], hosts)
        check(store, hosts, 8)
        assert number < 200


# -- which workers ----------------------------------------------------------------------------------------------------


def registered(tmp_path: Path, **workers: Worker) -> Registry:
    known = Registry.load(tmp_path / "workers.yaml")
    for name, worker in workers.items():
        known.add(worker._replace(name=name))
    return known


WAY = Ssh("10.0.0.1", 22)


def test_only_enabled_workers_of_the_pool_are_meant(tmp_path: Path) -> None:
    known = registered(
        tmp_path, a=Worker("", ssh=WAY, pool="p"), b=Worker("", ssh=WAY, pool="p", enabled=False), c=Worker("", ssh=WAY)
    )
    assert [worker.name for worker in dispatch_runs._workers(known, "p")] == ["a"]
    assert [worker.name for worker in dispatch_runs._workers(known, None)] == ["a", "c"]
    with pytest.raises(UseError, match="no enabled host is in the pool q; there are: p"):
        dispatch_runs._workers(known, "q")


@pytest.mark.parametrize(
    "worker", [Worker("", ssh=WAY, pool="rented"), Worker("", ssh=Ssh("ssh4.vast.ai", 22), pool="other")]
)
def test_a_rented_worker_that_does_not_say_which_it_is_is_refused(tmp_path: Path, worker: Worker) -> None:
    known = registered(tmp_path, a=Worker("", ssh=WAY, pool="rented", instance_id=7), b=worker)
    with pytest.raises(UseError, match=r"^b of the rented pool \w+ has no instance_id"):
        dispatch_runs._workers(known, None)


RENTED = """\
workers:
  own: {kind: ssh, ssh: {host: 10.0.0.1}, pool: lab}
  vast-1: {kind: ssh, ssh: {host: ssh4.vast.ai, port: 10}, pool: rented, instance_id: 7}
  vast-2: {kind: ssh, ssh: {host: ssh5.vast.ai, port: 11}, pool: rented, instance_id: 8}
"""


class Calls:
    """Vast.ai and workers that note what they are asked."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reconciled: list[list[str]] = []
        self.looked: list[str] = []
        self._file = store.paths.workers
        self._file.write_text(RENTED)
        monkeypatch.setattr(reconcile, "reconcile_before", self._reconcile)
        monkeypatch.setattr(launch_runs, "Hosts", lambda *_arguments: self)

    def _reconcile(self, _workers: Path, names: list[str]) -> list[str]:
        self.reconciled.append(names)
        text = self._file.read_text()
        self._file.write_text(
            text.replace("instance_id: 8}", "instance_id: 8, enabled: false}").replace("port: 10}", "port: 12}")
        )
        return ["vast-1: its port is 12, and not 10"]

    def look(self, worker: Worker, _records: object) -> str:
        self.looked.append(f"{worker.name}:{worker.ssh.port if worker.ssh else None}")
        return "busy"


def test_rented_workers_are_compared_with_their_provider_once_before_they_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path, [{}, {}])
    calls = Calls(store, monkeypatch)
    found = dispatch_runs.dispatch_runs(store.paths.workers)
    assert calls.reconciled == [["own", "vast-1", "vast-2"]]
    assert sorted(calls.looked) == ["own:None", "vast-1:12"], "where it is now, and not what has gone"
    assert found.notes[:2] == (
        "vast-1: its port is 12, and not 10", "vast-2: left out, since the rented machine has gone",
    )  # fmt: skip


@pytest.mark.parametrize(("pool", "is_reconciled"), [("lab", True), ("rented", False)])
def test_nothing_is_compared_where_none_is_rented_or_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: str, is_reconciled: bool
) -> None:
    store = make_store(tmp_path, [{}])
    calls = Calls(store, monkeypatch)
    dispatch_runs.dispatch_runs(store.paths.workers, pool, reconcile=is_reconciled)
    assert calls.reconciled == []
    assert len(calls.looked) == (1 if pool == "lab" else 2)
