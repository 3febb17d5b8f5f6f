"""What a campaign does next: rounds, pauses, verdicts, and when it ends."""

from __future__ import annotations

from typing import Any

import pytest

from skill.auto import budget, policy
from skill.auto import events as ev
from skill.auto.campaign import Campaign, Node, Record, apply
from skill.auto.config import AgentSpec, Declared, Guard, Launch, Limits, Objective, Scope
from skill.auto.noise import false_keeps
from skill.auto.policy import Ask, Submit
from skill.auto.replies import Proposal
from tests.auto.simulated import Measure, Simulation, config, gauss

AGENT = AgentSpec(("agent",), parallel=1, analyze=False)


def fixed(node: Node, seed: int) -> float:
    """The better, the greater x is; a little noise."""
    return float(node.settings["x"]) + seed * 0.01


def flat(_node: Node, seed: int) -> float:
    return seed * 0.01


def simulation(measure: Measure = flat, **changes: Any) -> Simulation:
    more = {name: changes.pop(name) for name in ("propose", "troubles", "ask_usd", "gpu") if name in changes}
    return Simulation(config(**changes), measure, **more)


# -- what is better ---------------------------------------------------------------------------------------------------


def test_noise_is_kept_at_most_as_often_as_declared() -> None:
    done = [simulation(gauss(seed)).run() for seed in range(200)]
    nodes = [node for campaign in done for node in campaign.proposed]
    kept = sum(node.verdict == "better" for node in nodes)
    assert len(nodes) == 2000
    assert kept / len(nodes) <= false_keeps(done[0].config.noise.z), kept


def test_an_effect_of_three_standard_deviations_is_found() -> None:
    done = [simulation(gauss(seed, 1.0, {"n005": 3.0})).run() for seed in range(200)]
    found = sum(campaign.nodes["n005"].verdict == "better" for campaign in done)
    assert found / len(done) >= 0.95, found


def test_a_candidate_is_confirmed_by_runs_that_did_not_choose_it() -> None:
    lucky = simulation(lambda node, seed: 100.0 if node.id == "n001" and seed == 0 else gauss(seed)(node, seed))
    node = lucky.run().nodes["n001"]
    assert sorted(node.jobs) == [0, 1, 2, 3, 4]
    assert node.verdict != "better"
    assert node.value is not None
    assert node.value < 10


def test_what_is_worse_when_screened_costs_one_run() -> None:
    campaign = simulation(lambda node, seed: -fixed(node, seed)).run()
    assert [len(node.jobs) for node in campaign.proposed] == [1] * 10
    assert {node.verdict for node in campaign.proposed} == {"worse"}
    assert campaign.best is campaign.baseline


def test_a_gain_below_min_delta_is_none() -> None:
    objective = Objective("score", "max", min_delta=1e6)
    assert {node.verdict for node in simulation(fixed, objective=objective).run().proposed} == {"within_noise"}


def test_a_goal_of_min_turns_the_gain_round() -> None:
    campaign = simulation(lambda node, seed: -fixed(node, seed), objective=Objective("score", "min")).run()
    assert campaign.best is campaign.nodes["n010"]
    assert campaign.nodes["n010"].effect == pytest.approx(1.0)


def test_a_control_is_measured_and_never_the_best() -> None:
    declared = (Declared("all the data", {"x": 1000}, control=True), Declared("known", {"x": 1}))
    campaign = simulation(fixed, declared=declared, limits=Limits(max_nodes=0)).run()
    assert [(node.kind, node.verdict) for node in campaign.nodes.values()] == [
        ("baseline", "baseline"), ("control", "control"), ("declared", "better"),
    ]  # fmt: skip
    assert campaign.best is campaign.nodes["n002"]


def test_a_broken_guard_is_never_the_best() -> None:
    campaign = simulation(fixed, guards=(Guard("score", max=3.5),)).run()
    assert campaign.best is campaign.nodes["n003"]
    assert campaign.nodes["n004"].verdict == "guard"
    assert campaign.nodes["n004"].reason == "score is 4, above 3.5"


def test_a_guard_that_is_not_measured_is_broken() -> None:
    campaign = simulation(fixed, guards=(Guard("memory", max=1.0),)).run()
    assert {node.verdict for node in campaign.proposed} == {"guard"}
    assert campaign.proposed[0].reason == "memory was not measured"


def test_runs_on_different_gpu_models_are_not_compared() -> None:
    gpu = lambda node, _seed: "B200" if node.id == "n002" else "H200"  # noqa: E731
    campaign = simulation(fixed, gpu=gpu).run()
    assert campaign.nodes["n002"].verdict == "incomparable"
    assert campaign.nodes["n002"].reason == "n000 has no runs on B200"
    assert {node.verdict for node in campaign.proposed if node.id != "n002"} == {"better"}


