"""A loop that is killed at any moment goes on from its directory alone, to the same end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from skill.auto import store
from skill.auto.config import AgentSpec, Launch, Limits, Noise, Scope
from skill.auto.layout import WorkDir
from tests.auto.killed_loop import Killed, Moment, World, after, begin, calm, views, work_until_killed
from tests.auto.simulated import config

SMALL = config(
    agent=AgentSpec(("agent",), parallel=1, usd_per_call=0.5),
    limits=Limits(max_rounds=2),
    noise=Noise(3, 2, 2.0),
    scope=Scope(("*.py",)),
    per_round=3,
    strict=True,
    launch=Launch("train --x ${x} --seed ${seed}", {"x": 0}, build="make"),
)


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skill.auto.journal.os.fdatasync", lambda _fd: None)


def whole(root: Path) -> World:
    """A campaign that nothing kills."""
    world = begin(root, SMALL)
    assert work_until_killed(world) is not None
    return world


def distinct(world: World) -> list[Moment]:
    """The moments that differ: between two deeds nothing is left behind, so that after one is often before the next."""
    return list({repr(one._replace(words="")): one for one in world.moments}.values())


def test_the_campaign_that_is_killed_has_everything_in_it(tmp_path: Path) -> None:
    campaign, _ = store.load(WorkDir(whole(tmp_path / "campaign").root))
    assert campaign.stopped == "max_rounds"
    assert [node.verdict for node in campaign.nodes.values()] == ["baseline", "worse", "better", "worse", "better"]
    assert {ask.role for ask in campaign.asks.values()} == {"plan", "edit", "repair", "analyze"}
    assert campaign.nodes["n001"].refusals == ["it touches a protected file"]
    assert campaign.nodes["n003"].revision == 1
    assert [planned.refused for planned in campaign.rounds] == [
        [("none", "it changes nothing of n000")],
        [("none", "it changes nothing of n002")],
    ]


def test_killed_at_any_moment_it_comes_to_the_same_end(tmp_path: Path) -> None:
    model = whole(tmp_path / "whole")
    expected = calm(store.load(WorkDir(model.root))[0])
    shown = views(expected)
    assert len(model.moments) > 200
    moments = distinct(model)
    assert len(moments) > 150
    for number, moment in enumerate(moments):
        world = after(moment, tmp_path / str(number))
        campaign = work_until_killed(world)
        assert campaign is not None
        assert repr(calm(campaign)) == repr(expected), (
            moment.words
        )  # with the order of nodes, which == does not compare
        if number % 10 == 0:  # they are made of what has just been compared
            assert views(calm(campaign)) == shown, moment.words
        assert store.load(WorkDir(world.root))[0] == campaign, moment.words
        assert set(world.starts.values()) == {1}, moment.words
        assert world.starts.keys() == model.starts.keys(), moment.words


@pytest.mark.parametrize("late", [0.0, 90.0])
def test_where_rounds_overlap_its_tree_is_the_same_too(tmp_path: Path, late: float) -> None:
    """Jobs that end while no loop is there are taken in one by one: one may lead to a plan before the next is known."""
    overlapping = replace(SMALL, strict=False, limits=Limits(max_nodes=6), launch=replace(SMALL.launch, build=None))
    model = begin(tmp_path / "whole", overlapping, settings_only=True)
    expected = work_until_killed(model)
    assert expected is not None
    parents = [(node.id, node.parent, node.round) for node in expected.nodes.values()]
    assert parents[4:] == [("n004", "n001", 2), ("n005", "n002", 3), ("n006", "n003", 4)]
    for number, moment in enumerate(distinct(model)[::5]):
        campaign = work_until_killed(after(moment, tmp_path / str(number), late, settings_only=True))
        assert campaign is not None
        if not late:
            assert repr(calm(campaign)) == repr(calm(expected)), moment.words
        # of two that end while the planner is asked, both are known to its next call, and share a round
        assert [(node.id, node.parent, node.round) for node in campaign.nodes.values()][:5] == parents[:5], moment.words


def test_with_a_time_budget_it_runs_no_baseline_twice(tmp_path: Path) -> None:
    model = begin(tmp_path / "whole", replace(SMALL, time_budget=True))
    expected = work_until_killed(model)
    assert expected is not None
    assert len(expected.checked) > 3
    for number, moment in enumerate(distinct(model)[::9]):
        world = after(moment, tmp_path / str(number))
        campaign = work_until_killed(world)
        assert campaign is not None
        assert repr(calm(campaign)) == repr(calm(expected)), moment.words
        assert (set(world.starts.values()), world.starts.keys()) == ({1}, model.starts.keys()), moment.words


def test_killed_again_and_again_it_comes_to_the_same_end(tmp_path: Path) -> None:
    expected = calm(store.load(WorkDir(whole(tmp_path / "whole").root))[0])
    world = begin(tmp_path / "often", SMALL)
    campaign = None
    deaths = 0
    while campaign is None:
        world.die_at = len(world.deeds) + 20
        campaign = work_until_killed(world)
        deaths += campaign is None
        assert deaths < 100
    assert deaths > 5
    assert calm(campaign) == expected
    assert views(calm(campaign)) == views(expected)
    assert set(world.starts.values()) == {1}


def test_a_kill_is_no_error_that_a_loop_may_catch() -> None:
    assert not issubclass(Killed, Exception)
