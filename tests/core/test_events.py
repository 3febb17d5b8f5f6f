"""The journal's lines: every event reads back as it was written, and an old journal always loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core import events as ev
from queue_manager.core.events import JournalError, Proc, Record, decode, encode, unseal, urgent
from queue_manager.core.manifest import JobSpec, Phase, Precondition
from queue_manager.core.model import Teardown
from queue_manager.core.recover_policy import Rung, to_json
from queue_manager.core.times import epoch, iso
from tests.core.states import manifest, spec, statuses
from tests.fakes import replay

JOURNALS = Path(__file__).parent.parent / "data" / "journal"
JOURNAL = JOURNALS / "v1.jsonl"
TEARDOWN = JOURNALS / "v1_teardown.jsonl"
CHANGES = JOURNALS / "v1_changes.jsonl"
SEALED = JOURNALS / "v1_sealed.jsonl"

SPEC = JobSpec(
    "b", "true", "students", ("t", "g"), 0, None, "out/*.json", "sub", {"A": "ü"}, 60.0, -1, 2,
    (Precondition("file_exists", "x"),), {"N": "010"}, ["acc"],
)  # fmt: skip

EXAMPLES: list[ev.Event] = [
    ev.RunStarted("run-1", "demo", "0" * 64),
    ev.ManagerStarted("gpu-a", 42, "boot-1"),
    ev.ManagerStarted("gpu-a", 43, "boot-2", 5400.125),
    ev.AttemptStarting("a", 1, 1, "wq.run-1.a.1", "boot-1"),
    ev.AttemptStarting("a", 2, 3, "s", "boot-1", ("GPU-0", "GPU-1"), (0, 1), 9000, (4, 5)),
    ev.AttemptStarted("a", 1, Proc(7, 70), Proc(6, 60)),
    ev.AttemptStarted("a", 1, Proc(7, 70), Proc(6, 60), Proc(8, 80)),
    ev.AttemptStopping("a", 1, "timeout"),
    ev.AttemptEnded("a", 1, "completed", exit_code=0, used_mib=(4,)),
    ev.JobAccepted("a", "ada@laptop", "the path in the spec was wrong"),
    ev.LeftoversFound("a", 1, "wait", "1 process that it left running (python train.py)"),
    ev.AttemptIdle("a", 1, ev.Work(1767225600.125, 3.25, 700, 41, 1767225600123456789)),
    ev.AttemptEnded("a", 1, "failed_oom", "oom", 1, "out of memory", None, 1767225600.125, True, (4, 5)),
    ev.AttemptEnded("a", 1, "pending", "interrupted", charged=False),
    ev.RetryDue("a"),
    ev.JobHeld("a", "x is not there"),
    ev.JobHeld("a", None),
    ev.JobStuck("a", "needs 9 GPUs"),
    ev.JobBlocked("a", "t", "depends on t, which is stuck"),
    ev.JobBlocked("a", None, "precondition does not hold"),
    ev.JobUnblocked("a"),
    ev.JobCancelled("a"),
    ev.JobRetried("a"),
    ev.JobsAdded((Phase("students", ("teachers",), ("N",)),), {"g": ("a", "b")}, (SPEC, spec("c"))),
    ev.JobsChanged({"a": {"expected_output": None, "timeout": 60.5, "priority": -1}, "ü": {"retries": 2}}),
    ev.JobSkipped("a"),
    ev.CodeSeen("3f9c2d1a7b0e+5b21c09e", 1767225600.125),
    ev.CodeSeen(None),
    ev.Paused(),
    ev.Resumed(),
    ev.RequestTaken("r1", False, "there is no job ü", ("a",)),
    ev.ConditionBegan("nvml", "NVML cannot be read: x\ny"),
    ev.ConditionEnded("nvml"),
    ev.CardQuarantined("GPU-0", "job a: ECC"),
    ev.RunFinished(),
    ev.CompleteRan(1),
    ev.BoundReached("max_cost", "the machine has cost its $12.50 (max_cost)"),
    ev.ResultsPushed(41),
    ev.TeardownStarting("stop", 4711, "no job ran for 20m"),
    ev.TeardownStarting("destroy", 4711, "the run has finished; the results are home", 3.25),
    ev.TeardownCalledOff("run b works on this machine"),
    ev.TeardownConfirmed("destroy", 4711),
    ev.RunRepaired("the journal was repaired", "journal.jsonl.damaged-1"),
    ev.ManagerStarted("gpu-a", 43, "boot-2", 0.0, 4711),
    ev.MetricsRead("a", {"eval.loss": 0.25, "acc": None}, {"acc": "no line of the log matches 'x'"}),
    ev.HealthFlagged("a", 1, "nan", "the loss is nan at step 300", "step 300 loss nan"),
    ev.HealthFlagged("a", 1, "slow", "1 steps/s", again=True),
    ev.HealthCleared("a", 1, "nan"),
    ev.AttemptEnded("a", 1, "completed", exit_code=143, outcome="stopped_early"),
    ev.RecoveryChosen("a", 1, "oom", 0, "bs 16 instead of 32", "out of memory"),
    ev.RecoveryRan("a", 2, 1),
    ev.RecoverySustained("a", 2),
]


def test_every_event_has_an_example() -> None:
    assert {type(event) for event in EXAMPLES} == set(get_args(ev.Event))


def test_an_event_reads_back_as_it_was_written() -> None:
    for event in EXAMPLES:
        record = Record(7, 1767225600.123, event)
        line = encode(record)
        assert line.count("\n") == 1
        assert line.endswith("\n")
        assert decode(line) == record


@given(st.integers(0, 4_000_000_000_000))
def test_times_read_back_to_the_millisecond(milliseconds: int) -> None:
    at = round(milliseconds / 1000, 3)
    text = iso(at)
    assert text is not None
    assert text.endswith("Z")
    assert round(epoch(text), 3) == at


def test_times_are_utc_with_a_z() -> None:
    assert iso(1767225600.1) == "2026-01-01T00:00:00.100Z"
    assert iso(None) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "not a line of a wavequeue journal"),
        ("[1]", "not a line of a wavequeue journal"),
        ('{"seq": 1, "at": "yesterday", "event": "Paused"}', "not a line of a wavequeue journal"),
        (
            '{"seq": 1, "at": "2026-01-01T00:00:00.000Z", "event": "Teleported"}',
            "has the event 'Teleported', which this version does not know; use the version that wrote it",
        ),
        ('{"seq": 1, "at": "2026-01-01T00:00:00.000Z", "event": "RetryDue"}', "event RetryDue cannot be read"),
        ('{"seq": 1, "at": "2026-01-01T00:00:00.000Z", "event": "RetryDue", "job": "a", "x": 1}', "cannot be read"),
        (
            '{"seq": 1, "at": "2026-01-01T00:00:00Z", "event": "JobsAdded", "phases": [], "groups": {}, "specs": [1]}',
            "event JobsAdded cannot be read",
        ),
    ],
)
def test_a_line_that_cannot_be_read_says_why(line: str, words: str) -> None:
    with pytest.raises(JournalError, match=words):
        decode(line)


def test_what_the_manager_acts_on_is_urgent() -> None:
    acted_on = (
        ev.AttemptStarting, ev.AttemptStopping, ev.AttemptEnded, ev.RequestTaken, ev.JobsAdded, ev.JobRetried,
        ev.JobCancelled, ev.RunStarted, ev.CardQuarantined, ev.RunFinished, ev.CompleteRan, ev.BoundReached,
        ev.ResultsPushed, ev.RecoveryChosen, ev.TeardownStarting, ev.TeardownCalledOff, ev.TeardownConfirmed,
    )  # fmt: skip
    assert all(urgent(event) for event in EXAMPLES if isinstance(event, acted_on))


def test_an_old_journal_always_loads() -> None:
    """The files are of version 1 and are never edited: what was written once has to load forever."""
    lines = JOURNAL.read_text(encoding="utf-8").splitlines(keepends=True)
    every = [line for path in JOURNALS.glob("*.jsonl") for line in path.read_text(encoding="utf-8").splitlines()]
    assert {json.loads(line)["event"] for line in every} == {kind.__name__ for kind in get_args(ev.Event)}
    jobs = [spec(name, "teachers") for name in ("t1", "t2", "t3")] + [spec("s1", "students"), spec("c", "main")]
    found: dict[str, Any] = statuses(
        replay(manifest(*jobs, phases=(Phase("teachers"), Phase("students", ("teachers",)))), lines)
    )
    assert found == {
        "t1": "completed", "t2": "completed", "t3": "cancelled", "s1": "blocked", "c": "stuck", "new": "pending",
    }  # fmt: skip


def test_an_old_journal_with_flags_loads() -> None:
    lines = (JOURNALS / "v1_health.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    state = replay(manifest(spec("a"), spec("b")), lines)
    assert (state.jobs[0].outcome, state.jobs[0].status.value) == ("stopped_early", "completed")
    flag = state.live[1].flags["nan"]
    assert flag == ("nan", "the loss is nan at step 310", "step 310/1000 loss nan", 1767225610.0)


def test_an_old_journal_of_a_job_that_recovered_loads() -> None:
    rungs = (Rung("run", "pip install x"), Rung("args", "train --bs 16", arg="bs", value="16", was="32"))
    lines = (JOURNALS / "v1_recover.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    job = replay(manifest(spec("a", recover=to_json(rungs))), lines).job("a")
    assert (job.status.value, job.outcome, job.warning) == (
        "completed",
        "recovered",
        "recovered with bs 16 instead of 32",
    )
    assert [(one.failure, one.rung, one.command, one.effect) for one in job.recovery.steps] == [
        ("exit_code", 0, "its command failed with exit code 1", "attempt 2 failed: exit_code"),
        ("exit_code", 1, "", "attempt 3 failed: oom"),
        ("oom", 0, "", "attempt 4 completed"),
    ]


def test_an_old_journal_of_a_machine_that_was_ended_loads() -> None:
    state = replay(manifest(spec("a")), TEARDOWN.read_text(encoding="utf-8").splitlines(keepends=True))
    assert state.machine.teardown == Teardown(
        "destroy", 4711, "the run has finished; the results are home", 1767229500.0, True
    )
    assert (state.pushed_seq, state.results_seq, state.machine.away, state.machine.bound) == (9, 9, 3600.0, None)


def test_an_old_journal_of_a_job_that_waits_for_what_it_left_running_loads() -> None:
    state = replay(manifest(spec("a")), (JOURNALS / "v1_leftovers.jsonl").read_text(encoding="utf-8").splitlines(True))
    left = state.live[0].left
    assert left == ev.LeftoversFound("a", 1, "wait", "1 process that it left running (python train.py)")


def test_an_old_journal_of_a_job_that_is_idle_loads() -> None:
    state = replay(manifest(spec("a")), (JOURNALS / "v1_idle.jsonl").read_text(encoding="utf-8").splitlines(True))
    assert state.live[0].idle == ev.Work(1767225633.5, 41.25, 8192, 512, 1767225610000000000)


def test_an_old_journal_of_a_job_that_a_person_accepted_loads() -> None:
    lines = (JOURNALS / "v1_accepted.jsonl").read_text(encoding="utf-8").splitlines(True)
    job = replay(manifest(spec("a")), lines).job("a")
    assert (job.status.value, job.error) == ("completed", None)
    assert job.warning == (
        "accepted as it is by ada@laptop: the path in the spec was wrong; before: exit code 0, but a.pt is not there"
    )


def test_an_old_journal_of_jobs_that_were_changed_loads() -> None:
    state = replay(manifest(spec("a"), spec("b"), spec("c")), CHANGES.read_text(encoding="utf-8").splitlines(True))
    assert statuses(state) == {"a": "completed", "b": "completed", "c": "running"}
    assert [job.skipped for job in state.jobs] == [True, False, False]
    assert [job.code for job in state.jobs] == [None, "3f9c2d1a7b0e", "3f9c2d1a7b0e+5b21c09e"]
    assert (state.job("b").spec.timeout, state.job("b").spec.expected_output) == (60.0, "out/b.pt")
    assert (state.job("c").spec.priority, state.job("c").spec.retries) == (3, 1)


@pytest.mark.parametrize("path", sorted(JOURNALS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_lines_written_today_are_those_of_version_1(path: Path) -> None:
    """But for the checksum, which came later."""
    lines = path.read_text(encoding="utf-8").splitlines()
    written = [encode(decode(line)).rstrip("\n") for line in lines]
    assert all(unseal(line)[1] for line in written)
    assert [unseal(line)[0] for line in written] == [unseal(line)[0] for line in lines]


def test_a_journal_with_checksums_that_was_repaired_loads() -> None:
    state = replay(manifest(spec("a"), spec("b")), SEALED.read_text(encoding="utf-8").splitlines())
    assert statuses(state) == {"a": "completed", "b": "running"}
    assert (state.machine.pid, state.machine.ticks) == (43, 4711)
