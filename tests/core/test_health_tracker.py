"""What is told of a running attempt, look by look, from the lines of its log and the use of its GPUs."""

from __future__ import annotations

import math
from typing import Any

import pytest

from queue_manager.core.boundary import HealthReading
from queue_manager.core.health_policy import policy
from queue_manager.core.health_rules import flags
from queue_manager.core.health_tracker import HealthTracker
from queue_manager.core.partial import Counts

BEGAN = 1_000_000.0


class Watched:
    """A tracker with a clock."""

    def __init__(self, health: Any = None, metrics: Any = None) -> None:
        self.now = BEGAN
        self.tracker = HealthTracker(policy(health, metrics), metrics, BEGAN)

    def look(
        self, *lines: str, after: float = 10.0, cpu: float | None = 1.0, util: float | None = None
    ) -> HealthReading:
        self.now += after
        self.tracker.take(lines, self.now)
        return self.tracker.look(self.now, bool(lines), cpu, util, None)


def steps(watched: Watched, *counts: int, total: int = 10_000, **given: Any) -> HealthReading:
    """Looks, each after one more step was told of."""
    found = [watched.look(f"step {count}/{total} loss 0.5", **given) for count in counts]
    return found[-1]


def test_step_total_loss_and_the_time_that_is_left() -> None:
    found = steps(Watched(), 0, 100, 200, 300, 400)
    assert (found.step, found.total, found.loss, found.line) == (400, 10_000, 0.5, "step 400/10000 loss 0.5")
    assert found.rate == pytest.approx(10.0)
    assert found.eta_s == pytest.approx(960.0)
    assert (found.interval, found.still, found.quiet) == (10.0, 0.0, 0.0)


def test_the_rate_that_a_log_tells_is_taken_before_the_one_that_is_measured() -> None:
    assert Watched().look("step 5/10 loss 0.5 | 12.5 it/s").rate == 12.5


def test_nothing_is_known_before_the_log_says_it() -> None:
    found = Watched().look()
    assert (found.step, found.total, found.rate, found.eta_s, found.loss, found.pace) == (None,) * 6
    assert found.busy


def test_time_without_a_step_is_counted_and_so_is_time_without_any_sign_of_life() -> None:
    watched = Watched()
    steps(watched, 1, 2)
    assert watched.look(after=100.0).still == 100.0
    found = watched.look("nothing new", after=100.0, cpu=0.0)
    assert (found.still, found.quiet) == (200.0, 0.0)
    found = watched.look(after=50.0, cpu=0.0)
    assert (found.still, found.quiet) == (250.0, 50.0)
    assert watched.look(after=50.0, cpu=None).quiet == 100.0


def test_an_evaluation_is_part_of_neither_the_pace_nor_the_training() -> None:
    watched = Watched()
    steps(watched, *range(0, 1100, 100))
    assert watched.look("Evaluating:  40%|████      | 40/100 [00:01<00:02, 30.0it/s]", after=600.0).busy
    found = steps(watched, 1200, 1300)
    assert not found.busy
    assert found.pace == pytest.approx(10.0)


def test_a_job_whose_steps_are_done_is_busy_with_its_end() -> None:
    assert Watched().look("step 10/10").busy
    assert not Watched().look("step 9/10").busy


def test_a_pace_is_measured_against_the_one_at_the_beginning_but_not_its_very_first_steps() -> None:
    watched, at = Watched(), 0
    steps(watched, 0, 1, 2)
    for _ in range(20):
        at += 100
        found = steps(watched, at)
    assert found.pace == pytest.approx(10.0)
    assert found.warm_pace == pytest.approx(10.0, rel=0.01)
    for _ in range(12):
        at += 20
        found = steps(watched, at)
    assert found.pace == pytest.approx(2.0)
    assert found.warm_pace == pytest.approx(10.0, rel=0.01)


def test_low_utilization_has_to_last_and_one_sample_of_work_ends_it() -> None:
    watched = Watched({"low_util": {"below": 10, "for": 600.0}})
    assert steps(watched, 1, util=3.0).low == 0.0
    assert steps(watched, 2, 3, 4, util=3.0).low == 30.0
    assert steps(watched, 5, util=80.0).low is None
    assert steps(watched, 6, util=9.0).low == 0.0
    assert steps(watched, 7, util=None).low == 10.0


def test_low_utilization_while_a_job_loads_counts_only_if_nothing_moves() -> None:
    watched = Watched({"low_util": {"below": 10, "for": 60.0}})
    for _ in range(20):
        assert watched.look("Loading shards", util=0.0).low is None
    for _ in range(6):
        watched.look(util=0.0, cpu=0.0)
    assert watched.look(util=0.0, cpu=0.0).low is not None