def test_a_job_that_failed_or_has_no_number_is_never_the_best() -> None:
    def measure(node: Node, seed: int) -> float:
        if node.id == "n001":
            raise ValueError("exit code 3")
        return float("nan") if node.id == "n002" else fixed(node, seed)

    campaign = simulation(measure, limits=Limits(max_nodes=2)).run()
    assert campaign.best is campaign.baseline
    assert [node.reason for node in campaign.proposed] == [
        "n001_s0: stuck: exit code 3",
        "n002_s0 completed without a finite score",
    ]


# -- rounds -----------------------------------------------------------------------------------------------------------


def test_nothing_is_proposed_before_the_baseline_is_measured() -> None:
    one = simulation()
    one.run()
    judged = next(number for number, event in enumerate(one.log) if isinstance(event, ev.NodeJudged))
    assert not any(isinstance(event, ev.AskStarting) for event in one.log[:judged])


@pytest.mark.parametrize("strict", [True, False])
def test_a_strict_round_waits_for_all_of_the_round_before(*, strict: bool) -> None:
    one = simulation(fixed, strict=strict, limits=Limits(max_nodes=9))
    campaign = one.run()
    waited = all(
        all(other.judged is not None and other.judged <= node.created for other in campaign.proposed[:number])
        for number, node in enumerate(campaign.proposed)
        if campaign.rounds[node.round - 1].nodes[0] == node.id
    )
    assert waited == strict
    assert ({len(planned.nodes) for planned in campaign.rounds} == {3}) == strict


def test_a_finished_node_is_analysed_while_others_run() -> None:
    def measure(node: Node, seed: int) -> float:
        return fixed(node, seed)

    one = simulation(measure, agent=AgentSpec(("agent",), parallel=2))
    campaign = one.run()
    asked = [number for number, event in enumerate(one.log) if getattr(event, "role", None) == "analyze"]
    ended = [number for number, event in enumerate(one.log) if isinstance(event, ev.JobEnded)]
    assert asked[0] < ended[-1]
    assert all(node.analysis for node in campaign.proposed)


PROPOSALS = [
    (Proposal("typo", settings={"y": 1}), "no setting is called y; there are: x"),
    (Proposal("word", settings={"x": "much"}), "x is a number, and 'much' is not"),
    (Proposal("same", settings={"x": 0}), "it changes nothing of n000"),
    (Proposal("nobody", parent="n099", settings={"x": 1}), "there is no node n099 to start from"),
    (Proposal("edit", edit="rewrite it"), "no file may be edited in this campaign; change settings only"),
]


@pytest.mark.parametrize(("proposal", "reason"), PROPOSALS, ids=lambda one: getattr(one, "title", ""))
def test_a_proposal_that_cannot_be_is_refused_with_the_reason(proposal: Proposal, reason: str) -> None:
    campaign = simulation(propose=lambda _campaign, _want: [proposal], limits=Limits(max_rounds=1)).run()
    assert campaign.rounds[0].refused == [(proposal.title, reason)]
    assert not campaign.proposed


def test_the_same_experiment_is_measured_once() -> None:
    again = lambda _campaign, _want: [Proposal("again", parent="n000", settings={"x": 1})]  # noqa: E731
    campaign = simulation(propose=again, limits=Limits(max_rounds=2)).run()
    assert len(campaign.proposed) == 1
    assert campaign.rounds[1].refused == [("again", "n001 is the same")]


def test_edits_that_come_to_the_same_code_are_measured_once() -> None:
    one = simulation(scope=Scope(("*.py",)), limits=Limits(max_nodes=1))
    campaign = one.run()
    apply(campaign, Record(campaign.seq + 1, 1.0, ev.LimitsChanged("r", {"max_nodes": 3})))
    for node, tree in (("n002", "t"), ("n003", "t")):
        created = ev.NodeCreated(node, "proposed", 1, node, {"x": 0}, "a" * 40, "n000", edit=f"edit {node}")
        apply(campaign, Record(campaign.seq + 1, 1.0, created))
        apply(campaign, Record(campaign.seq + 1, 1.0, ev.EditAccepted(node, f"c-{node}", tree)))
    found = policy.next_actions(campaign, 2.0)
    assert found == [
        policy.Note(ev.NodeJudged("n003", "duplicate", "its edit came to the same code and settings as n002"))
    ]


# -- trouble of the agent ---------------------------------------------------------------------------------------------


