"""The order of jobs: priorities, bounds, waves, preconditions, phases and groups, and when a run is over."""

from __future__ import annotations

import pytest

from queue_manager.core import events as ev
from queue_manager.core.manifest import JobSpec, Phase, Precondition
from queue_manager.core.requests import Request
from queue_manager.core.status import Status
from queue_manager.core.tick import wants_cards
from tests.core.states import FOREVER, ONCE, cards_of, run_to_end, spec, started, statuses, turns, until, world
from tests.fakes import FakeHost, FakeManager, Plan, with_plans

DATA = (Precondition("file_exists", "data"),)


def starts(host: FakeHost) -> list[str]:
    return [job for job, _ in host.starts]


# -- priorities and bounds --------------------------------------------------------------------------------------------


def test_jobs_start_by_priority_and_then_in_the_order_of_the_manifest() -> None:
    jobs = [spec("a"), spec("b", priority=5), spec("c", gpus=0, priority=5), spec("d", priority=-1), spec("e")]
    host, manager = world(*jobs, max_parallel=1)
    run_to_end(host, manager)
    assert starts(host) == ["b", "c", "a", "e", "d"]


def test_a_job_that_finds_no_card_lets_others_pass() -> None:
    host, manager = world(spec("a", gpu_mem_mib=20_000, priority=1), spec("b", gpus=0))
    for card in host.cards:
        card.foreign = 10_000
    turns(host, manager, 2)
    assert starts(host) == ["b"]


def test_max_parallel_bounds_all_that_runs() -> None:
    host, manager = world(*[spec(f"j{i}", gpus=i % 2) for i in range(6)], max_parallel=3, host=FakeHost(4))
    turns(host, manager, 3)
    assert len(manager.state.live) == 3
    run_to_end(host, manager)


def test_jobs_without_a_card_are_bound_by_the_cores() -> None:
    host, manager = world(*[spec(f"j{i}", gpus=0) for i in range(6)], spec("gpu"), host=FakeHost(1, cores=3))
    turns(host, manager, 3)
    assert sorted(starts(host)) == ["gpu", "j0", "j1", "j2"]


def test_max_parallel_takes_the_place_of_the_cores() -> None:
    host, manager = world(*[spec(f"j{i}", gpus=0) for i in range(6)], max_parallel=5, host=FakeHost(0, cores=2))
    turns(host, manager, 3)
    assert len(host.starts) == 5


def test_cards_are_looked_at_only_while_somebody_waits_for_one() -> None:
    _, manager = world(spec("a"), spec("cpu", gpus=0))
    assert wants_cards(manager.state)
    manager.turn()
    assert not wants_cards(manager.state)


# -- waves ------------------------------------------------------------------------------------------------------------


def waves(manager: FakeManager) -> dict[str, int | None]:
    return {job.spec.id: job.wave for job in manager.state.jobs}


def test_a_barrier_wave_waits_for_every_job_of_the_one_before() -> None:
    host, manager = world(*[spec(f"j{i}") for i in range(4)], wave="barrier")
    host.plan_of = with_plans({"j0": ONCE, "j1": Plan(20.0)}, ONCE)
    until(host, manager, "j0", "completed")
    turns(host, manager, 10)
    assert cards_of(manager.state) == {"j1": (1,)}
    run_to_end(host, manager)
    assert waves(manager) == {"j0": 1, "j1": 1, "j2": 2, "j3": 2}


def test_a_barrier_waits_for_screens_and_for_memory() -> None:
    host, manager = world(spec("a"), spec("b"), spec("c"), wave="barrier")
    host.plan_of = with_plans({"a": Plan(1.0, mib=9000, linger=15.0), "b": Plan(1.0, session_stays=True)}, ONCE)
    until(host, manager, "c", "running")
    assert host.cards[0].lingering == []
    assert not host.attempts["b", 1].session


def test_a_barrier_of_jobs_without_cards_asks_no_card() -> None:
    host, manager = world(*[spec(f"j{i}", gpus=0) for i in range(4)], wave="barrier", max_parallel=2)
    host.nvml = "no driver"
    run_to_end(host, manager)
    assert waves(manager) == {"j0": 1, "j1": 1, "j2": 2, "j3": 2}


