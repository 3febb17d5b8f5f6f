"""One attempt from its launch to its end: claims, crashes, readings that fail, stops, retries."""

from __future__ import annotations

import pytest

from queue_manager.core import boundary as b
from queue_manager.core import events as ev
from queue_manager.core.attempt_progress import BIRTH_GRACE, DISK_RETRIES, LAUNCH_GRACE
from queue_manager.core.manifest import OomRetry
from queue_manager.core.tick import next_timer, tick
from tests.core.states import FOREVER, ONCE, run_to_end, spec, started, statuses, turns, until, world
from tests.fakes import BEFORE_JOURNAL, FakeHost, FakeManager, Plan, with_plans

OOM = b"torch.OutOfMemoryError: CUDA out of memory\n"


def again(host: FakeHost, manager: FakeManager) -> FakeManager:
    """The manager is killed, and another one goes on."""
    return FakeManager(host, manager.manifest)


# -- retries ----------------------------------------------------------------------------------------------------------


def test_an_oom_waits_its_delay_and_goes_again() -> None:
    host, manager = world(spec("a"), oom_retry=OomRetry(30.0, 3))
    host.plan_of = with_plans({"a": [Plan(1.0, 1, log=OOM), ONCE]})
    job = until(host, manager, "a", "failed_oom")
    assert (job.oom_attempts, job.due) == (1, host.now + 30.0)
    until(host, manager, "a", "running")
    assert host.now >= (job.ended or 0) + 30.0
    run_to_end(host, manager)
    assert (job.status.value, job.n, job.oom_attempts) == ("completed", 2, 1)


@pytest.mark.parametrize("most", [1, 3])
def test_after_max_attempts_of_oom_it_is_stuck(most: int) -> None:
    host, manager = world(spec("a", retries=9), oom_retry=OomRetry(0.0, most))
    host.plan_of = with_plans({}, Plan(1.0, 1, log=OOM))
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.oom_attempts) == ("stuck", most, most)
    assert job.error == "out of GPU memory (exit code 1): torch.OutOfMemoryError: CUDA out of memory"


@pytest.mark.parametrize("retries", [0, 2])
def test_other_failures_are_tried_again_as_often_as_retries_says(retries: int) -> None:
    host, manager = world(spec("a", retries=retries))
    host.plan_of = with_plans({}, Plan(1.0, 3))
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.exit_code) == ("stuck", retries + 1, 3)


def test_a_full_disk_is_waited_for_though_the_spec_allows_no_retry() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1.0, 1, log=b"No space left on device\n"))
    run_to_end(host, manager)
    assert manager.state.job("a").n == DISK_RETRIES + 1


def test_a_job_that_fails_once_and_then_completes_keeps_no_error() -> None:
    host, manager = world(spec("a", retries=1))
    host.plan_of = with_plans({"a": [Plan(1.0, 3), ONCE]})
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.error, job.exit_code, job.attempts) == ("completed", None, 0, 2)


# -- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [Plan(1.0), Plan(1.0, 1)])
def test_the_output_decides_and_the_exit_code_warns(plan: Plan) -> None:
    host, manager = world(spec("a", expected_output="a.pt"))
    host.plan_of = with_plans({}, plan)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.warning is not None) == ("completed", plan.code != 0)


def test_a_file_completes_no_job_while_its_process_lives() -> None:
    host, manager = world(spec("a", expected_output="a.pt"))
    host.old_outputs.add("a")
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 20)
    assert statuses(manager.state) == {"a": "running"}


def test_a_file_left_from_before_completes_no_job() -> None:
    host, manager = world(spec("a", expected_output="a.pt"))
    host.old_outputs.add("a")
    host.plan_of = with_plans({}, Plan(1.0, output=False))
    run_to_end(host, manager)
    assert "left over from before" in (manager.state.job("a").error or "")


def test_a_file_that_siblings_may_have_written_completes_no_failed_job() -> None:
    host, manager = world(spec("a", expected_output="out/*.json"))
    host.shared_outputs.add("a")
    host.plan_of = with_plans({}, Plan(1.0, 1))
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "stuck"}


# -- being ended ------------------------------------------------------------------------------------------------------


def reasons(events: list[ev.Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, ev.AttemptStopping)]


def test_a_job_over_its_timeout_gets_term() -> None:
    host, manager = world(spec("a", timeout=10.0))
    host.plan_of = with_plans({}, FOREVER)
    events = turns(host, manager, 15)
    job = manager.state.job("a")
    assert reasons(events) == ["timeout"]
    assert (job.status.value, job.exit_code, job.failure) == ("stuck", 143, "timeout")


