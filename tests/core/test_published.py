"""What people read: rows of the snapshot, why a job waits, summary.md, alerts."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core import pace
from queue_manager.core.alerts import alert, last_seq
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.events import Record
from queue_manager.core.manifest import JobSpec, OomRetry, Phase, Precondition
from queue_manager.core.placement import views
from queue_manager.core.readings import Unreadable
from queue_manager.core.requests import Request
from queue_manager.core.snapshot import Situation, card_rows, head, job_row, waiting
from queue_manager.core.state_format import phase_status
from queue_manager.core.status import Status
from queue_manager.core.summary import summary
from queue_manager.core.tick import next_timer, overdue, wants_cards
from queue_manager.core.times import duration
from tests.core.states import FOREVER, ONCE, run_to_end, spec, turns, until, world
from tests.fakes import START, FakeHost, FakeManager, Plan, with_plans

GOLDEN = Path(__file__).parent.parent / "data" / "summary"
OOM = b"CUDA out of memory. Tried to allocate 2.00 GiB | retry\n"
TEACH = (Phase("teachers"), Phase("students", ("teachers",)))


def situation(manager: FakeManager, impossible: dict[Any, str] | None = None) -> Situation:
    log = "/runs/run-1/logs/{}.log".format
    return Situation(manager.host.read_cards(), impossible or {}, "running", "/workspace/code", 5.0, None, log)


def rows(manager: FakeManager) -> dict[str, dict[str, Any]]:
    return {job.spec.id: job_row(manager.state, job, situation(manager)) for job in manager.state.jobs}


def test_asking_changes_nothing_of_a_state() -> None:
    """Whoever looks at a state, for a snapshot, a view or the next turn, leaves it as it was, to the last bit."""
    host, manager = world(
        spec("t", "teachers", timeout=50.0), spec("oom", "teachers"), spec("s", "students", gpu_mem_mib=4000),
        spec("held", preconditions=(Precondition("file_exists", path="x"),)), spec("next"), phases=TEACH,
    )  # fmt: skip
    host.plan_of, host.unmet["held"] = with_plans({"oom": Plan(1.0, 1, log=OOM)}, FOREVER), "x does not exist"
    turns(host, manager, 6)
    state, now = manager.state, host.now
    state.touched.clear()
    assert {job.status for job in state.jobs} >= {Status.RUNNING, Status.PENDING, Status.FAILED_OOM}
    before = pickle.dumps(state)
    rows(manager)
    head(state, situation(manager), now)
    summary(state, "/logs", now)
    wants_cards(state), overdue(state, now + 99.0), next_timer(state, now)
    pace.CardPace(state, 5.0).due(now)
    for job in state.jobs:
        waiting(state, job, {})
        state.graph.met(job.order), state.graph.bad_need(job.order), state.graph.turned(job.order)
        state.graph.open_needs(job.order, 9), state.graph.open_jobs(job.order, 9)
    state.ready.heads(), state.ready.first(9), state.ready.next_due(), state.ready.due_retries(now + 1e6)
    [list(state.ready.in_order(need)) for need in state.ready.needs()]
    assert pickle.dumps(state) == before


# -- why a job waits --------------------------------------------------------------------------------------------------


def words(host: FakeHost, manager: FakeManager, job: str = "a", count: int = 2) -> str | None:
    """Why a job waits, after some turns."""
    for _ in range(count):
        _, result = manager.turn()
        host.advance(0.5)
    return waiting(manager.state, manager.state.job(job), result.impossible)


def full(*jobs: JobSpec, **fields: Any) -> tuple[FakeHost, FakeManager]:
    """A world whose one card is used by another process."""
    host = FakeHost(1)
    host.cards[0].foreign = 20_000
    return world(*jobs, host=host, **fields)


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (spec("a"), "waits for a GPU to be free"),
        (spec("a", gpu_mem_mib=9000), "waits for a GPU with 9000 MiB available"),
        (spec("a", gpus=2), "needs 2 GPUs; this host has 1 GPU"),
    ],
)
def test_a_job_waits_for_cards(job: JobSpec, text: str) -> None:
    host, manager = full(job, spec("cpu", gpus=0))
    host.plan_of = with_plans({}, FOREVER)
    assert words(host, manager) == text


def test_a_job_waits_for_several_cards() -> None:
    host, manager = world(spec("x"), spec("a", gpus=2))
    assert words(host, manager) == "waits for 2 GPUs to be free"


def test_a_job_waits_for_a_slot() -> None:
    host, manager = world(spec("x", gpus=0), spec("a", gpus=0), max_parallel=1)
    assert words(host, manager) == "waits for a free slot"


def test_a_job_waits_for_the_next_wave() -> None:
    host, manager = world(spec("x"), spec("y"), spec("a"), wave="barrier")
    assert words(host, manager) == "waits for the next wave"


def test_a_job_waits_for_a_precondition() -> None:
    host, manager = world(spec("a", preconditions=(Precondition("file_exists", "d"),)), spec("x"))
    host.unmet["a"] = "d is not there"
    assert words(host, manager) == "waits for a precondition: d is not there"


def test_a_job_waits_for_phases_groups_and_jobs() -> None:
    jobs = [spec(f"t{i}", "teachers") for i in range(4)]
    host, manager = world(
        *jobs, spec("a", "students"), spec("b", depends_on=("g", "t0", "t1", "t2")), phases=TEACH, groups={"g": ("t3",)}
    )
    assert words(host, manager, "a") == "waits for phase teachers"
    assert words(host, manager, "b") == "waits for g, job t0, job t1 and more"


def test_a_job_waits_for_its_retry() -> None:
    host, manager = world(spec("a"), oom_retry=OomRetry(60.0, 3))
    host.plan_of = with_plans({}, Plan(0.5, 1, log=OOM))
    until(host, manager, "a", "failed_oom")
    assert waiting(manager.state, manager.state.job("a"), {}) == "waits for its retry at 2026-01-01T00:01:01.000Z"


def test_a_job_waits_because_the_run_is_paused() -> None:
    host, manager = world(spec("a"), spec("b", gpus=0))
    host.inbox = [Request("r", "pause")]
    assert words(host, manager, "a") == words(host, manager, "b")
    assert words(host, manager, "a") == "the run is paused; resume it with: wavequeue resume"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("nvml", "driver mismatch", "NVML cannot be read: driver mismatch"),
        ("leases", Unreadable("torn"), "other runs' leases cannot be read: torn"),
        ("disk", "the disk is full: no room at /x", "the disk is full: no room at /x"),
        ("launching", "error", "screen cannot start: Cannot make directory"),
    ],
)
def test_a_job_waits_for_what_hinders_the_queue(field: str, value: Any, text: str) -> None:
    host, manager = world(spec("a"))
    setattr(host, field, value)
    turns(host, manager, 2, 0.5)
    assert words(host, manager, count=2) == text


def test_a_job_without_cards_does_not_wait_for_nvml() -> None:
    host, manager = world(spec("x", gpus=0), spec("a", gpus=0), spec("card"), max_parallel=1)
    host.nvml = "driver mismatch"
    assert words(host, manager) == "waits for a free slot"


@pytest.mark.parametrize("status", ["running", "completed"])
def test_a_job_that_runs_or_is_over_waits_for_nothing(status: str) -> None:
    host, manager = world(spec("a"))
    job = until(host, manager, "a", status)
    assert waiting(manager.state, job, {}) is None


# -- rows -------------------------------------------------------------------------------------------------------------


def test_a_job_as_users_read_it() -> None:
    host, manager = world(spec("a", expected_output="a.pt", gpu_mem_mib=9000, priority=2))
    until(host, manager, "a", "running")
    turns(host, manager, 2, 0.5)
    assert rows(manager)["a"] == {
        "id": "a", "phase": "main", "status": "running", "gpu": 0, "gpus": [0], "screen_name": "wq.run-1.a.1",
        "screen_pid": 1002, "pid": 101001, "attempt": 1, "attempts": 1, "oom_attempts": 0, "wave": 1,
        "host_ooms": 0, "gpu_ooms": 0, "time_limits": 0, "memory": None,
        "started": "2026-01-01T00:00:00.500Z", "completed": None, "exit_code": None, "expected_output": "a.pt",
        "error": None, "warning": None, "failure": None, "log": "/runs/run-1/logs/a.log", "waiting": None,
        "retry_at": None, "depends_on": [], "cards": 1, "gpu_mem_mib": 9000, "gpu_model": [],
        "priority": 2,
        "metrics": {}, "metric_errors": {}, "attempt_ended": None, "code": None, "environment": None, "skipped": False,
        "seq": 4,
        "health": {
            "step": None, "total": None, "rate": None, "eta_s": None, "loss": None, "util": None, "mem_mib": None,
            "flags": [],
        },
        "outcome": None, "recovery": None, "queued": None, "node": None, "last_output": None,
        "silent_s": None, "cpu": None,
        "asks": None,
    }  # fmt: skip


def test_a_job_that_is_over_keeps_the_cards_and_times_of_its_last_attempt() -> None:
    host, manager = world(spec("a", gpus=2))
    host.plan_of = with_plans({}, Plan(2.0, 3))
    until(host, manager, "a", "stuck")
    row = rows(manager)["a"]
    assert (row["gpu"], row["gpus"], row["exit_code"], row["completed"]) == (0, [0, 1], 3, "2026-01-01T00:00:02.500Z")


def test_the_head_holds_the_run_its_conditions_and_its_counts() -> None:
    host, manager = world(spec("a"), spec("b", gpus=0))
    host.nvml = "driver mismatch"
    turns(host, manager, 2, 0.5)
    found = head(manager.state, situation(manager), host.now)
    meta = found["meta"]
    assert (meta["format"], meta["version"], meta["run_id"], meta["project"]) == ("wavequeue-state", 1, "run-1", "demo")
    assert (meta["host"], meta["pid"], meta["manager"], meta["seq"]) == ("fake", 1, "running", manager.state.seq)
    assert (meta["started"], meta["updated"], meta["finished"]) == (
        "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z", None,
    )  # fmt: skip
    assert meta["conditions"] == [
        {"kind": "nvml", "text": "NVML cannot be read: driver mismatch", "since": "2026-01-01T00:00:00.000Z"}
    ]
    assert found["counts"] == {"pending": 1, "running": 1}
    assert found["gpus"] == []
    json.dumps(found)


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, "completed"),
        ({Status.COMPLETED: 2}, "completed"),
        ({Status.PENDING: 2}, "pending"),
        ({Status.PENDING: 1, Status.COMPLETED: 1}, "running"),
        ({Status.RUNNING: 1, Status.STUCK: 1}, "running"),
        ({Status.FAILED_OOM: 1, Status.STUCK: 1}, "running"),
        ({Status.PENDING: 1, Status.STUCK: 1}, "pending"),
        ({Status.STUCK: 1, Status.BLOCKED: 1, Status.COMPLETED: 5}, "stuck"),
        ({Status.BLOCKED: 1, Status.CANCELLED: 1}, "blocked"),
        ({Status.CANCELLED: 1, Status.COMPLETED: 1}, "cancelled"),
    ],
)
def test_a_stuck_job_never_makes_its_phase_complete(counts: dict[Status, int], status: str) -> None:
    assert phase_status(counts) == status


def test_phases_as_users_read_them() -> None:
    host, manager = world(spec("t", "teachers"), spec("s", "students"), phases=TEACH, oom_retry=OomRetry(0.0, 3))
    host.plan_of = with_plans({"t": [Plan(1.0, 1, log=OOM), ONCE]}, FOREVER)
    until(host, manager, "s", "running")
    teachers, students = head(manager.state, situation(manager), host.now)["phases"]
    assert (teachers["status"], teachers["oom_retries"], teachers["counts"]) == ("completed", 1, {"completed": 1})
    assert teachers["completed"] is not None
    assert (students["depends_on"], students["status"], students["completed"]) == (["teachers"], "running", None)


def test_cards_as_users_read_them() -> None:
    host = FakeHost(5)
    host.cards[3].sick, host.cards[4].foreign = "GPU is lost", 9000
    host, manager = world(spec("a", gpu_mem_mib=9000), spec("b"), host=host, gpus=(0, 1, 3, 4))
    host.plan_of = with_plans({}, Plan(seconds=1e9, mib=5000))
    turns(host, manager, 3)
    found = card_rows(manager.state, host.read_cards(), host.now)
    assert found[0] == {
        "index": 0, "uuid": "GPU-0", "name": "Fake", "total_mib": 24000, "used_mib": 5000, "free_mib": 19000, "util": 0,
        "jobs": ["a"], "promised_mib": 9000, "note": "shared by jobs", "holder": "shared by a, 9000 MiB reserved",
        "room_mib": 15000,
    }  # fmt: skip
    assert [row["note"] for row in found[1:]] == [
        "assigned to a job of this run", "not among the GPUs of this run", "GPU is lost", "used by another process",
    ]  # fmt: skip
    assert found[3]["used_mib"] is None
    assert [row["holder"] for row in found[1:]] == [
        "assigned to b",
        "not among the GPUs of this run (gpus: [0, 1, 3, 4])",
        "cannot be used: GPU is lost",
        "held by a process outside wavequeue: 9000 MiB used, threshold 500 (gpu_free_threshold_mib)",
    ]


def test_who_holds_a_card_is_named_whoever_it_is() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(7))
    host.plan_of = with_plans({"b": [Plan(1.0, 1, log=b"NVRM: Xid 79\n"), FOREVER]}, Plan(1.0, mib=9000, linger=60.0))
    until(host, manager, "a", "completed")
    ann, bob = "user ann (uid 1001)", "user bob (uid 1002)"
    foreign = [ForeignLease("GPU-3", None, "r2"), ForeignLease("GPU-4", 5000, "r3"), ForeignLease("GPU-4", 1000, "r3")]
    foreign += [
        ForeignLease("GPU-5", None, "x", ann),
        ForeignLease("GPU-6", 500, "x", ann),
        ForeignLease("GPU-6", 7, "x", bob),
    ]
    found = card_rows(manager.state, host.read_cards(), host.now, foreign)
    assert [row["holder"] for row in found] == [
        ("held by memory that a job has not released yet: 9000 MiB used, threshold 500 (gpu_free_threshold_mib)"),
        "in quarantine (job b: faulty GPU (exit code 1): NVRM: Xid 79); to try it again: wavequeue resume",
        "assigned to b",
        "given to run r2",
        "promised to run r3: 6000 MiB",
        "reserved by a run of user ann (uid 1001)",
        "reserved by a run of user ann (uid 1001): 500 MiB; reserved by a run of user bob (uid 1002): 7 MiB",
    ]
    assert [row["room_mib"] for row in found] == [0, 0, 0, 0, 18000, 0, 23493]


def test_a_card_in_quarantine_says_why() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=b"NVRM: Xid 79\n"), FOREVER]})
    turns(host, manager, 6)
    note = card_rows(manager.state, host.read_cards(), host.now)[0]["note"]
    assert note == "in quarantine: job a: faulty GPU (exit code 1): NVRM: Xid 79"


def test_memory_that_lingers_is_named() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1.0, mib=9000, linger=60.0))
    until(host, manager, "a", "completed")
    assert card_rows(manager.state, host.read_cards(), host.now)[0]["note"] == "memory not released yet"


def test_a_card_of_another_run_says_so() -> None:
    host, manager = world(spec("a"))
    cards = host.read_cards()
    assert not isinstance(cards, Unreadable)
    view = views(manager.state, cards.cards, [ForeignLease("GPU-0", None, "other")], host.now)["GPU-0"]
    assert view.note == "assigned to a job of another run"


# -- summary.md -------------------------------------------------------------------------------------------------------


def test_the_summary_of_a_run_that_needs_a_person() -> None:
    jobs = [
        spec("t0", "teachers", expected_output="ckpt/t0.pt"),
        spec("t1", "teachers"),
        spec("s0", "students", depends_on=("t0",), expected_output="/abs/s0.json"),
        spec("s1", "students", depends_on=("t1",)),
        spec("extra", cwd="sub", expected_output="e.txt"),
        spec("gone"),
    ]
    phases = (Phase("teachers"), Phase("students", ("teachers",), ("N",)))
    host, manager = world(*jobs, phases=phases, cwd="/workspace/code/", oom_retry=OomRetry(0.0, 2))
    host.plan_of = with_plans({"t0": Plan(90.0, 1), "t1": Plan(1.0, 1, log=OOM)}, ONCE)
    host.inbox = [Request("r", "cancel", ("gone",))]
    run_to_end(host, manager)
    text = summary(manager.state, "/runs/run-1/logs", host.now)
    assert text == (GOLDEN / "needs_a_person.md").read_text(encoding="utf-8")


def test_the_summary_of_a_run_that_goes_on() -> None:
    host, manager = world(spec("a"), spec("b"))
    host.plan_of = with_plans({"a": ONCE}, FOREVER)
    turns(host, manager, 5)
    text = summary(manager.state, "/runs/run-1/logs", START + 75.0)
    assert text == (GOLDEN / "goes_on.md").read_text(encoding="utf-8")


def test_a_summary_of_very_many_jobs_is_cut() -> None:
    jobs = [spec(f"j{i}", gpus=0, expected_output=f"{i}") for i in range(60)]
    host, manager = world(*jobs, host=FakeHost(0, cores=60))
    run_to_end(host, manager)
    text = summary(manager.state, "/logs", host.now)
    assert "- and 10 more, in queue_state.json" in text
    assert "(j49)" in text
    assert "(j50)" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"), (0, "0.0 s"), (12.34, "12.3 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (60, "1 min 00 s"),
        (245, "4 min 05 s"), (3599.6, "1 h 00 min"), (11_220, "3 h 07 min"), (90_000, "25 h 00 min"),
    ],
)  # fmt: skip
def test_times_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# -- alerts -----------------------------------------------------------------------------------------------------------

ENDED = ev.AttemptEnded("a", 1, "completed")


@pytest.mark.parametrize(
    ("event", "kind", "job", "text"),
    [
        (replace(ENDED, status="stuck", error="exit code 1"), "stuck", "a", "exit code 1"),
        (replace(ENDED, status="failed_oom", error="out of memory"), "oom", "a", "out of memory"),
        (replace(ENDED, status="pending", failure="not_launched", error="no"), "not_launched", "a", "no"),
        (replace(ENDED, warning="exit code 1, but its output"), "warning", "a", "exit code 1, but its output"),
        (ev.JobStuck("a", "needs 9 GPUs"), "stuck", "a", "needs 9 GPUs"),
        (ev.AttemptStopping("a", 2, "stale"), "stale", "a", "attempt 2 is being stopped: stale"),
        (ev.AttemptStopping("a", 2, "timeout"), "timeout", "a", "attempt 2 is being stopped: timeout"),
        (ev.ConditionBegan("disk", "the disk is full"), "disk", None, "the disk is full"),
        (ev.ConditionBegan("card:GPU-0", "card 0: lost"), "card", None, "card 0: lost"),
        (ev.ConditionEnded("disk"), "disk_over", None, "over: disk"),
        (
            ev.CardQuarantined("GPU-0", "job a: ECC"), "quarantine", None,
            "GPU-0 gets no more jobs: job a: ECC; once it is repaired: wavequeue resume",
        ),
    ],
)  # fmt: skip
def test_what_a_person_should_hear_of_is_one_line(event: ev.Event, kind: str, job: str | None, text: str) -> None:
    line = alert(Record(7, START, event))
    assert line is not None
    assert line.count("\n") == 1
    row = {"seq": 7, "at": "2026-01-01T00:00:00.000Z", "kind": kind, "job": job, "text": text}
    assert json.loads(line) == {key: value for key, value in row.items() if value is not None}


@pytest.mark.parametrize(
    "event",
    [
        ENDED,
        replace(ENDED, status="failed_other"),
        ev.AttemptStopping("a", 1, "cancelled"),
        ev.Paused(),
        ev.RunFinished(),
    ],
)
def test_what_goes_as_it_should_makes_no_alert(event: ev.Event) -> None:
    assert alert(Record(7, START, event)) is None


@pytest.mark.parametrize(
    ("text", "seq"),
    [("", 0), ('{"seq": 3}\n{"seq": 5}\n', 5), ('{"seq": 3}\n{"se', 3), ("torn", 0), ('{"seq": 3}\n\n[]\n', 3)],
)
def test_the_last_alert_is_found_though_a_line_was_cut_off(text: str, seq: int) -> None:
    assert last_seq(text) == seq