def test_an_outage_pauses_and_touches_no_node() -> None:
    one = simulation(fixed, troubles=["failed"] * 5)
    campaign = one.run()
    pauses = one.of(ev.AsksPaused)
    assert [pause.alert for pause in pauses] == [False, False, True, False, False]
    starts = [record.started for record in campaign.asks.values()][:6]
    assert [round(after - before) for before, after in zip(starts, starts[1:], strict=False)] == [40, 70, 130, 250, 490]
    assert all(node.verdict == "better" for node in campaign.proposed)
    assert len(campaign.alerts) == 1
    assert campaign.stopped == "max_nodes"


def test_a_pause_has_an_upper_bound() -> None:
    one = simulation(troubles=["timeout"] * 40)
    one.run()
    assert max(pause.until for pause in one.of(ev.AsksPaused)) < 40 * (policy.LONGEST_PAUSE + 20) + 1000


def test_a_usage_limit_is_waited_for_until_it_ends() -> None:
    one = simulation()
    campaign = one.campaign
    while not campaign.asks:
        one.step()
    one._due.clear()
    one.record(ev.AskEnded(1, "usage_limit", text="limit reached", until=one.now + 7200))
    assert policy.next_actions(campaign, one.now) == [
        policy.Pause(one.now + 7200, "the agent failed (usage limit): limit reached")
    ]


def test_a_malformed_reply_is_asked_for_again_with_the_parsers_message() -> None:
    one = simulation(troubles=["malformed", "malformed"])
    campaign = one.campaign
    complaints = []
    while len(campaign.asks) < 3:
        actions = policy.next_actions(campaign, one.now)
        complaints += [action.complaint for action in actions if isinstance(action, Ask)]
        one.step()
    assert complaints == ["", "malformed it was", "malformed it was"]
    assert not one.of(ev.AsksPaused)
    assert one.run().stopped == "max_nodes"


def test_replies_that_stay_malformed_pause_the_agent() -> None:
    one = simulation(troubles=["malformed"] * 3)
    one.run()
    assert len(one.of(ev.AsksPaused)) == 1


def test_a_failed_plan_leaves_a_finished_node_as_it_is() -> None:
    one = simulation(fixed, per_round=1)
    while not one.campaign.proposed or one.campaign.proposed[-1].verdict is None:
        one.step()
    one.troubles.append("failed")
    before = one.campaign.proposed[0].verdict
    one.run()
    assert before == one.campaign.proposed[0].verdict == "better"


def test_an_unknown_cost_is_unknown_and_counts_as_reserved() -> None:
    agent = AgentSpec(("agent",), parallel=1, analyze=False, usd_per_call=0.5)
    campaign = simulation(agent=agent, limits=Limits(max_nodes=2, max_agent_usd=100.0)).run()
    spent = campaign.agent_spent
    assert (spent.known, spent.unknown, spent.counted) == (0.0, len(campaign.asks), 0.5 * len(campaign.asks))


# -- edits ------------------------------------------------------------------------------------------------------------


def edited(_campaign: Campaign, _want: int) -> list[Proposal]:
    return [Proposal("a new loss", edit=f"change the loss to variant {len(_campaign.rounds)}")]


def test_a_refused_edit_is_sent_back_once_and_then_given_up() -> None:
    one = simulation(propose=edited, scope=Scope(("*.py",)), per_round=1, limits=Limits(max_nodes=1))
    campaign = one.campaign
    complaints = []
    while not campaign.stopped:
        actions = policy.next_actions(campaign, one.now)
        complaints += [action.complaint for action in actions if isinstance(action, Ask) and action.role == "edit"]
        if any(isinstance(action, policy.Gate) for action in actions):
            one.record(ev.EditRefused("n001", "it touches prepare.py, which is protected"))
        else:
            one.step()
    assert complaints == ["", "it touches prepare.py, which is protected"]
    assert campaign.nodes["n001"].verdict == "refused"
    assert not campaign.nodes["n001"].jobs


def test_an_edit_that_breaks_the_program_is_repaired_once() -> None:
    def measure(node: Node, seed: int) -> float:
        if node.edit and not node.revision:
            raise ValueError("NameError: name 'los' is not defined")
        return 1.0 + seed * 0.01

    one = simulation(measure, propose=edited, scope=Scope(("*.py",)), per_round=1, limits=Limits(max_nodes=1))
    node = one.run().nodes["n001"]
    assert [ask.role for ask in one.campaign.asks.values()] == ["plan", "edit", "repair"]
    assert (node.revision, node.jobs[0].id, [job.id for job in node.earlier]) == (1, "n001.r1_s0", ["n001_s0"])
    assert node.verdict == "within_noise"