def test_a_job_that_ignores_term_is_killed_after_the_grace() -> None:
    host, manager = world(spec("a", timeout=5.0))
    host.plan_of = with_plans({}, Plan(seconds=1e9, ignores_term=True))
    turns(host, manager, 15)
    assert statuses(manager.state) == {"a": "running"}
    turns(host, manager, 5)
    assert manager.state.job("a").exit_code == 137


def test_a_timeout_waits_for_its_time() -> None:
    host, manager = world(spec("a", timeout=10.0))
    host.plan_of = with_plans({}, Plan(seconds=9.0))
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed"}


@pytest.mark.parametrize(("idle", "status"), [(599.0, "running"), (600.0, "completed")])
def test_a_job_that_idles_beside_its_output_is_ended(idle: float, status: str) -> None:
    host, manager = world(spec("a", expected_output="a.pt"))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 2)
    host.idle["a"] = idle
    events = turns(host, manager, 1)
    assert reasons(events) == (["stale"] if status == "completed" else [])
    files = host.attempts["a", 1]
    files.wrote_output = True
    assert files.proc == (status == "running")


def test_what_only_serves_is_ended_before_the_verdict() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(1.0, leaves=2, leaves_serving=True)}, ONCE)
    events = turns(host, manager, 10)
    assert reasons(events) == ["leftovers"]
    assert (statuses(manager.state)["a"], host.faults) == ("completed", [])
    warning = "ended 2 processes that it left running (python train.py, python train.py)"
    assert manager.state.job("a").warning == warning


def test_what_may_yet_go_on_is_waited_for_as_long_as_for_a_stale_screen() -> None:
    host, manager = world(spec("a"), spec("b", depends_on=("a",)), stale_after=60.0)
    host.plan_of = with_plans({"a": Plan(1.0, leaves=1)}, ONCE)
    turns(host, manager, 55)
    assert statuses(manager.state) == {"a": "running", "b": "pending"}
    assert (manager.state.job("a").warning or "").endswith("waits for 1 process that it left running (python train.py)")
    run_to_end(host, manager)
    warning = "ended 1 process that it left running (python train.py), idle for 60 s"
    assert (manager.state.job("a").warning, statuses(manager.state)) == (warning, {"a": "completed", "b": "completed"})


@pytest.mark.parametrize("restart", [False, True])
def test_what_works_on_without_an_output_to_judge_it_by_is_no_success(restart: bool) -> None:
    host, manager = world(spec("a"), spec("b", depends_on=("a",)))
    host.plan_of = with_plans({}, Plan(1.0, leaves=1, leaves_busy=True))
    turns(host, manager, 100)
    assert statuses(manager.state) == {"a": "running", "b": "pending"}
    manager = again(host, manager) if restart else manager
    host.attempts["a", 1].leftovers = 0
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (statuses(manager.state), job.failure) == ({"a": "stuck", "b": "blocked"}, "leftovers")
    assert "exit code 0 while 1 process that it left running (python train.py) still used CPU" in (job.error or "")
    assert reasons([ev.decode(line).event for line in host.journal]) == []


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(("output", "status"), [(True, "completed"), (False, "stuck")])
def test_what_works_on_is_waited_for_and_the_output_decides(restart: bool, output: bool, status: str) -> None:
    host, manager = world(spec("a", expected_output="a.pt"), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(1.0, output=output, leaves=1, leaves_busy=True)}, ONCE)
    turns(host, manager, 100)
    assert statuses(manager.state) == {"a": "running", "b": "pending"}, "the GPU is still in use"
    assert "waits for 1 process" in (manager.state.job("a").warning or "")
    if restart:
        manager = again(host, manager)
        turns(host, manager, 20)
        assert statuses(manager.state)["a"] == "running"
    host.attempts["a", 1].leftovers = 0
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert statuses(manager.state) == {"a": status, "b": "completed"}
    assert "waited for 1 process that it left running (python train.py)" in (job.warning or job.error or "")
    assert reasons([ev.decode(line).event for line in host.journal]) == []


def test_what_works_on_has_the_jobs_timeout_and_its_output_is_no_result_then() -> None:
    host, manager = world(spec("a", expected_output="a.pt", timeout=60.0))
    host.plan_of = with_plans({}, Plan(1.0, leaves=1, leaves_busy=True))
    events = turns(host, manager, 120)
    job = manager.state.job("a")
    assert (reasons(events), job.status.value, job.failure) == (["timeout"], "stuck", "timeout")


