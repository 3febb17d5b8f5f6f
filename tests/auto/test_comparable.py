"""Which runs a campaign compares: those of one period, on one GPU model."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from skill.auto import events as ev
from skill.auto import overview, policy, tables
from skill.auto.campaign import Campaign, Node
from skill.auto.comparable import model_due
from skill.auto.policy import Submit
from tests.auto.simulated import Limits, Noise, Simulation, config, gauss

L4, A10 = "NVIDIA L4", "NVIDIA A10"


# -- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "now", "asked", "due"),
    [
        (None, "", None, None),
        ({}, "", None, None),
        ({L4: 2, A10: 1}, "", None, (L4, False)),
        ({L4: 1, A10: 2}, "", None, (A10, False)),
        ({L4: 2, A10: 1}, "", "A10", (A10, False)),
        ({L4: 2, A10: 1}, "", ["H100", "A10"], (A10, False)),
        ({L4: 2, A10: 1}, "", "H100", None),
        ({L4: 2, A10: 9}, L4, None, None),
        ({A10: 1}, L4, None, (A10, True)),
        ({A10: 1}, L4, "L4", None),
        ({}, L4, None, None),
    ],
)
def test_jobs_run_on_the_model_that_most_can_run_on_until_it_is_gone(
    seen: dict[str, int] | None, now: str, asked: Any, due: tuple[str, bool] | None
) -> None:
    job = {} if asked is None else {"gpu_model": asked}
    found = model_due(Campaign(config(job=job), 0.0, gpus=seen, gpu=now))
    assert (None if found is None else (found.gpu, found.begins)) == due


def simulation(measure: Callable[[Node, int], float], **changes: Any) -> Simulation:
    """A campaign on two models of GPU; its jobs run on the one that was chosen."""
    given: dict[str, Any] = {"noise": Noise(3, 2), "limits": Limits(max_nodes=4), "per_round": 2, **changes}
    made = Simulation(config(**given), measure)
    made.gpu = lambda _node, _seed: made.campaign.gpu
    made.record(ev.GpusSeen({L4: 2, A10: 1}))
    return made


def lose(made: Simulation, when: Callable[[Campaign], bool]) -> Campaign:
    """Run it to its end; the machines with an L4 are lost once `when` holds."""
    while made.campaign.stopped is None:
        if when(made.campaign) and made.campaign.gpus == {L4: 2, A10: 1}:
            made.record(ev.GpusSeen({A10: 1}, "lost"))
        made.step()
    return made.campaign


def steps(found: Campaign) -> list[tuple[str, int, int]]:
    """How many runs each node had in each period."""
    return [
        (node.id, period, count)
        for node in found.nodes.values()
        for period, count in sorted(Counter(job.period for job in node.jobs.values()).items())
    ]


def better_by(gains: dict[str, float]) -> Callable[[Node, int], float]:
    """No noise to speak of; nodes in `gains` are so much better."""
    return lambda node, seed: gains.get(node.id, 0.0) + 0.001 * (seed % 3)


def test_where_the_model_stays_nothing_is_measured_again() -> None:
    found = simulation(better_by({"n001": 1.0, "n003": 2.0})).run()
    assert (found.gpu, found.period) == (L4, 0)
    assert {job.gpu for job in found.jobs} == {L4}
    assert found.nodes["n003"].verdict == "better"
    assert steps(found)[0] == ("n000", 0, 3)


def test_where_the_model_is_lost_the_baseline_and_the_best_are_measured_again_and_comparisons_go_on() -> None:
    made = simulation(better_by({"n001": 1.0, "n003": 2.0}))
    found = lose(made, lambda campaign: campaign.best is not None and campaign.best.id == "n001")
    assert [(one.gpu, one.begins) for one in made.of(ev.ModelChosen)] == [(L4, False), (A10, True)]
    assert [(one.node, one.holds) for one in made.of(ev.NodeMeasuredAgain)] == [("n000", True), ("n001", True)]
    verdicts = {node.id: (node.verdict, node.against) for node in found.nodes.values()}
    assert verdicts["n003"] == ("better", "n001")
    assert "incomparable" not in {verdict for verdict, _ in verdicts.values()}
    assert {(job.period, job.gpu) for job in found.jobs if job.status == "completed"} == {(0, L4), (1, A10)}
    assert ("n000", 1, 3) in steps(found), "as many runs as the baseline had"
    assert ("n001", 1, 2) in steps(found), "as many as confirm a node"
    assert found.gpu_spent.reserved == 0
    assert [text for _, text in found.alerts] == ["NVIDIA L4 is no longer available, and NVIDIA A10 is"]


def test_a_node_whose_runs_are_lost_is_screened_again_on_the_new_model() -> None:
    made = simulation(better_by({"n001": 1.0}))
    found = lose(made, lambda campaign: "n001" in campaign.nodes and bool(campaign.nodes["n001"].open_jobs))
    lost = [job for job in found.jobs if job.status == "lost"]
    assert {job.period for job in lost} == {0}
    node = found.nodes["n001"]
    assert node.verdict == "better"
    assert [seed for seed, job in node.jobs.items() if job.screens] == [0, 1]
    assert [seed for seed, job in node.jobs.items() if job.period == 1] == [1, 2, 3]


def test_a_best_node_that_is_worse_on_the_new_model_is_best_no_longer() -> None:
    def measure(node: Node, seed: int) -> float:
        gain = {L4: 1.0, A10: -1.0}[made.campaign.gpu] if node.id == "n001" else 0.0
        return gain + 0.001 * (seed % 3)

    made = simulation(measure)
    found = lose(made, lambda campaign: campaign.best is not None and campaign.best.id == "n001")
    again = made.of(ev.NodeMeasuredAgain)
    assert [(one.node, one.holds) for one in again] == [("n000", True), ("n001", False)]
    assert again[1].reason.startswith("here it is worse than n000 by ")
    assert found.best is found.baseline


def test_a_best_node_that_fails_on_the_new_model_is_best_no_longer() -> None:
    def measure(node: Node, seed: int) -> float:
        if node.id == "n001" and made.campaign.gpu == A10:
            raise ValueError("out of memory")
        return (node.id == "n001") + 0.001 * (seed % 3)

    made = simulation(measure)
    found = lose(made, lambda campaign: campaign.best is not None and campaign.best.id == "n001")
    assert found.best is found.baseline
    assert "out of memory" in found.nodes["n001"].reason


def test_a_baseline_that_fails_on_the_new_model_ends_the_campaign() -> None:
    def measure(node: Node, seed: int) -> float:
        if node.id == "n000" and made.campaign.gpu == A10:
            raise ValueError("out of memory")
        return 0.001 * (seed % 3)

    made = simulation(measure)
    found = lose(made, lambda campaign: campaign.best is not None)
    assert found.stopped == "baseline"
    assert found.stopped_text.startswith("the baseline n000, measured again, gives no number: n000_s3: stuck")


def test_measuring_again_keeps_to_the_limits_of_money() -> None:
    limits = Limits(max_nodes=4, max_gpu_usd=5.5)
    made = simulation(better_by({}), gpu_usd_per_hour=60.0, job_minutes=1.0, limits=limits)
    found = lose(made, lambda campaign: campaign.best is not None)
    assert found.stopped == "max_usd"
    assert found.gpu_spent.committed <= 5.5
    assert ("n000", 1, 3) not in steps(found)


def test_an_earlier_campaign_goes_on_with_the_model_of_its_baseline() -> None:
    made = Simulation(config(noise=Noise(3, 2), limits=Limits(max_nodes=2)), better_by({}))
    made.gpu = lambda _node, _seed: A10
    while made.campaign.best is None:
        made.step()
    assert made.campaign.gpu == ""
    made.record(ev.GpusSeen({L4: 2, A10: 1}))
    found = made.run()
    assert made.of(ev.ModelChosen) == [ev.ModelChosen(A10, "the baseline was measured on it")]
    assert found.period == 0


# -- a time budget ----------------------------------------------------------------------------------------------------


def drifting(shift: float, after: float, *, seed: int = 0, **changes: Any) -> Simulation:
    """A campaign whose nodes do nothing, on machines that change by `shift` at `after` seconds."""
    numbers = random.Random(seed)

    def measure(_node: Node, _seed: int) -> float:
        return numbers.gauss(shift if made.now > after else 0.0, 1.0)

    changes = {"noise": Noise(5, 4), "time_budget": True, "limits": Limits(max_nodes=6), "per_round": 2, **changes}
    made = Simulation(config(**changes), measure)
    return made


def test_with_a_time_budget_the_baseline_is_run_beside_each_experiment() -> None:
    made = drifting(0.0, 1e9)
    found = made.run()
    submitted = made.of(ev.JobsSubmitting)
    beside = {one.beside for one in submitted if one.node != "n000"}
    assert None not in beside
    assert {seed for one in submitted[1:] if one.node == "n000" for seed in one.seeds} == beside
    assert found.checked == beside
    assert found.period == 0
    at_once = Counter(one.beside for one in submitted if one.beside is not None)
    assert max(at_once.values()) == 2, "nodes that are submitted together have one of it"


def test_without_a_time_budget_it_is_not() -> None:
    made = drifting(0.0, 1e9, time_budget=False)
    made.run()
    assert {one.beside for one in made.of(ev.JobsSubmitting)} == {None}
    assert made.of(ev.DriftChecked) == []


def test_where_the_machines_change_a_period_begins_with_the_runs_that_show_it() -> None:
    made = drifting(30.0, 1200.0)
    found = made.run()
    drifts = [one for one in made.of(ev.DriftChecked) if one.drifted]
    assert len(drifts) == 1
    assert found.period == 1
    first = drifts[0].seed
    assert all((job.period == 1) is (seed >= first) for seed, job in found.nodes["n000"].jobs.items())
    assert "better" not in {node.verdict for node in found.nodes.values()}
    assert "from the runs before it (drift above " in found.alerts[0][1]
    assert sum(job.period == 1 for job in found.nodes["n000"].jobs.values()) >= 5


def test_while_the_baseline_is_measured_again_none_of_its_runs_is_beside_others() -> None:
    made = drifting(30.0, 1200.0)
    while not made.campaign.period:
        made.step()
    made.record(ev.NodeCreated("late", "proposed", 1, "planned meanwhile", {"x": 99}, "a" * 40, "n000"))
    submits = [one for one in policy.next_actions(made.campaign, made.now) if isinstance(one, Submit)]
    runs = [(one.node, seed) for one in submits for seed in one.seeds]
    assert ("late", 0) in runs
    assert [node for node, _ in runs].count("n000") >= 1
    assert len(set(runs)) == len(runs)
    assert {one.beside for one in submits} == {None}


def test_numbers_of_an_earlier_period_are_marked() -> None:
    found = drifting(30.0, 1200.0).run()
    states = {row["id"]: row["state"] for row in overview.document(found)["nodes"]}
    assert states["n000"] == "baseline"
    assert states["n001"] == "within noise, earlier"
    assert "| within noise, earlier |" in tables.summary(found)


def test_without_the_runs_beside_them_what_the_machines_do_would_pass_for_gains() -> None:
    kept: Counter[bool] = Counter()
    for time_budget in (True, False):
        for seed in range(20):
            found = drifting(30.0, 1200.0, seed=seed, time_budget=time_budget).run()
            kept[time_budget] += any(node.verdict == "better" for node in found.nodes.values())
    assert kept[False] == 20
    assert kept[True] <= 3


def test_noise_alone_is_seldom_taken_for_drift() -> None:
    drifts = sum(drifting(0.0, 0.0, seed=seed).run().period for seed in range(60))
    assert drifts <= 3  # of several hundred checks, at three standard errors


def test_an_improvement_is_found_with_a_time_budget_as_well() -> None:
    for seed in range(5):
        measure = gauss(seed, 0.1, {"n002": 5.0})
        made = Simulation(config(noise=Noise(5, 4), time_budget=True, limits=Limits(max_nodes=3)), measure)
        best = made.run().best
        assert best is not None
        assert best.id == "n002"


def test_a_run_of_the_baseline_that_gives_no_number_shows_no_drift() -> None:
    def measure(node: Node, seed: int) -> float:
        if node.id == "n000" and seed == 5:
            raise ValueError("it crashed")
        return 0.001 * (seed % 3)

    made = Simulation(config(noise=Noise(5, 2), time_budget=True, limits=Limits(max_nodes=2)), measure)
    made.run()
    assert made.of(ev.DriftChecked)[0] == ev.DriftChecked(5, False, "n000_s5: stuck: it crashed")


def test_money_is_not_spent_on_the_baseline_where_it_does_not_pay_for_what_is_measured_beside_it() -> None:
    limits = Limits(max_nodes=5, max_gpu_usd=4.5)
    settings = config(noise=Noise(3, 2), time_budget=True, gpu_usd_per_hour=60.0, job_minutes=1.0, limits=limits)
    found = Simulation(settings, better_by({})).run()
    assert found.stopped == "max_usd"
    assert len(list(found.jobs)) == 3, "the baseline's own; one more, and one beside it, are too many"


def test_a_loop_that_was_killed_between_the_intents_uses_the_run_of_the_baseline_that_was_begun() -> None:
    made = drifting(0.0, 1e9, limits=Limits(max_nodes=1))
    while not any(node.kind == "proposed" for node in made.campaign.nodes.values()):
        made.step()
    first, second = (one for one in policy.next_actions(made.campaign, made.now) if isinstance(one, Submit))
    assert (first.node, first.seeds) == ("n000", (5,))
    assert (second.node, second.beside) == ("n001", 5)
    made.record(ev.JobsSubmitting("n000", (5,)))
    again = [one for one in policy.next_actions(made.campaign, made.now) if isinstance(one, Submit)]
    assert again == [Submit("n000", (5,)), second]
