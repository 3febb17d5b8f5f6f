"""Damaged journals and states: found line by line, and what is left of them makes a journal again."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.adapters.journal import read_journal
from queue_manager.core import events as ev
from queue_manager.core import salvage
from queue_manager.core.events import JournalError, Record
from queue_manager.core.journal_lines import replay
from queue_manager.core.launchers import SLURM
from queue_manager.core.model import QueueState
from queue_manager.core.rebuild import Head, Trace, rebuild
from queue_manager.core.status import Status
from queue_manager.core.times import epoch
from tests.core.states import manifest, run_to_end, spec, statuses, world
from tests.e2e.runs import sealed
from tests.fakes import FakeHost, Plan, with_plans
from tests.skill.story import Story

DEEP = bool(os.environ.get("WAVEQUEUE_DEEP"))
COUNT = 10_000 if DEEP else 150
HEAD = Head("run-1", "0" * 64, "boot", paused=False, cards={0: "GPU-0", 1: "GPU-1"})
JOBS = (
    spec("t1", gpu_mem_mib=4000),
    spec("t2", retries=1),
    spec("s1", depends_on=("t1",)),
    spec("s2", depends_on=("t2",), gpus=0),
    spec("bad", gpus=0),
    spec("after", depends_on=("bad",), gpus=0),
)


def _whole() -> tuple[list[str], QueueState]:
    """A journal with completed, retried, stuck and blocked jobs, and the state that it gives."""
    plans: dict[str, Plan | list[Plan]] = {"bad": Plan(1.0, code=1), "t2": [Plan(1.0, code=1), Plan(1.0)]}
    host = FakeHost()
    host.plan_of = with_plans(plans, Plan(1.0))
    host, manager = world(*JOBS, host=host)
    run_to_end(host, manager)
    return host.journal, manager.state


def _snapshot(state: QueueState) -> dict[str, Any]:
    story = Story(state.manifest)
    story.state = state
    return story.document()


# -- checksums --------------------------------------------------------------------------------------------------------


def _read(path: Path, data: bytes, jobs: tuple[Any, ...] = JOBS) -> tuple[list[Record], int]:
    path.write_bytes(data)
    records, length = read_journal(path)
    replay(QueueState(manifest(*jobs)), records)
    return records, length


def test_any_flipped_bit_is_found_with_its_line_and_job(tmp_path: Path) -> None:
    lines, _ = _whole()
    data = "".join(lines).encode()
    ends = [n + 1 for n, byte in enumerate(data) if byte == ord("\n")]
    rng = random.Random(1)
    named = 0
    for _ in range(len(data) if DEEP else 400):
        at = rng.randrange(len(data))
        damaged = bytearray(data)
        damaged[at] ^= 1 << rng.randrange(8)
        line = 1 + sum(end <= at for end in ends)
        with pytest.raises(JournalError) as error:
            _read(tmp_path / "journal", bytes(damaged))
        # A line feed that is none any more joins two lines; one that was none makes two of one.
        assert f"line {line}" in str(error.value) or f"line {line + 1}" in str(error.value), str(error.value)
        named += "(job " in str(error.value)
    assert named > 200


def test_a_line_without_a_checksum_is_damage_once_there_were_some(tmp_path: Path) -> None:
    lines, _ = _whole()
    plain = [ev.unseal(line.rstrip("\n"))[0] + "\n" for line in lines]
    before = ev.decode(lines[0])
    assert _read(tmp_path / "journal", "".join(plain).encode())[0][0] == before  # as earlier versions wrote them
    assert _read(tmp_path / "journal", "".join([*plain[:3], *lines[3:]]).encode())[0][0] == before
    with pytest.raises(JournalError, match=r"line 5.*has no checksum"):
        _read(tmp_path / "journal", "".join([*lines[:4], plain[4], *lines[5:]]).encode())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda line: line.replace('"status":"completed"', '"status":"sad"'), "sad"),
        (lambda line: line.replace('"status":"completed"', '"status":7'), "has a status"),
        (lambda line: line.replace('"n":1', '"n":2'), "no live attempt 2"),
        (lambda line: line.replace('"n":1', '"n":"1"'), "has a n"),
        (lambda line: line.replace('"exit_code":0', '"exit_code":' + "9" * 400), "has a exit_code"),
        (lambda line: line.replace('"exit_code":0', '"due":1e400'), "has a due"),
        (lambda line: line.replace('"job":"t1"', '"job":["t1"]'), "has a job"),
    ],
)
def test_journals_of_earlier_versions_are_refused_by_line_where_they_make_no_sense(
    tmp_path: Path, change: Callable[[str], str], says: str
) -> None:
    plain = [ev.unseal(line.rstrip("\n"))[0] + "\n" for line in _whole()[0]]
    at = next(n for n, line in enumerate(plain) if '"AttemptEnded","job":"t1"' in line)
    assert change(plain[at]) != plain[at]
    with pytest.raises(JournalError, match=rf"line {at + 1}\b") as error:
        _read(tmp_path / "journal", "".join([*plain[:at], change(plain[at]), *plain[at + 1 :]]).encode())
    assert says in str(error.value)


# -- fuzz -------------------------------------------------------------------------------------------------------------


def _damages(rng: random.Random, data: bytes) -> bytes:
    """One kind of damage, somewhere."""
    at, size = rng.randrange(len(data)), rng.choice((1, 2, 7, 60, 500))
    lines = data.splitlines(keepends=True)
    one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(9)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[at + size :]
    if kind == 3:
        return data[:at] + rng.randbytes(size) + data[at:]
    if kind == 4:
        return data[:at] + b"\0" * size + data[at + size :]
    if kind == 5:
        return b"".join([*lines[:one], *lines[one + 1 :]])
    if kind == 6:
        return b"".join([*lines[:one], lines[other], *lines[one:]])
    if kind == 7:
        lines[one], lines[other] = lines[other], lines[one]
        return b"".join(lines)
    return data[:at] + rng.randbytes(size) + data[at + size :]


def _cases(data: bytes, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    for _ in range(COUNT):
        damaged = data
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            damaged = _damages(rng, damaged or b"\n")
        yield damaged


def test_nothing_of_a_damaged_journal_is_taken_silently(tmp_path: Path) -> None:
    data = "".join(_whole()[0]).encode()
    whole = 0
    damage: list[str] = []
    for damaged in _cases(data, 2):
        try:
            _, length = _read(tmp_path / "journal", damaged)
        except JournalError as error:
            damage.append(str(error))
            continue
        whole += 1
        # What was taken is the journal's own beginning, and what was left out is a line that was cut off.
        assert damaged[:length] == data[:length]
        assert damaged[length:].count(b"\n") <= 1
    assert len(damage) > whole
    assert all("line " in text for text in damage)


def test_a_damaged_journal_of_an_earlier_version_gives_no_traceback(tmp_path: Path) -> None:
    data = "".join(ev.unseal(line.rstrip("\n"))[0] + "\n" for line in _whole()[0]).encode()
    for damaged in _cases(data, 3):
        try:
            records, _ = _read(tmp_path / "journal", damaged)
        except JournalError:
            continue
        state = QueueState(manifest(*JOBS))
        replay(state, records)
        json.dumps(_snapshot(state))


def test_what_is_left_of_damaged_journals_and_states_makes_a_journal_again() -> None:
    lines, state = _whole()
    data, document = "".join(lines).encode(), json.dumps(_snapshot(state)).encode()
    completed = {job.spec.id for job in state.jobs if job.status is Status.COMPLETED}
    rng = random.Random(4)
    for damaged, broken in zip(_cases(data, 4), _cases(document, 5), strict=True):
        is_whole = rng.random() < 0.5
        left = salvage.whole_lines(damaged, state.manifest)
        try:
            rows = salvage.read_rows(json.loads(document if is_whole else broken))
        except ValueError:
            rows = {}
        made = rebuild(state.manifest, left.records, rows, HEAD, {}, 2e9)
        again = QueueState(state.manifest)
        text = "".join(map(ev.encode, made.records))
        replay(again, map(ev.decode, text.splitlines()))
        assert statuses(again) == statuses(made.state)
        if is_whole:
            assert completed == {job.spec.id for job in again.jobs if job.status is Status.COMPLETED}
            assert statuses(again) == statuses(state)


# -- rebuilding -------------------------------------------------------------------------------------------------------


def _rebuilt(lines: list[str], document: Any, traces: dict[str, Trace] | None = None) -> QueueState:
    """The state after a repair, as the next manager reads it."""
    left = salvage.whole_lines("".join(lines).encode(), manifest(*JOBS))
    made = rebuild(manifest(*JOBS), left.records, salvage.read_rows(document), HEAD, traces or {}, 2e9)
    state = QueueState(manifest(*JOBS))
    replay(state, made.records)
    return state


@pytest.mark.parametrize("keep", [0, 1, 5, 9, -1])
def test_a_journal_cut_anywhere_and_its_snapshot_give_all_statuses_and_attempts(keep: int) -> None:
    lines, state = _whole()
    again = _rebuilt(lines[:keep], _snapshot(state))
    assert statuses(again) == statuses(state)
    assert [job.n for job in again.jobs] == [job.n for job in state.jobs]
    assert [job.exit_code for job in again.jobs] == [job.exit_code for job in state.jobs]


def test_what_waits_in_slurms_queue_is_still_there_after_a_repair() -> None:
    """Else it would be submitted a second time, and later managers would take it for cut off."""
    made = manifest(spec("a", gpus=0), spec("b", gpus=0), launcher=SLURM)
    document = Story(made).submit("a").document()
    assert document["jobs"][0]["status"] == "pending"
    rebuilt = rebuild(made, [], salvage.read_rows(document), HEAD, {"a": Trace(1, True)}, 2e9)
    job = rebuilt.state.job("a")
    assert job.attempt is not None
    assert (job.n, job.attempt.is_queued, rebuilt.state.tallies.queued) == (1, True, 1)


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        ({"oom_attempts": 2, "host_ooms": 1, "gpu_ooms": 1, "memory": "gpu"}, (2, 1, 1, 0)),
        ({"oom_attempts": 2, "host_ooms": 2, "gpu_ooms": 0, "memory": "host"}, (2, 2, 0, 0)),
        ({"oom_attempts": 1, "host_ooms": 0, "gpu_ooms": 1, "memory": "gpu", "time_limits": 1}, (1, 0, 1, 1)),
        ({"oom_attempts": 2}, (2, 2, 2, 0)),  # of an earlier version
    ],
)
def test_which_memory_ran_out_and_time_limits_are_still_known_after_a_repair(
    row: dict[str, Any], counts: tuple[int, ...]
) -> None:
    made = manifest(JOBS[0])
    known = {"id": made.jobs[0].id, "status": "failed_oom", "attempt": 2, "attempts": 2, "failure": "oom", **row}
    rows = salvage.read_rows({"jobs": [known]})
    state = QueueState(made)
    for record in rebuild(made, [], rows, HEAD, {}, 2e9).records:
        state.apply(record)
    job = state.jobs[0]
    assert (job.oom_attempts, job.host_ooms, job.gpu_ooms, job.time_limits) == counts


def test_without_a_journal_and_a_snapshot_outputs_tell_what_is_done() -> None:
    traces = {
        "t1": Trace(1, False, True), "t2": Trace(2, True, False), "bad": Trace(3, False, False), "s1": Trace(1, False),
    }  # fmt: skip
    again = _rebuilt([], None, traces)
    assert statuses(again) == {
        "t1": "completed", "t2": "running", "s1": "stuck", "s2": "pending", "bad": "stuck", "after": "blocked",
    }  # fmt: skip
    assert "its output exists" in (again.job("t1").warning or "")
    assert "wavequeue retry bad" in (again.job("bad").error or "")
    assert (again.job("t2").n, again.job("t2").attempt is not None) == (2, True)


def test_an_attempt_that_only_the_journal_knows_is_judged_where_its_directory_is_there() -> None:
    lines, _ = _whole()
    at = next(n for n, line in enumerate(lines) if '"AttemptEnded","job":"t1"' in line)
    live = _rebuilt(lines[:at], None, {"t1": Trace(1, True, True)})
    assert live.job("t1").status is Status.RUNNING
    ended = _rebuilt(lines[:at], None, {"t1": Trace(1, False, True)})
    assert ended.job("t1").status is Status.COMPLETED
    never = _rebuilt(lines[:at], None, {})  # it was to be launched, and was not: the next manager sees to it
    assert never.job("t1").status is Status.RUNNING


def test_a_line_that_is_gone_is_named_and_later_ones_are_taken() -> None:
    lines, _ = _whole()
    at = next(n for n, line in enumerate(lines) if '"AttemptStarting","job":"t1"' in line)
    text = [*lines[:at], "garbage\n", *lines[at + 1 :]]
    left = salvage.whole_lines("".join(text).encode(), manifest(*JOBS))
    assert left.damaged[0].startswith(f"line {at + 1}: not a line")
    assert any("(job t1)" in words and "does not follow" in words for words in left.damaged)
    assert [record.event for record in left.records if isinstance(record.event, ev.RunFinished)]
    assert [record.seq for record in left.records] == list(range(1, len(left.records) + 1))


def test_hand_made_lines_get_their_checksum() -> None:
    line = sealed('{"seq":1,"at":"2026-01-01T00:00:00.000Z","event":"Paused"}\n')
    assert ev.decode(line) == Record(1, epoch("2026-01-01T00:00:00.000Z"), ev.Paused())
    with pytest.raises(JournalError, match="checksum does not match"):
        ev.decode(line.replace("Paused", "Resumed"))
