"""The queues of the research files: whole whatever is killed, no record lost, and edits by hand kept or refused."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_manifest.faults import SpecErrors
from skill.common.errors import UseError
from skill.research.merge import ConflictsError, merge
from skill.research.records import Record
from skill.research.store import Store

NEW: Record = {
    "command": "python train.py", "created": "2026-01-31T12:00:00Z", "priority": 0, "project": "moons",
    "state": "pending",
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workers.yaml")


def add(store: Store, count: int = 1, **columns: Any) -> list[str]:
    return [record["id"] for record in store.add("run", lambda _: [{**NEW, **columns}] * count)]


def ids(store: Store) -> list[str]:
    return [record["id"] for record in store.read("run")]


def child(work: Callable[[int], None]) -> tuple[int, int]:
    """A process of its own that does `work` with the end of a pipe; its pid, and the other end."""
    reader, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reader)
            work(tell)
            code = 0
        finally:
            os._exit(code)
    os.close(tell)
    return pid, reader


def read_all(reader: int) -> bytes:
    """What a process said, until no one can say more."""
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read()


# -- one writer ---------------------------------------------------------------------------------------------------


def test_records_get_ids_in_turn_by_project(store: Store) -> None:
    assert add(store, 2) == ["moons-r1", "moons-r2"]
    assert add(store, project="suns") == ["suns-r1"]
    assert add(store) == ["moons-r3"]
    assert ids(store) == ["moons-r1", "moons-r2", "suns-r1", "moons-r3"]


def test_an_id_is_never_given_twice(store: Store) -> None:
    add(store, 2)
    store.change("run", lambda records: records[:1])
    assert add(store) == ["moons-r3"]


def test_an_id_of_a_record_that_came_otherwise_is_not_given_again(store: Store) -> None:
    store.change("run", lambda _: [{**NEW, "id": "moons-r7"}])
    assert add(store) == ["moons-r8"]


def test_a_queue_has_sorted_keys_and_a_line_for_each(store: Store) -> None:
    add(store, 2, env={"B": "2", "A": "1"})
    lines = store.paths.queue("run").read_text(encoding="utf-8").splitlines()
    assert (lines[0], lines[1], lines[-2], lines[-1]) == ("[", "  {", "  }", "]")
    keys = [line.split('"')[1] for line in lines[2 : lines.index("  },")] if line.startswith('    "')]
    assert keys == ["command", "created", "env", "id", "priority", "project", "state"]
    assert '      "A": "1",' in lines


def test_one_more_record_is_one_block_more(store: Store) -> None:
    add(store)
    before = store.paths.queue("run").read_text(encoding="utf-8").splitlines()
    add(store)
    after = store.paths.queue("run").read_text(encoding="utf-8").splitlines()
    assert after[: len(before) - 2] == before[:-2]


def test_nothing_is_written_where_nothing_changes(store: Store) -> None:
    add(store)
    path = store.paths.queue("run")
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")  # as a person has it
    before = path.stat()
    store.change("run", lambda records: [dict(record) for record in records])
    assert path.stat().st_ino == before.st_ino


def test_what_is_wrong_is_not_written(store: Store) -> None:
    add(store)
    before = store.paths.queue("run").read_bytes()
    with pytest.raises(SpecErrors, match="state cannot be 'over'"):
        store.change("run", lambda records: [{**records[0], "state": "over"}])
    with pytest.raises(UseError, match="cannot be written as JSON"):
        store.change("run", lambda records: [{**records[0], "job": {"x": "\ud800"}}])
    assert store.paths.queue("run").read_bytes() == before


# -- edits by hand ------------------------------------------------------------------------------------------------


def edit_by_hand(store: Store, **columns: Any) -> None:
    path = store.paths.queue("run")
    records = json.loads(path.read_text(encoding="utf-8"))
    records[0].update(columns)
    path.write_text(json.dumps(records), encoding="utf-8")


def test_an_edit_while_a_change_is_made_is_kept(store: Store) -> None:
    add(store)
    calls = 0

    def edit(records: list[Record]) -> list[Record]:
        nonlocal calls
        calls += 1
        if calls == 1:
            edit_by_hand(store, priority=9)
        return [{**record, "notes": "seen"} for record in records]

    store.change("run", edit)
    assert [(one["priority"], one["notes"]) for one in store.read("run")] == [(9, "seen")]
    assert calls == 2


def test_an_edit_of_another_key_is_merged(store: Store) -> None:
    add(store, 2)
    base = store.read("run")
    edit_by_hand(store, priority=9)
    store.save("run", base, [{**one, "state": "done"} for one in base])
    assert [(one["priority"], one["state"]) for one in store.read("run")] == [(9, "done"), (0, "done")]


def test_an_edit_of_the_same_key_is_refused_and_stays(store: Store) -> None:
    add(store)
    base = store.read("run")
    edit_by_hand(store, state="cancelled")
    before = store.paths.queue("run").read_bytes()
    with pytest.raises(UseError, match="moons-r1, state: it became 'done' here and 'cancelled' in the file"):
        store.save("run", base, [{**one, "state": "done"} for one in base])
    assert store.paths.queue("run").read_bytes() == before


def test_an_edit_that_broke_the_file_while_a_change_is_made_stays(store: Store) -> None:
    add(store)
    path = store.paths.queue("run")

    def edit(records: list[Record]) -> list[Record]:
        path.write_text(path.read_text(encoding="utf-8").replace('"pending"', "pending"), encoding="utf-8")
        return [{**record, "priority": 1} for record in records]

    with pytest.raises(SpecErrors, match=r":8:14: not JSON.*run_queue\.json\.last-good"):
        store.change("run", edit)
    assert '"state": pending' in path.read_text(encoding="utf-8")
    assert json.loads(store.paths.last_good("run").read_text(encoding="utf-8"))[0]["state"] == "pending"


A, B = {"id": "a", "x": 1, "y": 1}, {"id": "b", "x": 1}


@pytest.mark.parametrize(
    ("mine", "theirs", "merged"),
    [
        ([A, B], [A, B], [A, B]),
        ([{**A, "x": 2}, B], [{**A, "y": 2}, B], [{"id": "a", "x": 2, "y": 2}, B]),
        ([{**A, "x": 2}, B], [{**A, "x": 2}, B], [{**A, "x": 2}, B]),
        ([{"id": "a", "y": 1}, B], [{**A, "y": 2}, B], [{"id": "a", "y": 2}, B]),
        ([{**A, "z": 3}, B], [{"id": "a", "y": 1}, B], [{"id": "a", "y": 1, "z": 3}, B]),
        ([A, B, {"id": "c"}], [{"id": "d"}, B, A], [{"id": "d"}, B, A, {"id": "c"}]),
        ([A, B], [B], [B]),
        ([B], [A, B], [B]),
        ([{**A, "x": 2}, B], [A], [{**A, "x": 2}]),
    ],
)
def test_both_have_their_way(mine: list[Record], theirs: list[Record], merged: list[Record]) -> None:
    assert merge([A, B], mine, theirs) == merged


@pytest.mark.parametrize(
    ("mine", "theirs", "says"),
    [
        ([{**A, "x": 2}], [{**A, "x": 3}], "it became 2 here and 3 in the file"),
        ([{"id": "a", "y": 1}], [{**A, "x": 3}], "it became absent here and 3 in the file"),
        ([{**A, "x": 2}], [], "it was removed in the file and changed here"),
        ([], [{**A, "x": 2}], "it was removed here and changed in the file"),
        ([A, {"id": "n", "x": 1}], [A, {"id": "n", "x": 2}], "it became 1 here and 2 in the file"),
    ],
)
def test_what_cannot_be_merged_is_named(mine: list[Record], theirs: list[Record], says: str) -> None:
    with pytest.raises(ConflictsError) as raised:
        merge([A], mine, theirs)
    assert [one.says for one in raised.value.conflicts] == [says]


# -- several at once, and killed ----------------------------------------------------------------------------------


def test_twenty_processes_that_add_at_once_lose_nothing(store: Store) -> None:
    start, go = os.pipe()

    def work(tell: int) -> None:
        os.close(go)
        os.read(start, 1)  # until all are there
        for _ in range(3):
            os.write(tell, f"{add(store)[0]}\n".encode())

    children = [child(work) for _ in range(20)]
    os.close(start)
    os.close(go)
    said = [read_all(reader).decode().split() for _, reader in children]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid, _ in children] == [0] * 20
    given = [one for answer in said for one in answer]
    assert sorted(given) == sorted(f"moons-r{n}" for n in range(1, 61))
    assert sorted(ids(store)) == sorted(given)


def test_a_queue_is_whole_whenever_its_writer_is_killed(store: Store) -> None:
    """SIGKILL at 70 random moments: what was said to be added is there, nothing is there twice."""
    moments = random.Random(14)
    added: list[str] = []

    def work(tell: int) -> None:
        while True:
            os.write(tell, f"{add(store)[0]}\n".encode())

    for _ in range(70):
        pid, reader = child(work)
        first = os.read(reader, 1)  # it is at work
        time.sleep(moments.random() * 0.01)  # the moment is what is tried
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        added += [line for line in (first + read_all(reader)).decode().split("\n")[:-1] if line]
        there = ids(store)  # raises where the file is not whole
        assert set(added) <= set(there)
        assert len(there) == len(set(there))
    assert len(added) >= 70
    add(store)
    assert [path.name for path in store.paths.queues.iterdir() if path.name.endswith(".tmp")] == []
