"""What is flagged of a running job, and what follows on it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from queue_manager.core import alerts, health_rules
from queue_manager.core import events as ev
from queue_manager.core.boundary import HealthReading
from queue_manager.core.health_policy import FLAGS, Policy, is_policy, policy
from queue_manager.core.model import Job
from tests.core.states import FOREVER, spec, turns, until, world
from tests.fakes import FakeHost, FakeManager, Plan, replay, with_plans

MINUTE = 60.0


def kinds(seen: HealthReading, rules: Policy | None = None, *, siblings: list[float] | None = None) -> set[str]:
    return set(health_rules.flags(rules or Policy(), seen, siblings or []))


def reading(**values: Any) -> HealthReading:
    """A job that trains, at step 700, and does well but for `values`."""
    return HealthReading(**{"at": 1e6, "step": 700, "total": 1000, "loss": 0.5, "busy": False, **values})


# -- flags ------------------------------------------------------------------------------------------------------------


def test_a_job_that_does_well_has_no_flag() -> None:
    assert kinds(reading(still=299.0, interval=10.0)) == set()


def test_without_words_about_it_a_job_is_stalled_after_three_of_its_intervals_and_not_before_five_minutes() -> None:
    assert kinds(reading(still=301.0, interval=10.0)) == {"stalled"}
    assert kinds(reading(still=1700.0, interval=600.0)) == set()
    assert kinds(reading(still=1801.0, interval=600.0)) == {"stalled"}


def test_a_job_stalls_by_its_spec() -> None:
    rules = policy({"stall": 900.0})
    assert kinds(reading(still=899.0, interval=10.0), rules) == set()
    assert kinds(reading(still=900.0, interval=10.0), rules) == {"stalled"}
    assert kinds(reading(still=1e9, quiet=1e9, interval=1.0), policy({"stall": "off"})) == set()


def test_what_evaluates_or_loads_is_not_stalled_as_long_as_its_log_or_its_cpu_moves() -> None:
    assert kinds(reading(still=3000.0, quiet=3.0, interval=10.0, busy=True)) == set()
    assert kinds(reading(still=3000.0, quiet=301.0, interval=10.0, busy=True)) == {"stalled"}


def test_a_job_that_spins_without_a_step_is_stalled_though_its_cpu_moves() -> None:
    assert kinds(reading(still=3000.0, quiet=0.0, interval=10.0)) == {"stalled"}


def test_a_job_whose_log_tells_no_step_is_stalled_only_if_all_of_it_is_still() -> None:
    silent = reading(step=None, total=None, still=1e6, quiet=1799.0)
    assert kinds(silent) == set()
    assert kinds(reading(step=None, total=None, still=1e6, quiet=1800.0)) == {"stalled"}
    assert kinds(silent, policy({"stall": 900.0})) == {"stalled"}


def test_a_job_that_told_one_step_has_no_pace_to_be_measured_by() -> None:
    assert kinds(reading(still=1799.0, quiet=3.0)) == set()
    assert kinds(reading(still=9000.0, quiet=9000.0)) == {"stalled"}


@pytest.mark.parametrize(("loss", "word"), [(math.nan, "nan"), (math.inf, "infinite"), (-math.inf, "infinite")])
def test_a_loss_that_is_no_number_is_flagged_with_its_line(loss: float, word: str) -> None:
    found = health_rules.flags(Policy(), reading(loss=loss, line="step 700 loss nan"), [])
    assert found == {"nan": (f"the loss is {word} at step 700", "step 700 loss nan")}


def test_low_utilization_counts_once_it_has_lasted() -> None:
    rules = policy({"low_util": {"below": 10, "for": 600.0}})
    assert kinds(reading(util=3.0, low=599.0), rules) == set()
    assert kinds(reading(util=3.0, low=600.0), rules) == {"low_util"}
    assert kinds(reading(util=3.0, low=None), rules) == set()
    assert kinds(reading(util=3.0, low=600.0)) == set()


def test_a_job_is_slow_beside_its_own_beginning_or_its_siblings() -> None:
    rules = policy({"slow": 50})
    assert kinds(reading(pace=4.9, warm_pace=10.0), rules) == {"slow"}
    assert kinds(reading(pace=5.1, warm_pace=10.0), rules) == set()
    assert kinds(reading(pace=4.9), rules, siblings=[9.0, 10.0, 11.0]) == {"slow"}
    assert kinds(reading(pace=4.9), rules, siblings=[10.0]) == set()
    assert kinds(reading(pace=4.9, warm_pace=10.0, busy=True), rules) == set()
    assert kinds(reading(pace=4.9, warm_pace=10.0)) == set()


def test_a_bound_holds_from_its_step_on() -> None:
    rules = policy({"bounds": [{"metric": "val_loss", "above": 10, "after_step": 500}]})
    assert kinds(reading(step=499, metrics={"val_loss": 11.0}), rules) == set()
    assert kinds(reading(step=None, metrics={"val_loss": 11.0}), rules) == set()
    assert kinds(reading(metrics={"val_loss": 10.0}), rules) == set()
    assert kinds(reading(), rules) == set()
    found = health_rules.flags(rules, reading(metrics={"val_loss": 11.0}), [])
    assert found["out_of_bounds"][0] == "val_loss is 11, above 10 at step 700"


def test_the_loss_of_the_log_has_bounds_without_a_rule() -> None:
    rules = policy({"bounds": [{"metric": "loss", "below": 0.6}]})
    assert kinds(reading(loss=0.5), rules) == {"out_of_bounds"}
    assert kinds(reading(loss=0.7), rules) == set()
    assert kinds(reading(loss=0.5, metrics={"loss": 0.7}), rules) == set()


def test_a_traceback_counts_once_the_job_has_outlived_it() -> None:
    seen = {"traceback": (1e6 - 3.0, "ValueError: no"), "oom_survived": (1e6 - 9.0, "CUDA out of memory")}
    assert health_rules.flags(Policy(), reading(found=seen), []) == {
        "oom_survived": ("it ran out of memory, and continues", "CUDA out of memory")
    }
    assert kinds(reading(at=1e6 + 5, found=seen)) == {"traceback", "oom_survived"}


# -- decisions --------------------------------------------------------------------------------------------------------


def running(**health: Any) -> tuple[FakeHost, FakeManager, Job]:
    """A manager with a job that runs forever, with this policy."""
    host, manager = world(spec("a", health=health or None, metrics={"acc": {"log": "acc=(.*)", "goal": "max"}}))
    host.plan_of = with_plans({}, FOREVER)
    job = until(host, manager, "a", "running")
    turns(host, manager, 3)
    return host, manager, job


def test_a_flag_is_journaled_once_and_so_is_its_end() -> None:
    host, manager, job = running()
    host.health["a"] = reading(loss=math.nan, line="loss nan")
    events = turns(host, manager, 3)
    assert events == [ev.HealthFlagged("a", 1, "nan", "the loss is nan at step 700", "loss nan")]
    assert job.attempt is not None
    assert job.attempt.flags["nan"].since == host.now - 3
    host.health["a"] = reading()
    assert turns(host, manager, 3) == [ev.HealthCleared("a", 1, "nan")]
    host.health["a"] = reading(loss=math.nan)
    assert turns(host, manager, 1) == [ev.HealthFlagged("a", 1, "nan", "the loss is nan at step 700", again=True)]


def test_a_manager_that_takes_over_flags_nothing_twice() -> None:
    host, manager, _ = running()
    host.health["a"] = reading(loss=math.nan)
    turns(host, manager, 2)
    later = FakeManager(host, manager.manifest)
    assert not [one for one in turns(host, later, 3) if isinstance(one, ev.HealthFlagged)]
    assert set(later.state.live[0].flags) == {"nan"}
    replayed = replay(manager.manifest, host.journal)
    assert replayed.live[0].flags == later.state.live[0].flags


def test_what_was_not_looked_at_keeps_its_flags() -> None:
    host, manager, job = running()
    host.health["a"] = reading(loss=math.nan)
    turns(host, manager, 1)
    host.health.clear()
    turns(host, manager, 3)
    assert job.attempt is not None
    assert set(job.attempt.flags) == {"nan"}


def test_by_default_an_unhealthy_job_goes_on() -> None:
    host, manager, job = running()
    host.health["a"] = reading(loss=math.nan, still=1e6, interval=1.0)
    turns(host, manager, 30)
    assert job.status.value == "running"


def test_then_stop_ends_it_with_the_cause_and_the_line() -> None:
    host, manager, _ = running(then="stop")
    host.health["a"] = reading(loss=math.nan, line="step 700 loss nan")
    job = until(host, manager, "a", "stuck")
    assert (job.failure, job.outcome) == ("unhealthy", None)
    assert job.error == "stopped because it was unhealthy: nan: the loss is nan at step 700 (step 700 loss nan)"


def test_then_stop_leaves_alone_what_survived_a_traceback() -> None:
    host, manager, job = running(then="stop")
    host.health["a"] = reading(found={"traceback": (0.0, "ValueError: no"), "oom_survived": (0.0, "OOM")})
    turns(host, manager, 10)
    assert job.attempt is not None
    assert set(job.attempt.flags) == {"traceback", "oom_survived"}
    assert job.attempt.stopping is None


def test_early_stop_is_a_success_and_not_tried_again() -> None:
    host, manager, _ = running(early_stop={"metric": "loss", "patience": 3})
    host.health["a"] = reading(since_best=2)
    assert turns(host, manager, 3) == []
    host.health["a"] = reading(since_best=3)
    job = until(host, manager, "a", "completed")
    assert (job.outcome, job.warning, job.attempts) == ("stopped_early", None, 1)
    events = [ev.decode(line).event for line in host.journal]
    assert [event for event in events if isinstance(event, ev.AttemptStopping)] == [
        ev.AttemptStopping("a", 1, "early_stop")
    ]


def test_there_is_no_early_stop_before_min_steps() -> None:
    host, manager, job = running(early_stop={"metric": "loss", "patience": 3}, min_steps=1000)
    for step in (None, 999):
        host.health["a"] = reading(since_best=30, step=step)
        assert turns(host, manager, 3) == []
    host.health["a"] = reading(since_best=31, step=1000)
    until(host, manager, "a", "completed")
    assert job.outcome == "stopped_early"


@pytest.mark.parametrize(
    ("step", "warning"),
    [
        (999, "it ended at step 999, before min_steps 1000"),
        (None, "min_steps is 1000, and its log shows no step"),
        (1000, None),
    ],
)
def test_a_job_that_ends_before_min_steps_is_completed_with_a_warning(step: int | None, warning: str | None) -> None:
    host, manager = world(spec("a", health={"min_steps": 1000}))
    host.plan_of = with_plans({}, Plan(seconds=5.0))
    host.health["a"] = reading(step=step)
    job = until(host, manager, "a", "completed")
    assert (job.warning, job.outcome) == (warning, None)


@pytest.mark.parametrize(
    ("seen", "warning"),
    [
        ({"loss": math.nan, "step": 3}, "nan: the loss is nan at step 3"),
        ({"loss": 50.0}, "out_of_bounds: loss is 50, above 10 at step 700"),
        ({"loss": math.inf, "metrics": {"loss": 11.0}},
         "nan: the loss is infinite at step 700; out_of_bounds: loss is 11, above 10 at step 700"),
        ({"loss": 0.5, "still": 9e9, "quiet": 9e9, "found": {"traceback": (0.0, "ValueError")}}, None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_result_stays_as_a_warning(seen: dict[str, Any], warning: str | None) -> None:
    host, manager = world(spec("a", health={"bounds": [{"metric": "loss", "above": 10}]}))
    host.plan_of = with_plans({}, Plan(seconds=5.0))
    host.health["a"] = reading(**seen)
    job = until(host, manager, "a", "completed")
    assert (job.warning, job.outcome) == (warning, None)


def test_a_flag_that_is_over_is_no_warning_and_one_that_was_seen_last_is() -> None:
    for last, warning in ((0.5, None), (math.nan, "nan: the loss is nan at step 700")):
        host, manager, job = running()
        for loss in (math.nan, 0.5, last):
            host.health["a"] = reading(loss=loss)
            turns(host, manager, 2)
        host.health.clear()
        host.finish(host.running()[0])
        until(host, manager, "a", "completed")
        assert job.warning == warning


def test_a_job_that_fails_before_min_steps_has_just_failed() -> None:
    host, manager = world(spec("a", health={"min_steps": 1000}))
    host.plan_of = with_plans({}, Plan(seconds=5.0, code=3))
    host.health["a"] = reading(step=3)
    assert until(host, manager, "a", "stuck").warning is None


# -- what others read -------------------------------------------------------------------------------------------------


def test_a_flag_is_one_line_of_alerts_with_its_kind_and_its_line() -> None:
    host, manager, _ = running()
    for loss in (math.nan, 0.5, math.nan):
        host.health["a"] = reading(loss=loss, line="loss nan")
        turns(host, manager, 2)
    lines = [line for one in host.journal if (line := alerts.alert(ev.decode(one))) is not None]
    assert [{**json.loads(line), "seq": 0, "at": ""} for line in lines] == [
        {
            "seq": 0, "at": "", "kind": "unhealthy", "job": "a", "text": "nan: the loss is nan at step 700",
            "flag": "nan", "line": "loss nan",
        }
    ]  # fmt: skip


# -- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_is_read_as_its_manifest_has_it() -> None:
    found = policy(
        {
            "progress": r"at (\d+)", "loss": r"l=(\S+)", "stall": 900.0, "low_util": {"below": 10, "for": 600.0},
            "slow": 50, "bounds": [{"metric": "acc", "below": 0.1, "after_step": 5}], "min_steps": 1000,
            "early_stop": {"metric": "acc", "patience": 5, "min_delta": 0.001}, "then": "stop",
        },
        {"acc": {"log": "acc=(.*)", "goal": "max"}},
    )  # fmt: skip
    assert found.early_stop is not None
    assert (found.stall, found.low, found.slow, found.then) == (900.0, (10, 600.0), 50, "stop")
    assert (found.early_stop.goal, found.early_stop.min_delta) == ("max", 0.001)
    assert (found.bounds[0].below, found.bounds[0].above, found.bounds[0].after_step) == (0.1, None, 5)


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_manifest_of_an_earlier_version_has_the_default_policy(value: Any) -> None:
    assert policy(value) == Policy()


@pytest.mark.parametrize(
    "value",
    [
        {"stall": 0}, {"stall": True}, {"stall": "15m"}, {"low_util": {"below": 10}}, {"slow": -1}, {"then": "dance"},
        {"bounds": [{"metric": "a"}]}, {"bounds": [{"above": 1}]}, {"min_steps": 1.5}, {"early_stop": {"metric": "a"}},
        {"early_stop": {"metric": "a", "patience": "many"}}, {"unknown": 1}, {"progress": 3},
    ],
)  # fmt: skip
def test_a_manifest_with_a_policy_that_is_none_is_refused(value: Any) -> None:
    assert not is_policy(value)


def test_the_kinds_of_flags_are_those_that_others_rely_on() -> None:
    assert FLAGS == ("stalled", "nan", "low_util", "slow", "out_of_bounds", "traceback", "oom_survived")