def test_each_commit_is_built_once_before_its_jobs() -> None:
    launch = Launch("train --x ${x} --seed ${seed}", {"x": 0}, build="make")
    one = simulation(fixed, launch=launch)
    one.run()
    assert [event.commit for event in one.of(ev.CodeBuilt)] == ["a" * 40]
    first = next(number for number, event in enumerate(one.log) if isinstance(event, ev.JobsSubmitting))
    assert any(isinstance(event, ev.CodeBuilt) for event in one.log[:first])


def test_what_cannot_be_built_is_repaired_and_then_fails() -> None:
    launch = Launch("train --x ${x} --seed ${seed}", {"x": 0}, build="make")
    one = simulation(
        fixed, launch=launch, propose=edited, scope=Scope(("*.py",)), per_round=1, limits=Limits(max_nodes=1)
    )
    while not one.campaign.stopped:
        gates = [action for action in policy.next_actions(one.campaign, one.now) if isinstance(action, policy.Gate)]
        if gates:
            revision = one.campaign.nodes["n001"].revision + (one.campaign.nodes["n001"].commit is not None)
            one.record(ev.EditAccepted("n001", f"broken {revision}", f"tree {revision}", revision=revision))
        else:
            one.step()
    node = one.campaign.nodes["n001"]
    assert (node.verdict, node.reason, node.revision, node.jobs) == ("failed", "the build failed", 1, {})


# -- a person ---------------------------------------------------------------------------------------------------------


def test_a_killed_node_is_cancelled_and_counts_for_nothing() -> None:
    one = simulation(fixed, limits=Limits(max_nodes=3))
    while "n001" not in one.campaign.nodes or not one.campaign.nodes["n001"].open_jobs:
        one.step()
    one.record(ev.Steered("r1", "kill", "n001"))
    campaign = one.run()
    assert campaign.nodes["n001"].verdict == "killed"
    assert [job.status for job in campaign.nodes["n001"].jobs.values()] == ["cancelled"]


def test_proposals_start_from_a_pinned_node() -> None:
    one = simulation(fixed, limits=Limits(max_nodes=6))
    while one.campaign.best is None or one.campaign.best.id == "n000":
        one.step()
    one.record(ev.Steered("r1", "pin", "n000"))
    campaign = one.run()
    assert campaign.nodes["n006"].parent == "n000"


def test_a_boosted_node_is_submitted_first() -> None:
    declared = tuple(Declared(f"idea {number}", {"x": number}) for number in (1, 2, 3))
    one = simulation(fixed, declared=declared)
    while len(one.campaign.nodes) < 4:
        one.step()
    one.record(ev.Steered("r1", "boost", "n003"))
    nodes = [action.node for action in policy.next_actions(one.campaign, one.now) if isinstance(action, Submit)]
    assert nodes == ["n000", "n003", "n001", "n002"]


def test_a_note_is_kept_for_the_planner() -> None:
    one = simulation()
    one.record(ev.Steered("r1", "note", text="try a smaller learning rate"))
    assert one.run().notes == [(1000.0, "try a smaller learning rate")]


# -- the end ----------------------------------------------------------------------------------------------------------

ENDLESS = Limits(no_novel=None)


def overshoot(one: Simulation, reason: str) -> list[ev.Event]:
    """What was asked or submitted after the reason to stop had come: after it, only ends of what was in flight."""
    assert one.run().stopped == reason
    last = max(number for number, event in enumerate(one.log) if isinstance(event, ev.AskStarting | ev.JobsSubmitting))
    return one.log[last + 1 :]


def test_max_nodes_stops_an_agent_that_never_does() -> None:
    campaign = simulation(fixed, limits=Limits(max_nodes=7)).run()
    assert (campaign.stopped, len(campaign.proposed), campaign.undecided) == ("max_nodes", 7, [])


def test_max_rounds_stops() -> None:
    campaign = simulation(fixed, strict=True, limits=Limits(max_rounds=2)).run()
    assert (campaign.stopped, len(campaign.rounds), len(campaign.proposed)) == ("max_rounds", 2, 6)


def test_patience_stops_after_so_many_nodes_without_an_improvement() -> None:
    campaign = simulation(
        lambda node, seed: min(float(node.settings["x"]), 4.0) + seed * 0.01, limits=Limits(patience=5)
    ).run()
    assert campaign.stopped == "patience"
    assert campaign.best is campaign.nodes["n004"]
    assert 4 + 5 <= len(campaign.proposed) <= 4 + 5 + 2  # two were in flight


def test_a_target_stops() -> None:
    campaign = simulation(fixed, limits=Limits(target=6.0)).run()
    assert campaign.stopped == "target"
    assert campaign.best is campaign.nodes["n006"]
    assert len(campaign.nodes) <= 1 + 6 + 2


