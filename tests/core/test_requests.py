"""What a person asks of a running queue: each verb, once and for all, with an answer that says what was done."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import events as ev
from queue_manager.core.manifest import JobSpec, Phase, Precondition
from queue_manager.core.requests import (
    Answer,
    Request,
    RequestError,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from tests.core.states import FOREVER, ONCE, check_indexes, run_to_end, spec, statuses, turns, until, world
from tests.fakes import FakeHost, FakeManager, Plan, with_plans

TEACH = (Phase("teachers"), Phase("students", ("teachers",)))
FAILS = Plan(1.0, 1)


def ask(host: FakeHost, manager: FakeManager, verb: str, *jobs: str, **fields: Any) -> Answer:
    """Send one request, and give its answer."""
    request = Request(f"r{len(host.answers)}", verb, jobs, **fields)
    host.inbox.append(request)
    manager.turn()
    check_indexes(manager.state)
    return host.answers[request.id]


# -- cancel -----------------------------------------------------------------------------------------------------------


def test_a_pending_job_is_cancelled_at_once_and_blocks_what_waits_for_it() -> None:
    host, manager = world(spec("a"), spec("b", depends_on=("a",)), host=FakeHost(0))
    answer = ask(host, manager, "cancel", "a")
    assert answer == Answer("r0", True, "cancelled: 1 job", ("a",))
    assert statuses(manager.state) == {"a": "cancelled", "b": "blocked"}
    assert manager.state.job("b").error == "depends on a, which is cancelled"


def test_a_running_job_that_is_cancelled_is_ended() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1e9, ignores_term=True))
    turns(host, manager, 3)
    assert ask(host, manager, "cancel", "a").ok
    turns(host, manager, 5)
    assert host.attempts["a", 1].proc
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.error, job.exit_code) == ("cancelled", "cancelled by a person", 137)


def test_a_job_that_ends_by_itself_in_the_turn_of_its_cancel_is_left_alone() -> None:
    host, manager = world(spec("a"))
    turns(host, manager, 2)
    host.advance(20.0)
    ask(host, manager, "cancel", "a")
    assert statuses(manager.state) == {"a": "completed"}
    assert host.faults == []


@pytest.mark.parametrize("launching", ["lost", "late", "slow"])
def test_a_job_that_is_cancelled_before_its_wrapper_came_never_runs(launching: str) -> None:
    host, manager = world(spec("a"))
    host.launching = launching
    turns(host, manager, 2)
    ask(host, manager, "cancel", "a")
    turns(host, manager, 2)
    assert statuses(manager.state) == {"a": "cancelled"}
    run_to_end(host, manager)
    host.advance(100.0)
    assert (statuses(manager.state), host.starts) == ({"a": "cancelled"}, [])


def test_a_cancelled_job_does_not_come_back_because_the_host_went_down() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1e9, ignores_term=True))
    turns(host, manager, 3)
    ask(host, manager, "cancel", "a")
    host.reboot()
    manager = FakeManager(host, manager.manifest)
    manager.turn()
    assert statuses(manager.state) == {"a": "cancelled"}


def test_a_cancelled_job_does_not_come_back_because_its_manager_was_killed() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1e9, ignores_term=True))
    turns(host, manager, 3)
    ask(host, manager, "cancel", "a")
    host.kill_wrapper(host.attempts["a", 1])
    host.finish(host.attempts["a", 1], 137)
    manager = FakeManager(host, manager.manifest)
    manager.turn()
    assert statuses(manager.state) == {"a": "cancelled"}


def test_what_is_over_is_left_alone_and_said() -> None:
    host, manager = world(spec("a"), spec("b"), spec("c"), host=FakeHost(3))
    host.plan_of = with_plans({"c": FOREVER}, ONCE)
    until(host, manager, "a", "completed")
    ask(host, manager, "cancel", "c")
    run_to_end(host, manager)
    answer = ask(host, manager, "cancel", "a", "b", "c")
    assert (answer.ok, answer.jobs) == (False, ())
    assert answer.text == ("cancelled: 0 jobs; unchanged: a has completed; b has completed; c is already cancelled")


def test_a_long_list_of_refusals_is_cut() -> None:
    jobs = [spec(f"j{i}", gpus=0) for i in range(7)]
    host, manager = world(*jobs, host=FakeHost(0, cores=9))
    run_to_end(host, manager)
    answer = ask(host, manager, "cancel", *[job.id for job in jobs])
    assert answer.text.endswith("; and 2 more")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_unknown_job_changes_nothing(verb: str) -> None:
    host, manager = world(spec("a"), host=FakeHost(0))
    host.nvml = "no driver"
    answer = ask(host, manager, verb, "a", "nope")
    assert answer == Answer("r0", False, "there is no job nope; nothing was changed")
    assert statuses(manager.state) == {"a": "pending"}


# -- retry ------------------------------------------------------------------------------------------------------------


def test_a_stuck_job_gets_a_fresh_set_of_attempts() -> None:
    host, manager = world(spec("a", retries=1))
    host.plan_of = with_plans({"a": [FAILS, FAILS, FAILS, ONCE]})
    run_to_end(host, manager)
    answer = ask(host, manager, "retry", "a")
    assert answer == Answer("r0", True, "retried: 1 job", ("a",))
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts, job.error) == ("completed", 4, 2, None)


def test_a_job_that_waits_for_its_retry_goes_at_once() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=b"CUDA out of memory\n"), FOREVER]})
    until(host, manager, "a", "failed_oom")
    ask(host, manager, "retry", "a")
    job = manager.state.job("a")
    assert (job.status.value, job.oom_attempts, job.due) == ("running", 0, None)


def test_a_blocked_job_is_not_retried_and_the_root_is_named() -> None:
    jobs = [spec("a"), spec("b", depends_on=("a",)), spec("c", depends_on=("b",))]
    host, manager = world(*jobs)
    host.plan_of = with_plans({"a": FAILS})
    run_to_end(host, manager)
    answer = ask(host, manager, "retry", "c")
    assert answer == Answer("r0", False, "retried: 0 jobs; unchanged: c is blocked by a: retry that job")


def test_a_cancelled_job_that_is_retried_is_blocked_again_where_what_it_needs_is_bad() -> None:
    host, manager = world(spec("a"), spec("b", depends_on=("a",)), spec("c", depends_on=("b",)))
    host.plan_of = with_plans({"a": FAILS})
    ask(host, manager, "cancel", "b")
    run_to_end(host, manager)
    ask(host, manager, "retry", "b")
    assert statuses(manager.state) == {"a": "stuck", "b": "blocked", "c": "blocked"}
    assert {manager.state.job(job).blocked_by for job in "bc"} == {"a"}


@pytest.mark.parametrize("status", ["running", "completed"])
def test_a_job_that_needs_no_retry_is_left_alone(status: str) -> None:
    host, manager = world(spec("a"))
    until(host, manager, "a", status)
    assert ask(host, manager, "retry", "a").text == f"retried: 0 jobs; unchanged: a is {status}"


def test_a_cancel_and_a_retry_of_one_job_while_it_waits_start_it_once() -> None:
    host, manager = world(spec("x"), spec("a"), host=FakeHost(2))
    for card in host.cards:
        card.foreign = 9000
    manager.turn()
    ask(host, manager, "cancel", "a")
    ask(host, manager, "retry", "a")
    for card in host.cards:
        card.foreign = 0
    run_to_end(host, manager)
    assert sorted(host.starts) == [("a", 1), ("x", 1)]


# -- pause and resume -------------------------------------------------------------------------------------------------


def test_pause_lets_running_jobs_go_on() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(1))
    turns(host, manager, 2)
    assert ask(host, manager, "pause").text == "paused: running jobs continue, no new jobs start"
    until(host, manager, "a", "completed")
    turns(host, manager, 3)
    assert statuses(manager.state)["b"] == "pending"
    assert ask(host, manager, "resume").text == "resumed"
    run_to_end(host, manager)


def test_a_request_that_is_sent_twice_is_done_once_and_answered_twice() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FAILS)
    run_to_end(host, manager)
    retry = Request("same", "retry", ("a",))
    host.inbox = [retry]
    manager.turn()
    run_to_end(host, manager)
    host.answers.clear()
    host.inbox = [retry]
    manager.turn()
    assert host.answers["same"] == Answer("same", True, "retried: 1 job", ("a",))
    assert manager.state.job("a").n == 2


def test_a_request_whose_answer_was_lost_in_a_crash_is_answered_and_not_done_again() -> None:
    host, manager = world(spec("a"), host=FakeHost(0))
    host.inbox = [Request("r1", "cancel", ("a",)), Request("r2", "retry", ("a",))]
    manager.turn(crash=1)
    manager = FakeManager(host, manager.manifest)
    events = [record.event for record in manager.turn()[1].records]
    assert not [event for event in events if isinstance(event, (ev.JobRetried, ev.RequestTaken))]
    assert (sorted(host.answers), host.inbox) == (["r1", "r2"], [])


# -- add --------------------------------------------------------------------------------------------------------------


def test_jobs_are_added_to_a_running_queue() -> None:
    host, manager = world(spec("a"), host=FakeHost(1))
    turns(host, manager, 2)
    answer = ask(host, manager, "add", specs=(spec("b"), spec("c", depends_on=("b",))))
    assert answer == Answer("r0", True, "added: 2 jobs", ("b", "c"))
    run_to_end(host, manager)
    assert set(statuses(manager.state).values()) == {"completed"}


def test_jobs_are_added_to_a_run_that_is_over() -> None:
    host, manager = world(spec("a"))
    run_to_end(host, manager)
    ask(host, manager, "add", specs=(spec("b"),))
    assert manager.state.finished is None
    run_to_end(host, manager)
    assert statuses(manager.state)["b"] == "completed"


def test_phases_and_groups_are_added_with_their_jobs() -> None:
    host, manager = world(spec("t0", "teachers"), spec("t1", "teachers"))
    phases = (Phase("teachers"), Phase("students", ("teachers",), ("N",)))
    student = spec("s", "students", depends_on=("teachers[N=0]",))
    ask(host, manager, "add", phases=phases, groups={"teachers[N=0]": ("t0",)}, specs=(student,))
    assert [phase.name for phase in manager.state.phases] == ["teachers", "students"]
    run_to_end(host, manager)
    assert [job for job, _ in host.starts][-1] == "s"


def test_an_added_job_that_needs_what_is_stuck_is_blocked_with_all_that_came_with_it() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FAILS)
    run_to_end(host, manager)
    ask(host, manager, "add", specs=(spec("c", depends_on=("b",)), spec("b", depends_on=("a",))))
    assert statuses(manager.state) == {"a": "stuck", "b": "blocked", "c": "blocked"}


def test_a_student_that_fails_after_a_bad_teacher_was_added_is_blocked_and_does_not_wait_forever() -> None:
    host, manager = world(spec("t", "teachers", gpus=0), spec("s", "students", retries=3), phases=TEACH)
    host.plan_of = with_plans({"s": [Plan(10.0, 1), ONCE], "t2": FAILS}, ONCE)
    until(host, manager, "s", "running")
    ask(host, manager, "add", specs=(spec("t2", "teachers", gpus=0),))
    run_to_end(host, manager)
    assert statuses(manager.state) == {"t": "completed", "s": "blocked", "t2": "stuck"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"specs": (spec("a"),)}, "job a already exists"),
        ({"specs": (spec("b"), spec("b"))}, "two jobs have the id 'b'"),
        ({"specs": (spec("b", depends_on=("nope",)),)}, "job 'b' depends on 'nope', which does not exist"),
        ({"specs": (spec("b", "nowhere"),)}, "is of phase 'nowhere', which does not exist"),
        ({"specs": (spec("b", depends_on=("c",)), spec("c", depends_on=("b",)))}, "circular dependency: b -> c -> b"),
        ({"specs": (spec("../b"),)}, "is not a safe file name"),
        ({"phases": (Phase("main", ("x",)), Phase("x"))}, "phase main already exists with different dependencies"),
        ({"groups": {"g": ("a", "b")}, "specs": (spec("b"),)}, "group g already exists with different jobs"),
    ],
)
def test_an_add_that_does_not_fit_adds_nothing_and_says_why(fields: dict[str, Any], words: str) -> None:
    host, manager = world(spec("a"), groups={"g": ("a",)}, host=FakeHost(0))
    host.nvml = "no driver"
    answer = ask(host, manager, "add", **fields)
    assert not answer.ok
    assert answer.text.startswith("nothing was added: ")
    assert words in answer.text
    assert statuses(manager.state) == {"a": "pending"}


# -- as files ---------------------------------------------------------------------------------------------------------

FULL = JobSpec(
    "s1", "python s.py", "students", ("t",), 2, 9000, "s1.pt", "sub", {"A": "1"}, 60.0, -1, 2,
    (Precondition("file_exists", "x"), Precondition("disk_free_gib", gib=1.5)), {"N": "010"}, {"acc": "max"},
)  # fmt: skip


@pytest.mark.parametrize(
    "request_",
    [
        Request("r1", "cancel", ("a", "b")),
        Request("r1", "pause"),
        Request("r1", "add", (), TEACH, {"g": ("s1",)}, (FULL, spec("b"))),
    ],
)
def test_a_request_reads_back_as_it_was_written(request_: Request) -> None:
    assert decode_request(encode_request(request_)) == request_


def test_an_answer_reads_back_as_it_was_written() -> None:
    answer = Answer("r1", False, "ä; two", ("a", "b"))
    assert decode_answer(encode_answer(answer)) == answer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a request"),
        ("[]", "not a request"),
        ('{"id": "r1"}', "not a request"),
        ('{"id": "r1", "verb": "explode"}', "unknown request 'explode'; known: cancel, retry, pause, resume, add"),
        ('{"id": "../r1", "verb": "pause"}', "request id '../r1' is not a safe file name"),
        ('{"id": "r1", "verb": "add", "specs": [{"id": "a"}]}', """job 'a' has no "cmd\""""),
    ],
)
def test_a_request_that_cannot_be_understood_says_why(text: str, words: str) -> None:
    with pytest.raises(RequestError, match="^" + words.replace("(", r"\(").replace(".", r"\.")):
        decode_request(text)