def test_a_job_without_cards_waits_for_the_cards_of_the_wave_before() -> None:
    host, manager = world(spec("a"), spec("b", gpus=0), wave="barrier", max_parallel=1)
    host.plan_of = with_plans({"a": Plan(1.0, mib=9000, linger=15.0)}, ONCE)
    until(host, manager, "a", "completed")
    assert wants_cards(manager.state)
    until(host, manager, "b", "running")
    assert host.cards[0].lingering == []


def test_a_rolling_wave_goes_on_card_by_card() -> None:
    host, manager = world(*[spec(f"j{i}") for i in range(4)])
    host.plan_of = with_plans({"j0": ONCE, "j1": FOREVER}, ONCE)
    turns(host, manager, 12)
    assert statuses(manager.state) == {"j0": "completed", "j1": "running", "j2": "completed", "j3": "completed"}


def test_a_barrier_wave_starts_when_all_its_preconditions_are_known() -> None:
    _, manager = world(spec("a"), spec("b", preconditions=DATA), wave="barrier")
    _, first = manager.turn()
    assert (started([record.event for record in first.records]), first.ask) == ([], (1,))
    _, second = manager.turn()
    assert started([record.event for record in second.records]) == ["a", "b"]


# -- preconditions ----------------------------------------------------------------------------------------------------


def test_preconditions_are_asked_about_when_a_card_is_there() -> None:
    host, manager = world(spec("a", preconditions=DATA), host=FakeHost(1))
    host.cards[0].foreign = 9000
    assert manager.turn()[1].ask == ()
    host.cards[0].foreign = 0
    assert manager.turn()[1].ask == (0,)
    assert started([record.event for record in manager.turn()[1].records]) == ["a"]


def test_nothing_behind_it_takes_the_card_of_a_job_that_is_asked_about() -> None:
    host, manager = world(spec("a", preconditions=DATA), spec("b"), host=FakeHost(1))
    turns(host, manager, 2)
    assert cards_of(manager.state) == {"a": (0,)}


def test_a_job_whose_precondition_does_not_hold_lets_others_pass_and_starts_once_it_does() -> None:
    host, manager = world(spec("a", preconditions=DATA), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({}, Plan(5.0))
    host.unmet["a"] = "data is not there"
    turns(host, manager, 3)
    assert manager.state.job("a").held == "data is not there"
    assert cards_of(manager.state) == {"b": (0,)}
    host.unmet.clear()
    run_to_end(host, manager)
    assert starts(host) == ["b", "a"]


def test_a_precondition_that_never_holds_blocks_its_job_at_the_end_and_all_that_wait_for_it() -> None:
    host, manager = world(spec("a", preconditions=DATA), spec("b", depends_on=("a",)), spec("c"))
    host.unmet["a"] = "data is not there"
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "blocked", "b": "blocked", "c": "completed"}
    assert manager.state.job("a").error == "precondition does not hold: data is not there"
    assert manager.state.job("b").error == "depends on a, which is blocked"


def test_what_another_host_may_still_bring_is_waited_for_and_blocks_nothing() -> None:
    mark = (Precondition("carried", "mark"),)
    host, manager = world(spec("a", preconditions=mark), spec("b", preconditions=DATA), spec("c"))
    host.unmet.update({"a": "mark is not there", "b": "data is not there"})
    until(host, manager, "c", "completed")
    for _ in range(50):
        host.now += 10.0
        manager.turn()
    assert statuses(manager.state) == {"a": "pending", "b": "pending", "c": "completed"}
    assert manager.state.finished is None
    host.unmet.pop("a")
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "blocked", "c": "completed"}


def test_a_precondition_is_looked_at_once_more_after_the_last_job_has_ended() -> None:
    host, manager = world(spec("a", preconditions=DATA), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({}, Plan(5.0))
    host.unmet["a"] = "data is not there"
    until(host, manager, "b", "completed")
    host.unmet.clear()  # b has made it, just before its end
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "completed"}