def test_a_failed_command_ends_what_it_left_and_says_so() -> None:
    host, manager = world(spec("a", expected_output="a.pt"))
    host.plan_of = with_plans({}, Plan(1.0, 1, output=False, leaves=1, leaves_busy=True))
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.failure, (job.error or "").partition("; ")[2]) == (
        "exit_code", "ended 1 process that it left running (python train.py)",
    )  # fmt: skip


def test_the_grace_is_the_jobs_or_the_manifests() -> None:
    host, manager = world(spec("a", timeout=5.0, grace=60.0), spec("b", timeout=5.0), grace=20.0)
    host.plan_of = with_plans({}, Plan(seconds=1e9, ignores_term=True))
    turns(host, manager, 22)
    assert statuses(manager.state) == {"a": "running", "b": "running"}
    turns(host, manager, 10)
    assert statuses(manager.state) == {"a": "running", "b": "stuck"}
    error = manager.state.job("b").error
    assert error == "stopped by its timeout after 5 s; had 20 s to save, then it was killed"
    turns(host, manager, 40)
    assert statuses(manager.state)["a"] == "stuck"


def test_leftovers_that_ignore_term_are_killed_and_the_card_waits_for_that() -> None:
    host, manager = world(spec("a"), spec("b"), host=FakeHost(1))
    host.plan_of = with_plans({"a": Plan(1.0, leaves=1, leaves_serving=True, ignores_term=True)}, ONCE)
    turns(host, manager, 10)
    assert statuses(manager.state) == {"a": "running", "b": "pending"}
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "b": "completed"}


def test_a_screen_that_outlives_its_job_is_closed() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, Plan(1.0, session_stays=True))
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed"}
    assert not host.attempts["a", 1].session


def test_a_job_whose_screen_was_closed_is_ended() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 2)
    host.attempts["a", 1].session = False
    assert reasons(turns(host, manager, 1)) == []
    assert reasons(turns(host, manager, 3)) == ["closed"]
    run_to_end(host, manager)
    assert (manager.state.job("a").error or "").startswith("its session was closed")


def test_a_wrapper_that_is_killed_takes_its_job_with_it() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 2)
    host.kill_wrapper(host.attempts["a", 1])
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.failure) == ("stuck", "killed")


# -- launches ---------------------------------------------------------------------------------------------------------


def test_a_screen_that_cannot_start_is_reported_and_tried_again_ever_later() -> None:
    host, manager = world(spec("a"))
    host.launching = "error"
    times = []
    for _ in range(200):
        if started([record.event for record in manager.turn()[1].records]):
            times.append(host.now)
        host.advance(0.5)
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert gaps[:4] == sorted(gaps[:4])
    assert gaps[3] >= 8.0
    assert manager.state.machine.conditions["screen"][0] == "screen cannot start: Cannot make directory"
    assert (manager.state.job("a").attempts, manager.state.job("a").status.value) in [(0, "pending"), (1, "running")]


def test_once_screen_starts_again_the_queue_goes_on_by_itself() -> None:
    host, manager = world(*[spec(f"j{i}") for i in range(5)])
    host.launching = "error"
    turns(host, manager, 30)
    host.launching = "ok"
    run_to_end(host, manager)
    assert set(statuses(manager.state).values()) == {"completed"}
    assert not manager.state.machine.conditions


def test_while_screen_fails_one_job_at_a_time_tries_it() -> None:
    host, manager = world(*[spec(f"j{i}", gpus=0) for i in range(4)])
    host.launching = "error"
    assert len(started(turns(host, manager, 1))) == 4
    for _ in range(60):
        assert len(started(turns(host, manager, 1))) <= 1


def test_a_launch_that_never_comes_up_is_taken_back_and_costs_nothing() -> None:
    host, manager = world(spec("a"))
    host.launching = "lost"
    turns(host, manager, int(LAUNCH_GRACE))
    assert statuses(manager.state) == {"a": "running"}
    host.launching = "ok"
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts, host.starts) == ("completed", 2, 1, [("a", 2)])


@pytest.mark.parametrize("how", ["late", "slow"])
def test_a_wrapper_that_comes_too_late_finds_its_attempt_taken(how: str) -> None:
    host, manager = world(spec("a"))
    host.launching, host.lateness = how, LAUNCH_GRACE + 5.0
    turns(host, manager, 10)
    host.launching = "ok"
    host.plan_of = with_plans({}, Plan(60.0))
    turns(host, manager, 40)
    run_to_end(host, manager)
    assert host.starts == [("a", 2)]