def test_a_job_that_never_tells_a_step_is_not_taken_to_load_forever() -> None:
    watched = Watched({"low_util": {"below": 10, "for": 60.0}})
    for _ in range(17):
        assert watched.look("working", after=100.0, util=0.0).low is None
    watched.look("working", after=200.0, util=0.0)
    assert watched.look("working", after=100.0, util=0.0).low == 100.0


def test_metrics_of_the_log_are_reported_while_it_runs() -> None:
    watched = Watched(metrics={"acc": {"log": "acc=(\\S+)", "take": "max"}, "n": {"json": "n.json", "key": "n"}})
    assert watched.look("acc=0.5").metrics == {"acc": 0.5}
    assert watched.look("acc=0.9", "acc=0.7").metrics == {"acc": 0.9}


def test_values_without_progress_are_counted_for_an_early_stop() -> None:
    rules = {"early_stop": {"metric": "acc", "patience": 3, "min_delta": 0.01}}
    watched = Watched(rules, {"acc": {"log": "acc=(\\S+)", "goal": "max"}})
    assert watched.look().since_best == 0
    assert watched.look("acc=0.50", "acc=0.505").since_best == 1
    assert watched.look("acc=0.3", "acc=nan").since_best == 3
    assert watched.look("acc=0.52").since_best == 0


def test_an_early_stop_by_the_loss_counts_every_line_that_tells_it() -> None:
    watched = Watched({"early_stop": {"metric": "loss", "patience": 3}})
    lines = [f"step {n} loss 0.5" for n in range(100)]
    assert watched.look(*lines).since_best == 99
    assert watched.look("step 100 loss 0.4").since_best == 0


def test_an_early_stop_by_a_file_counts_what_was_written_anew() -> None:
    watched = Watched({"early_stop": {"metric": "n", "patience": 3}}, {"n": {"json": "n.json", "key": "n"}})
    for value in (3.0, 2.0, 2.5):
        watched.tracker.take_value("n", value)
    found = watched.look()
    assert (found.since_best, found.metrics) == (1, {"n": 2.5})


def test_a_traceback_and_an_oom_are_found_with_the_line_that_says_what() -> None:
    found = Watched().look(
        "Traceback (most recent call last):",
        '  File "x.py", line 3, in <module>',
        "    f()",
        "ValueError: no",
        "step 3",
    )
    assert found.found == {"traceback": (BEGAN + 10, "ValueError: no")}
    found = Watched().look("RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB", "halving the batch")
    assert found.found["oom_survived"][1].startswith("RuntimeError: CUDA out of memory")
    found = Watched().look("Traceback (most recent call last):", "  x", "torch.OutOfMemoryError: CUDA out of memory.")
    assert set(found.found) == {"oom_survived"}


@pytest.mark.parametrize("line", ["0 errors", "memory: 30 GiB allocated", "Killed 3 rats", "--oom  what to do on OOM"])
def test_words_that_only_frighten_are_no_trouble(line: str) -> None:
    assert Watched().look(line).found == {}


def test_a_traceback_may_end_in_a_later_look() -> None:
    watched = Watched()
    assert watched.look("Traceback (most recent call last):", "  x").found == {}
    assert watched.look("KeyError: 'lr'").found == {"traceback": (BEGAN + 20, "KeyError: 'lr'")}


def test_a_loss_that_is_no_number_is_reported_as_it_is() -> None:
    watched = Watched()
    assert math.isnan(watched.look("step 3 loss nan").loss or 0.0)
    assert watched.look("step 4 loss 0.3").loss == 0.3


def test_partial_results_are_the_steps_and_their_pace_is_measured() -> None:
    watched = Watched()
    for completed in (10, 20, 30, 40, 50):
        watched.tracker.take_counts(Counts(completed, 100))
        found = watched.look("step 3/9 of this item", after=100.0)
    assert (found.step, found.total) == (50, 100)
    assert found.rate == pytest.approx(0.1)
    assert found.eta_s == pytest.approx(500.0)


def test_items_that_are_saved_now_and_then_are_no_stall_while_the_job_moves() -> None:
    watched = Watched()
    watched.tracker.take_counts(Counts(10, 100))
    watched.look()
    assert flags(policy(None), watched.look(after=3000.0, cpu=1.0), []) == {}
    assert "stalled" in flags(policy(None), watched.look(after=3000.0, cpu=0.0), [])


def test_a_policy_that_says_how_its_log_counts_is_believed() -> None:
    watched = Watched({"progress": r"at (\d+) of (\d+)"})
    watched.tracker.take_counts(Counts(10, 100))
    found = watched.look("at 3 of 9")
    assert (found.step, found.total) == (3, 9)