def test_a_person_retries_a_job_that_a_precondition_blocked() -> None:
    host, manager = world(spec("a", preconditions=DATA), spec("b", depends_on=("a",)))
    host.unmet["a"] = "data is not there"
    run_to_end(host, manager)
    host.unmet.clear()
    host.inbox = [Request("r1", "retry", ("a",))]
    manager.turn()
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "completed"}


# -- phases and groups ------------------------------------------------------------------------------------------------

TEACH = (Phase("teachers"), Phase("students", ("teachers",)))


def test_students_wait_for_every_teacher() -> None:
    jobs = [spec("t0", "teachers"), spec("t1", "teachers"), spec("s", "students")]
    host, manager = world(*jobs, phases=TEACH)
    host.plan_of = with_plans({"t1": Plan(20.0)}, ONCE)
    until(host, manager, "t0", "completed")
    turns(host, manager, 10)
    assert starts(host) == ["t0", "t1"]
    run_to_end(host, manager)
    assert starts(host)[-1] == "s"


def test_with_groups_a_student_waits_for_its_own_teachers_only() -> None:
    jobs = [
        spec("t0", "teachers"),
        spec("t1", "teachers"),
        spec("s0", "students", depends_on=("teachers[N=0]",)),
        spec("s1", "students", depends_on=("teachers[N=1]",)),
    ]
    phases = (Phase("teachers"), Phase("students", ("teachers",), ("N",)))
    groups = {"teachers[N=0]": ("t0",), "teachers[N=1]": ("t1",)}
    host, manager = world(*jobs, phases=phases, groups=groups)
    host.plan_of = with_plans({"t1": Plan(1.0, 1)}, ONCE)
    run_to_end(host, manager)
    assert statuses(manager.state) == {"t0": "completed", "t1": "stuck", "s0": "completed", "s1": "blocked"}
    assert manager.state.job("s1").error == "depends on t1, which is stuck"


def test_a_phase_with_no_jobs_holds_up_nothing() -> None:
    host, manager = world(spec("s", "students"), phases=TEACH)
    run_to_end(host, manager)
    assert statuses(manager.state) == {"s": "completed"}


def test_a_stuck_teacher_blocks_its_students_and_theirs_and_a_retry_releases_them() -> None:
    phases = (*TEACH, Phase("last", ("students",)))
    jobs = [spec("t0", "teachers"), spec("t1", "teachers"), spec("s", "students"), spec("z", "last")]
    host, manager = world(*jobs, phases=phases)
    host.plan_of = with_plans({"t0": [Plan(1.0, 1), ONCE]}, ONCE)
    run_to_end(host, manager)
    assert statuses(manager.state) == {"t0": "stuck", "t1": "completed", "s": "blocked", "z": "blocked"}
    assert {manager.state.job(job).error for job in ("s", "z")} == {"depends on t0, which is stuck"}
    host.inbox = [Request("r1", "retry", ("t0",))]
    manager.turn()
    assert manager.state.finished is None
    run_to_end(host, manager)
    assert set(statuses(manager.state).values()) == {"completed"}


def test_a_failed_teacher_that_will_be_retried_blocks_nobody() -> None:
    host, manager = world(spec("t", "teachers", retries=1), spec("s", "students"), phases=TEACH)
    host.plan_of = with_plans({"t": [Plan(1.0, 1), ONCE]}, ONCE)
    until(host, manager, "t", "failed_other")
    assert statuses(manager.state)["s"] == "pending"
    run_to_end(host, manager)
    assert statuses(manager.state) == {"t": "completed", "s": "completed"}


def test_a_blocked_job_names_another_root_when_the_first_is_retried() -> None:
    host, manager = world(spec("t0", "teachers"), spec("t1", "teachers"), spec("s", "students"), phases=TEACH)
    host.plan_of = with_plans({"t0": [Plan(1.0, 1), FOREVER], "t1": Plan(1.0, 1)})
    run_to_end(host, manager)
    assert manager.state.job("s").error == "depends on t0, which is stuck"
    host.inbox = [Request("r1", "retry", ("t0",)), Request("r2", "retry", ("s",))]
    turns(host, manager, 2)
    assert manager.state.job("s").error == "depends on t1, which is stuck"
    host.inbox = [Request("r3", "retry", ("s",))]
    manager.turn()
    assert "s is blocked by t1: retry that job" in host.answers["r3"].text


