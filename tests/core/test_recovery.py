"""The ladder of `recover`: one rung up for each failure of a class, bounded, and back down after sustained health."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.core import boundary as b
from queue_manager.core import cadence, recovery, salvage
from queue_manager.core import events as ev
from queue_manager.core.events import Record
from queue_manager.core.manifest import ManifestError, OomRetry, decode, encode
from queue_manager.core.model import InvalidTransition, Job
from queue_manager.core.rebuild import Head, rebuild
from queue_manager.core.recover_policy import IN_ALL, PER_RUNG, Rung, to_json, words
from queue_manager.core.snapshot import Situation, job_row
from queue_manager.core.summary import summary
from tests.core.states import dump, manifest, run_to_end, spec, until, world
from tests.fakes import FakeHost, FakeManager, Plan, replay, with_plans
from tests.skill.story import Story

RERUN, OTHER = Rung("rerun"), Rung("other_host")
PIP = Rung("run", "pip install x", 60.0)
HALF = Rung("args", "train --bs 16", arg="bs", value="16", was="32")
QUARTER = Rung("args", "train --bs 8", arg="bs", value="8", was="16")
CRASH, OOM = Plan(1.0, 1, output=False), Plan(1.0, 1, output=False, log=b"CUDA out of memory. Tried to allocate\n")
KILLED, WELL = Plan(1.0, 137, output=False), Plan(1.0)
NAN = b.HealthReading(0.0, 3, 9, float("nan"), busy=False, line="step 3/9 loss nan")


def climbing(rungs: list[Rung], *plans: Plan, **fields: Any) -> tuple[FakeHost, FakeManager]:
    """A run of one job whose attempts do what the plans say, the last one again and again."""
    oom = fields.pop("oom_retry", OomRetry(4.0, 1))
    host, manager = world(spec("a", recover=to_json(tuple(rungs)), **fields), oom_retry=oom)
    host.plan_of = with_plans({"a": list(plans)})
    return host, manager


def ended(rungs: list[Rung], *plans: Plan, **fields: Any) -> Job:
    host, manager = climbing(rungs, *plans, **fields)
    run_to_end(host, manager)
    assert dump(manager.state) == dump(replay(manager.manifest, host.journal))
    return manager.state.job("a")


def taken(job: Job) -> list[tuple[str, int]]:
    return [(one.failure, one.rung) for one in job.recovery.steps]


@pytest.mark.parametrize(
    ("plans", "steps", "status", "outcome"),
    [
        ([WELL], [], "completed", None),
        ([CRASH, WELL], [("exit_code", 0)], "completed", "recovered"),
        ([KILLED, WELL], [("killed", 0)], "completed", "recovered"),
        ([CRASH, CRASH, WELL], [("exit_code", 0), ("exit_code", 1)], "completed", "recovered"),
        ([CRASH, OOM, CRASH, WELL], [("exit_code", 0), ("oom", 0), ("exit_code", 1)], "completed", "recovered"),
        ([CRASH], [("exit_code", 0), ("exit_code", 1), ("exit_code", 2)], "stuck", None),
    ],
)
def test_each_failure_of_a_class_goes_one_rung_up(
    plans: list[Plan], steps: list[tuple[str, int]], status: str, outcome: str | None
) -> None:
    job = ended([RERUN, PIP, HALF], *plans)
    assert (taken(job), job.status.value, job.outcome) == (steps, status, outcome)


def test_nothing_is_tried_that_the_spec_does_not_ask_for() -> None:
    job = ended([], CRASH)
    assert (job.status.value, job.n, job.recovery.steps) == ("stuck", 1, ())


def test_what_oom_retry_and_retries_allow_comes_first() -> None:
    job = ended([HALF], OOM, OOM, OOM, WELL, oom_retry=OomRetry(4.0, 3))
    assert (taken(job), job.n, job.outcome) == ([("oom", 0)], 4, "recovered")
    job = ended([HALF], CRASH, CRASH, WELL, retries=1)
    assert (taken(job), job.n) == ([("exit_code", 0)], 3)
    assert ended([HALF], CRASH, WELL, retries=1).outcome is None


def test_settings_stay_changed_and_are_told() -> None:
    host, manager = climbing([HALF, RERUN, QUARTER], CRASH, CRASH, CRASH, WELL)
    commands = []
    for n in range(1, 5):
        job = until(host, manager, "a", "running")
        assert job.n == n
        commands.append(recovery.spec_of(job).cmd)
        until(host, manager, "a", "failed_other" if n < 4 else "completed")
    assert commands == ["run a", "train --bs 16", "train --bs 16", "train --bs 8"]
    assert job.warning == "recovered with bs 8 instead of 32"
    row = job_row(manager.state, job, Situation(None, {}, "running", "/w", 5.0, None, "{}.log".format))["recovery"]
    assert (row["command"], row["changed"], len(row["steps"])) == ("train --bs 8", "bs 8 instead of 32", 3)
    assert [one["effect"] for one in row["steps"]] == [
        "attempt 2 failed: exit_code", "attempt 3 failed: exit_code", "attempt 4 completed",
    ]  # fmt: skip


def test_the_command_of_a_rung_runs_before_the_next_attempt_alone() -> None:
    host, manager = climbing([PIP, RERUN], CRASH, CRASH, WELL)
    runs = []
    for n in range(1, 4):
        runs.append(recovery.prelude(until(host, manager, "a", "running")))
        until(host, manager, "a", "failed_other" if n < 3 else "completed")
    assert runs == [None, PIP, None]


@pytest.mark.parametrize(("code", "ends_as"), [(0, "succeeded"), (1, "failed with exit code 1"), (124, "in time")])
def test_the_end_of_a_rungs_command_is_told(code: int, ends_as: str) -> None:
    host, manager = climbing([PIP], CRASH, CRASH)
    host.recovered["a", 2] = code
    run_to_end(host, manager)
    step = manager.state.job("a").recovery.steps[0]
    assert ends_as in step.command
    assert step.effect == "attempt 2 failed: exit_code"


def test_the_end_of_the_ladder_names_the_root_cause_and_what_was_tried() -> None:
    host, manager = climbing([RERUN, HALF], OOM)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.error or "").startswith("recover could not help (tried rerun, bs 16 instead of 32): out of GPU memory")
    assert (job.error or "").endswith("CUDA out of memory. Tried to allocate")
    text = summary(manager.state, "/logs", host.now)
    assert "recover could not help" in text
    assert "it needs more memory than its GPU had left" in text


def test_another_host_is_asked_for_and_the_job_waits_for_it() -> None:
    host, manager = climbing([RERUN, OTHER, HALF], CRASH)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.n, taken(job)) == ("stuck", 2, [("exit_code", 0), ("exit_code", 1)])
    assert (job.error or "").startswith("recover: it is to run on another host: exit code 1")
    assert recovery.row(job)["recovery"]["wants_host"] is True


@pytest.mark.parametrize(
    ("failures", "steps"), [(2 * IN_ALL, PER_RUNG), (PER_RUNG - 1, PER_RUNG - 1)], ids=["bounded", "within"]
)
def test_a_rung_is_taken_so_often_and_no_more_though_health_resets_the_ladder(failures: int, steps: int) -> None:
    slow = Plan(6000.0, 1, output=False)
    host, manager = climbing([RERUN], *[slow] * failures, Plan(6000.0))
    host.health["a"] = b.HealthReading(0.0, 3, 9, 0.5, busy=False)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert taken(job) == [("exit_code", 0)] * steps
    assert job.status.value == ("stuck" if failures > PER_RUNG else "completed")
    assert failures > PER_RUNG or not job.recovery.levels


def test_all_rungs_together_are_taken_so_often() -> None:
    rungs = [Rung("args", f"train {n}", arg="n", value=str(n)) for n in range(IN_ALL)]
    job = ended(rungs, *[CRASH, OOM, KILLED] * IN_ALL)
    assert len(job.recovery.steps) == IN_ALL
    assert job.status.value == "stuck"


def test_sustained_health_is_healthy_twice_at_the_checks() -> None:
    checks = cadence.launched(0.0)
    while checks.stage != "cruise":
        at, checks = checks.due, cadence.checked(checks, checks.due, True)
    assert cadence.sustained(0.0, None) == at
    assert cadence.sustained(0.0, 60.0) == at
    assert cadence.sustained(0.0, at) == at + 2 * cadence.STABILISE


@pytest.mark.parametrize(("then", "steps"), [("recover", [("nan", 0)]), ("stop", []), ("alert", [])])
def test_an_unhealthy_job_is_ended_and_taken_up_the_ladder(then: str, steps: list[tuple[str, int]]) -> None:
    host, manager = climbing([RERUN], Plan(60.0), health={"then": then})
    until(host, manager, "a", "running")
    host.health["a"] = NAN
    for _ in range(60):
        manager.turn()
        host.advance(0.5)
        host.health.pop("a", None) if manager.state.job("a").attempt is None else None
    job = manager.state.job("a")
    assert taken(job) == steps
    assert then != "recover" or "step 3/9 loss nan" in job.recovery.steps[0].cause


def test_an_early_stop_is_no_failure() -> None:
    stop = {"early_stop": {"metric": "loss", "patience": 2}, "then": "recover"}
    host, manager = climbing([RERUN], Plan(60.0), health=stop)
    until(host, manager, "a", "running")
    host.health["a"] = b.HealthReading(0.0, 3, 9, 0.5, busy=False, since_best=2)
    run_to_end(host, manager)
    job = manager.state.job("a")
    assert (job.status.value, job.outcome, job.recovery.steps) == ("completed", "stopped_early", ())


def test_a_manager_killed_between_the_step_and_the_end_of_the_attempt_takes_no_second_step() -> None:
    host, manager = climbing([RERUN, HALF], CRASH, WELL)
    until(host, manager, "a", "running")
    while '"RecoveryChosen"' not in "".join(host.journal):
        host.advance(0.5)
        manager.turn()
    at = next(n for n, line in enumerate(host.journal) if '"RecoveryChosen"' in line)
    assert '"AttemptEnded"' in host.journal[at + 1]
    del host.journal[at + 1 :]
    again = FakeManager(host, manager.manifest)
    run_to_end(host, again)
    job = again.state.job("a")
    assert (taken(job), job.outcome, job.n) == ([("exit_code", 0)], "recovered", 2)
    assert host.faults == []


def test_a_manager_killed_before_the_step_takes_it_when_it_is_back() -> None:
    host, manager = climbing([RERUN], CRASH, WELL)
    until(host, manager, "a", "running")
    while manager.state.job("a").attempt is not None:
        host.advance(0.5)
        before = list(host.journal)
        manager.turn()
    host.journal[:] = before
    again = FakeManager(host, manager.manifest)
    run_to_end(host, again)
    assert taken(again.state.job("a")) == [("exit_code", 0)]


def test_a_journal_cannot_skip_a_rung() -> None:
    host, manager = climbing([RERUN, HALF], Plan(60.0))
    until(host, manager, "a", "running")
    event = ev.RecoveryChosen("a", 1, "oom", 1, "bs 16")
    with pytest.raises(InvalidTransition, match="rung 1 cannot follow for oom: that is 0"):
        manager.state.apply(Record(manager.state.seq + 1, host.now, event))


def test_a_person_who_retries_begins_anew() -> None:
    host, manager = climbing([HALF], CRASH, CRASH, WELL)
    run_to_end(host, manager)
    manager.state.apply(Record(manager.state.seq + 1, host.now, ev.JobRetried("a")))
    job = manager.state.job("a")
    assert (job.recovery.steps, recovery.spec_of(job).cmd) == ((), "run a")


def test_a_ladder_survives_its_manifest() -> None:
    made = manifest(spec("a", recover=to_json((RERUN, PIP, HALF, OTHER))))
    assert decode(encode(made)) == made
    assert [words(one) for one in (RERUN, PIP, HALF, OTHER)] == [
        "rerun", "run: pip install x", "bs 16 instead of 32", "another host",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "recover",
    [
        "rerun",
        ["rerun"],
        [{"kind": "pray"}],
        [{"kind": "run"}],
        [{"kind": "args", "command": "x"}],
        [{"kind": "run", "command": "x", "timeout": 0}],
        [{"kind": "rerun", "twice": True}],
        [{"kind": "rerun"}] * (IN_ALL + 1),
    ],
)
def test_a_manifest_with_another_ladder_is_refused(recover: object) -> None:
    with pytest.raises(ManifestError, match="recover"):
        decode(encode(manifest(spec("a", recover=recover))))


def test_a_journal_that_was_lost_is_put_together_with_the_steps_that_the_snapshot_knows() -> None:
    host, manager = climbing([PIP, HALF], CRASH, OOM, CRASH, Plan(60.0))
    job = until(host, manager, "a", "running")
    while job.n < 4:
        manager.turn()
        host.advance(0.5)
    story = Story(manager.manifest)
    story.state = manager.state
    rows = salvage.read_rows(story.document())
    head = Head("run-1", "0" * 64, "boot", paused=False, cards={0: "GPU-0", 1: "GPU-1"})
    found = rebuild(manager.manifest, [], rows, head, {}, host.now).state.job("a")
    assert taken(found) == taken(job) == [("exit_code", 0), ("oom", 0), ("exit_code", 1)]
    assert found.recovery.levels == job.recovery.levels
    assert recovery.spec_of(found).cmd == "train --bs 16"