def test_a_wrapper_that_comes_late_and_in_time_runs() -> None:
    host, manager = world(spec("a"))
    host.launching, host.lateness = "late", LAUNCH_GRACE - 5.0
    run_to_end(host, manager)
    assert host.starts == [("a", 1)]


def test_a_job_is_born_with_its_own_process_or_after_a_while_without() -> None:
    host, manager = world(spec("a"))
    turns(host, manager, 1)
    attempt = manager.state.live[0]
    claim = b.Claim(ev.Proc(5, 1), ev.Proc(6, 1), 0)
    seen = b.Seen(host.boot, 4, {0: b.Evidence(claim, True, True)})
    assert tick(manager.state, seen, host.now).records == []
    tick(manager.state, seen, attempt.starting + BIRTH_GRACE)
    assert (attempt.wrapper, manager.state.job("a").pid) == (ev.Proc(5, 1), 5)


# -- managers come and go ---------------------------------------------------------------------------------------------


def test_a_turn_that_was_not_journaled_has_not_happened() -> None:
    host, manager = world(spec("a"))
    manager.turn(crash=BEFORE_JOURNAL)
    assert host.attempts == {}
    manager = again(host, manager)
    run_to_end(host, manager)
    assert host.starts == [("a", 1)]


def test_a_launch_that_was_journaled_and_not_done_is_taken_back_and_costs_nothing() -> None:
    host, manager = world(spec("a"), spec("b"))
    manager.turn(crash=1)
    manager = again(host, manager)
    run_to_end(host, manager)
    assert sorted(host.starts) == [("a", 1), ("b", 2)]
    assert manager.state.job("b").attempts == 1


def test_a_running_job_is_adopted_and_its_end_taken_in() -> None:
    host, manager = world(spec("a"))
    turns(host, manager, 2)
    manager = again(host, manager)
    run_to_end(host, manager)
    assert (host.starts, manager.state.job("a").n) == ([("a", 1)], 1)


def test_a_job_that_ended_while_no_manager_lived_is_taken_in() -> None:
    host, manager = world(spec("a"), spec("b"))
    host.plan_of = with_plans({"b": Plan(10.0, 4)})
    turns(host, manager, 2)
    host.advance(100.0)
    manager = again(host, manager)
    manager.turn()
    assert statuses(manager.state) == {"a": "completed", "b": "stuck"}
    assert manager.state.job("b").exit_code == 4


def test_jobs_cut_off_by_the_hosts_end_cost_none_of_their_attempts() -> None:
    host, manager = world(spec("a"), spec("cpu", gpus=0))
    host.plan_of = with_plans({}, Plan(30.0))
    turns(host, manager, 3)
    host.reboot()
    manager = again(host, manager)
    manager.turn()
    assert [manager.state.job(job).attempts for job in ("a", "cpu")] == [1, 1]
    run_to_end(host, manager)
    assert statuses(manager.state) == {"a": "completed", "cpu": "completed"}
    assert [manager.state.job(job).n for job in ("a", "cpu")] == [2, 2]


@pytest.mark.parametrize(("code", "status", "attempts"), [(143, "running", 1), (129, "running", 1), (1, "stuck", 1)])
def test_an_end_by_the_hosts_own_shutdown_costs_no_attempt(code: int, status: str, attempts: int) -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 3)
    host.finish(host.attempts["a", 1], code)
    host.reboot()
    manager = again(host, manager)
    turns(host, manager, 2)
    job = manager.state.job("a")
    assert (job.status.value, job.attempts) == (status, attempts)


def test_an_end_by_sigterm_while_the_host_lives_is_a_failure() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({}, FOREVER)
    turns(host, manager, 3)
    host.finish(host.attempts["a", 1], 143)
    manager = again(host, manager)
    manager.turn()
    assert statuses(manager.state) == {"a": "stuck"}


def test_a_job_that_had_ended_before_the_host_went_down_does_not_run_again() -> None:
    host, manager = world(spec("a"))
    turns(host, manager, 2)
    host.advance(20.0)
    host.reboot()
    manager = again(host, manager)
    run_to_end(host, manager)
    assert host.starts == [("a", 1)]


def test_jobs_killed_together_with_their_manager_cost_none_of_their_attempts() -> None:
    host, manager = world(spec("a"))
    host.plan_of = with_plans({"a": [Plan(5.0, wrapper_dies=True, output=False), ONCE]})
    turns(host, manager, 2)
    host.advance(10.0)
    manager = again(host, manager)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, job.attempts) == ("completed", 2, 1)