def test_a_stuck_teacher_blocks_thousands_with_one_event_each() -> None:
    count = 2000
    teachers = [spec(f"t{i}", "teachers", gpus=0, priority=int(i == 0)) for i in range(count)]
    students = [spec(f"s{i}", "students", gpus=0) for i in range(count)]
    host, manager = world(*teachers, *students, phases=TEACH, host=FakeHost(0), max_parallel=1)
    host.plan_of = with_plans({"t0": [Plan(0.5, 1), FOREVER]}, FOREVER)
    manager.turn()
    host.advance(1.0)
    manager.turn()
    host.advance(1.0)
    events = [record.event for record in manager.turn()[1].records]
    assert sum(isinstance(event, ev.JobBlocked) for event in events) == count
    assert len(events) < count + 10
    assert manager.state.tallies.counts == {
        Status.STUCK: 1,
        Status.RUNNING: 1,
        Status.PENDING: count - 2,
        Status.BLOCKED: count,
    }
    host.inbox = [Request("r1", "retry", ("t0",))]
    events = [record.event for record in manager.turn()[1].records]
    assert sum(isinstance(event, ev.JobUnblocked) for event in events) == count
    assert len(events) < count + 10


def test_thousands_of_stuck_teachers_cost_no_more_events_than_there_are_jobs() -> None:
    count = 2000
    teachers = [spec(f"t{i}", "teachers") for i in range(count)]
    students = [spec(f"s{i}", "students", gpus=0) for i in range(count)]
    host, manager = world(*teachers, *students, phases=TEACH, host=FakeHost(0))
    events = [record.event for record in manager.turn()[1].records]
    assert manager.state.tallies.counts == {Status.STUCK: count, Status.BLOCKED: count}
    assert len(events) < 2 * count + 10
    host.inbox = [Request("r1", "retry", tuple(job.id for job in teachers))]
    _, result = manager.turn(cards=False)
    assert len(result.records) < 2 * count + 10
    assert manager.state.tallies.counts == {Status.PENDING: 2 * count}


# -- the end ----------------------------------------------------------------------------------------------------------


def test_a_run_with_no_jobs_is_over_at_once() -> None:
    host, manager = world()
    manager.turn()
    assert manager.state.finished == host.now


def test_a_run_is_over_when_all_its_jobs_are_final_and_says_so_once() -> None:
    host, manager = world(spec("a"))
    events = turns(host, manager, 15, 2.0)
    assert sum(isinstance(event, ev.RunFinished) for event in events) == 1


def test_a_paused_run_starts_nothing_and_does_not_finish() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(1))
    turns(host, manager, 1)
    host.inbox = [Request("r1", "pause")]
    turns(host, manager, 40)
    assert statuses(manager.state) == {"a": "completed", "b": "pending"}
    assert manager.state.finished is None
    host.inbox = [Request("r2", "resume")]
    run_to_end(host, manager)


@pytest.mark.parametrize("job", [spec("big", gpus=9), spec("held", preconditions=DATA)])
def test_while_paused_no_job_is_given_up(job: JobSpec) -> None:
    host, manager = world(job)
    host.unmet["held"] = "data is not there"
    host.inbox = [Request("r1", "pause")]
    turns(host, manager, 5)
    assert set(statuses(manager.state).values()) == {"pending"}


def test_while_a_retry_is_due_no_job_is_given_up() -> None:
    host, manager = world(spec("a"), spec("held", preconditions=DATA))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=b"CUDA out of memory\n"), ONCE]})
    host.unmet["held"] = "data is not there"
    until(host, manager, "a", "failed_oom")
    turns(host, manager, 5)
    assert statuses(manager.state)["held"] == "pending"
