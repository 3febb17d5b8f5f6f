"""What the watcher rents: never beyond its caps, whatever comes; what it only just passes over, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.common.errors import UseError
from skill.fleet import settings
from skill.fleet.offers import Priced
from skill.fleet.watch_rules import Rules, decide
from skill.providers.instances import Instance, Offer


def priced(dph: float = 0.09, dlp: float | None = 40.0, number: int = 1) -> Priced:
    return Priced(Offer(number, machine_id=number, num_gpus=1, dlperf=dlp), 1.0, dph, dph, 0.0, 0.0)


def instance(number: int, dph: float | None, **fields: Any) -> Instance:
    row = {"actual_status": "running", "cur_state": "running", "intended_status": "running", **fields}
    return Instance(number, dph=dph, **row)


RULES = Rules(most_instances=3, most_dph=0.25, least_balance=5.0)


def test_the_first_that_is_cheap_and_fast_enough_is_taken() -> None:
    dear, slow, good, better = priced(0.2, 90), priced(0.09, 9), priced(0.1, 18.1, 3), priced(0.05, 40, 4)
    choice = decide(RULES, [], 25.0, [dear, slow, good, better])
    assert choice.take == good
    assert choice.held is None
    assert [(one, why.split(",")[0]) for one, why in choice.near] == [
        (dear, "$0.2000 an hour"),
        (slow, "DLP/$ is 100"),
    ]


def test_what_misses_two_limits_is_no_near_miss_and_what_does_not_say_its_dlp_is_one() -> None:
    choice = decide(RULES, [], 25.0, [priced(0.2, 9), priced(0.09, None)])
    assert choice.take is None
    assert [why for _, why in choice.near] == ["it does not say its DLP, below min_dlp_per_usd, 180"]


@pytest.mark.parametrize(
    ("live", "credit", "says"),
    [
        ([instance(1, 0.01)] * 3, 25.0, "most_instances"),
        ([instance(1, None)], 25.0, "unknown"),
        ([], None, "balance is unknown"),
        ([], 4.0, "least_balance"),
    ],
)
def test_why_nothing_is_rented_at_all(live: list[Instance], credit: float | None, says: str) -> None:
    choice = decide(RULES, live, credit, [priced()])
    assert choice.take is None
    assert says in str(choice.held)


@pytest.mark.parametrize(
    ("live", "credit", "says"),
    [([instance(1, 0.2)], 25.0, "most_dph"), ([], 5.05, "least_balance")],
)
def test_what_would_pass_a_cap_is_a_near_miss(live: list[Instance], credit: float, says: str) -> None:
    choice = decide(RULES, live, credit, [priced()])
    assert choice.take is None
    assert says in choice.near[0][1]


STOPPED = {"actual_status": "exited", "cur_state": "stopped", "intended_status": "stopped"}
PRICES = st.floats(0.001, 0.5)
BURSTS = st.lists(st.lists(st.tuples(PRICES, st.floats(0, 500) | st.none()), max_size=8), max_size=8)


@given(
    st.builds(
        Rules,
        max_dph=PRICES,
        most_instances=st.integers(0, 4),
        most_dph=st.floats(0, 1),
        least_balance=st.floats(0, 10),
        min_dlp_per_usd=st.floats(0, 500),
    ),
    BURSTS,
    st.floats(0, 20),
    st.booleans(),
)
def test_no_burst_of_cheap_offers_goes_beyond_the_caps(
    rules: Rules, bursts: list[list[tuple[float, float | None]]], credit: float, is_stopped: bool
) -> None:
    live: list[Instance] = []
    for burst in bursts:
        choice = decide(rules, live, credit, [priced(dph, dlp, n) for n, (dph, dlp) in enumerate(burst)])
        if choice.take is None:
            continue
        assert choice.held is None
        assert choice.take.dph <= rules.max_dph
        live.append(instance(len(live), choice.take.dph, **(STOPPED if is_stopped else {})))
        credit -= choice.take.dph
        assert len(live) <= rules.most_instances
        assert sum(one.dph or 0 for one in live) <= rules.most_dph + 1e-9, "also when those that are stopped start"
        assert credit >= rules.least_balance - 1e-9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("watcher: {max_dhp: 1}\n", ":1:11: watcher has an unknown key max_dhp; did you mean max_dph?"),
        ("watcher:\n  every: 0.1s\n", ":2:3: every: '0.1s' is not between 1 s and 86400 s"),
        ("watcher: {most_instances: 1.5}\n", "most_instances of watcher has to be a whole number"),
        ("watcher: {max_dph: cheap}\n", "max_dph of watcher has to be a number from 0.001 to 10000, and not 'cheap'"),
        ("watcher: {pool: a b}\n", "the pool 'a b' is not a safe file name"),
        ("watcher: {profile: pytorhc}\n", "there is no profile pytorhc; did you mean pytorch?"),
    ],
)
def test_a_fault_in_the_rules_is_reported_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "vast.yaml").write_text(text)
    with pytest.raises(UseError) as caught:
        settings.read_rules(tmp_path / "workers.yaml")
    assert says in str(caught.value)


def test_each_rule_says_where_it_is_from(tmp_path: Path) -> None:
    (tmp_path / "vast.yaml").write_text("watcher:\n  max_dph: 0.2\n  every: 2m\n")
    rules, sources = settings.read_rules(tmp_path / "workers.yaml")
    assert (rules.max_dph, rules.every, rules.min_dlp_per_usd) == (0.2, 120.0, 180.0)
    assert (sources["max_dph"], sources["every"], sources["pool"]) == ("vast.yaml:2", "vast.yaml:3", "built in")