def test_a_timeout_counts_though_its_manager_did_not_see_the_end() -> None:
    host, manager = world(spec("a", timeout=5.0))
    host.plan_of = with_plans({}, Plan(seconds=1e9, ignores_term=True))
    turns(host, manager, 8)
    assert manager.state.live[0].stop_reason == "timeout"
    host.kill_wrapper(host.attempts["a", 1])
    host.finish(host.attempts["a", 1], 137)
    manager = again(host, manager)
    manager.turn()
    assert manager.state.job("a").failure == "timeout"


# -- what cannot be read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["claims", "processes", "sessions"])
def test_nothing_ends_while_it_cannot_be_read(what: str) -> None:
    host, manager = world(spec("a", retries=1))
    setattr(host, what, "it does not answer")
    host.plan_of = with_plans({"a": Plan(1.0, 5, session_stays=True)}, ONCE)
    events = turns(host, manager, 60)
    assert not [event for event in events if isinstance(event, ev.AttemptEnded)]
    setattr(host, what, None)
    until(host, manager, "a", "failed_other")


def test_an_inherited_launch_is_not_taken_back_while_screens_cannot_be_listed() -> None:
    host, manager = world(spec("a"))
    host.launching, host.lateness = "late", 20.0
    manager.turn()
    host.sessions = "screen -ls fails"
    manager = again(host, manager)
    turns(host, manager, 25)
    assert host.starts == [("a", 1)]


def test_unreadable_nvml_places_nothing_fails_nothing_and_is_reported() -> None:
    host, manager = world(spec("a"), spec("b"), spec("cpu", gpus=0), max_parallel=2)
    host.plan_of = with_plans({}, Plan(3.0))
    host.nvml = "driver mismatch"
    events = turns(host, manager, 10)
    assert started(events) == ["cpu"]
    assert statuses(manager.state) == {"a": "pending", "b": "pending", "cpu": "completed"}
    begun = [event for event in events if isinstance(event, ev.ConditionBegan)]
    assert [(one.kind, one.text) for one in begun] == [("nvml", "NVML cannot be read: driver mismatch")]
    host.nvml = None
    events = turns(host, manager, 1)
    assert ev.ConditionEnded("nvml") in events
    run_to_end(host, manager)


def test_a_sick_card_is_not_called_well_because_nvml_fails() -> None:
    host, manager = world(spec("a", gpus=2))
    host.cards[0].sick = "GPU is lost"
    turns(host, manager, 1)
    host.nvml = "driver mismatch"
    turns(host, manager, 2)
    assert set(manager.state.machine.conditions) == {"nvml", "card:GPU-0"}
    host.nvml = host.cards[0].sick = None
    run_to_end(host, manager)
    assert not manager.state.machine.conditions


def test_what_was_not_looked_at_begins_and_ends_no_condition() -> None:
    host, manager = world(spec("a"))
    host.nvml = "driver mismatch"
    manager.turn()
    host.nvml = None
    manager.turn(cards=False)
    assert list(manager.state.machine.conditions) == ["nvml"]


def test_a_full_disk_lets_nothing_start_and_what_runs_goes_on() -> None:
    host, manager = world(spec("a"), spec("b"), max_parallel=1)
    turns(host, manager, 2)
    host.disk = "the disk is full: no room"
    events = turns(host, manager, 15)
    assert statuses(manager.state) == {"a": "completed", "b": "pending"}
    assert ev.ConditionBegan("disk", "the disk is full: no room") in events
    host.disk = None
    run_to_end(host, manager)
    assert not manager.state.machine.conditions


# -- timers -----------------------------------------------------------------------------------------------------------


def test_the_next_timer_is_the_earliest_timeout_retry_or_launch() -> None:
    host, manager = world(spec("a", timeout=50.0), spec("b", timeout=70.0))
    assert next_timer(manager.state) is None
    host.plan_of = with_plans({"b": Plan(1.0, 1, log=OOM)}, FOREVER)
    until(host, manager, "b", "failed_oom")
    began = manager.state.live[0].started or 0.0
    assert next_timer(manager.state) == began + 50.0
    until(host, manager, "a", "stuck")
    assert next_timer(manager.state) == manager.state.job("b").due


def test_a_timer_that_had_its_turn_wakes_nobody_again() -> None:
    host, manager = world(spec("a"))
    host.launching = "error"
    turns(host, manager, 3, seconds=0.1)
    assert manager.state.machine.launch_failures == 1
    host.nvml = "driver mismatch"
    host.advance(10.0)
    manager.turn()
    assert next_timer(manager.state, after=host.now) is None