def test_a_deadline_stops_what_has_not_begun() -> None:
    one = simulation(fixed, limits=Limits(deadline=3000.0))
    campaign = one.run()
    assert campaign.stopped == "deadline"
    assert one.of(ev.AskStarting)
    assert all(ask.started < 3000.0 for ask in campaign.asks.values())
    assert 3000.0 <= one.now <= 3000.0 + one.job_s


@pytest.mark.parametrize("name", ["max_usd", "max_gpu_usd", "max_agent_usd"])
def test_money_stops_before_it_is_exceeded(name: str) -> None:
    agent = AgentSpec(("agent",), parallel=1, analyze=False, usd_per_call=0.1)
    only: dict[str, Any] = {name: 3.0}
    limits = Limits(**only)
    one = simulation(fixed, agent=agent, gpu_usd_per_hour=6.0, job_minutes=1.5, ask_usd=0.1, limits=limits)
    campaign = one.run()
    gpu, calls = campaign.gpu_spent.known, campaign.agent_spent.known
    spent = {"max_usd": gpu + calls, "max_gpu_usd": gpu, "max_agent_usd": calls}[name]
    assert campaign.stopped == "max_usd"
    assert 2.5 < spent < 3.0001
    assert "would exceed the limit" in campaign.stopped_text


def test_money_for_what_is_in_flight_is_not_spent_twice() -> None:
    one = simulation(fixed, gpu_usd_per_hour=60.0, job_minutes=1.0, limits=Limits(max_gpu_usd=8.0))
    most = 0.0
    while not one.campaign.stopped:
        one.step()
        most = max(most, one.campaign.gpu_spent.committed)
    assert most <= 8.0


def test_a_job_is_reserved_for_as_long_as_its_timeout_lets_it_run() -> None:
    campaign = simulation(gpu_usd_per_hour=6.0, job_minutes=1.0, job={"timeout": "30m"}).campaign
    assert budget.job_usd(campaign) == 3.0


def test_rounds_without_a_new_proposal_stop() -> None:
    again = lambda _campaign, _want: [Proposal("again", parent="n000", settings={"x": 1})]  # noqa: E731
    campaign = simulation(propose=again, limits=Limits(no_novel=3)).run()
    assert campaign.stopped == "no_novel"
    assert len(campaign.rounds) == 4


def test_a_planner_that_has_no_idea_is_asked_again_when_more_is_known() -> None:
    def propose(campaign: Campaign, _want: int) -> list[Proposal]:
        return [Proposal("x", parent="n000", settings={"x": len(campaign.judged)})]

    one = simulation(fixed, propose=propose, limits=Limits(max_nodes=4, no_novel=2))
    assert one.run().stopped == "max_nodes"
    for planned in one.campaign.rounds[1:]:
        before = one.campaign.rounds[planned.round - 2]
        judged = [node.judged or 0.0 for node in one.campaign.nodes.values()]
        asked, after = (one.campaign.asks[each.ask].started for each in (before, planned))
        assert before.nodes or any(asked < at <= after for at in judged)


def test_the_agents_wish_to_stop_ends_the_planning() -> None:
    one = simulation(fixed, limits=ENDLESS)
    while not one.campaign.rounds:
        one.step()
    one.record(ev.RoundPlanned(2, 99, (), stop=True, why="all was tried"))
    campaign = one.run()
    assert (campaign.stopped, campaign.stopped_text) == ("agent", "the agent proposes nothing more: all was tried")
    assert not campaign.undecided


def test_a_person_stops_it_and_what_was_in_flight_is_awaited() -> None:
    one = simulation(fixed, limits=ENDLESS)
    while len(one.campaign.open_jobs) < 2 or not one.campaign.proposed:
        one.step()
    one.record(ev.StopRequested("r1"))
    after = overshoot(one, "person")
    assert not one.campaign.open_jobs
    assert any(isinstance(event, ev.JobEnded) for event in after)


def test_a_baseline_without_numbers_stops() -> None:
    def measure(_node: Node, _seed: int) -> float:
        raise ValueError("exit code 1")

    campaign = simulation(measure).run()
    assert campaign.stopped == "baseline"
    assert "the baseline needs 3 numbers and has 0: n000_s0: stuck: exit code 1" in campaign.stopped_text


def test_an_extended_campaign_goes_on() -> None:
    one = simulation(fixed, limits=Limits(max_nodes=2))
    one.run()
    one.record(ev.LimitsChanged("r1", {"max_nodes": 4}))
    assert len(one.run().proposed) == 4
