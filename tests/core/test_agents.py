"""Agents that share a server: who counts, who gets GPU memory and where, and what a file may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.core.agents import (
    DONE,
    KEPT,
    RUNNING,
    STALE,
    Agent,
    AgentsError,
    decode,
    encode,
    expired,
    is_live,
    leases,
    registered,
    room,
)
from queue_manager.core.boundary import ForeignLease
from queue_manager.core.card_words import holder
from queue_manager.core.placement import views
from queue_manager.core.readings import Card
from tests.core.states import cards_of, spec, turns, world
from tests.fakes import FakeHost

NOW = 1_000_000.0
CARDS = (Card(0, "GPU-0", "A100", 40_000, 0), Card(1, "GPU-1", "A100", 80_000, 0))


def agent(name: str = "a", gb: float = 0.0, **fields: Any) -> Agent:
    return Agent(name, "x", gb, **{"started": NOW, "heartbeat": NOW, **fields})


def on(name: str, card: int, gb: float, **fields: Any) -> Agent:
    return agent(name, gb, card=f"GPU-{card}", gpu=card, **fields)


def register(
    there: list[Agent], new: Agent, cards: tuple[Card, ...] = CARDS, others: tuple[ForeignLease, ...] = ()
) -> Agent:
    return next(one for one in registered(there, new, cards, others, NOW) if one.id == new.id)


# -- who counts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "live"),
    [
        ({}, True),
        ({"heartbeat": NOW - 899.0}, True),
        ({"heartbeat": NOW - 900.0}, False),
        ({"heartbeat": NOW - 900.0, "expires_s": 7200.0}, True),
        ({"heartbeat": NOW + 60.0}, True),
        ({"status": DONE}, False),
        ({"status": STALE}, False),
    ],
)
def test_an_agent_lives_while_it_sends_heartbeats(fields: dict[str, Any], live: bool) -> None:
    one = on("a", 0, 10.0, **fields)
    assert is_live(one, NOW) == live
    assert leases([one], NOW) == ([ForeignLease("GPU-0", 9537, "a", is_agent=True)] if live else [])


def test_one_that_stopped_is_kept_as_stale_and_may_come_again() -> None:
    old = on("a", 0, 10.0, heartbeat=NOW - 1000.0, started=NOW - 5000.0)
    assert [one.status for one in expired([old], NOW)] == [STALE]
    again = register([old], agent("a", 20.0))
    assert (again.status, again.started, again.card) == (RUNNING, NOW, "GPU-1")


def test_the_oldest_that_have_ended_are_forgotten() -> None:
    ended = [agent(f"a{n}", status=DONE, heartbeat=NOW - n) for n in range(KEPT + 5)]
    assert [one.id for one in expired([agent("live"), *ended], NOW)] == ["live", *(f"a{n}" for n in range(KEPT))]


def test_the_entry_of_a_run_itself_keeps_it_from_nothing() -> None:
    assert leases([on("run-1", 0, 10.0), on("b", 0, 1.0)], NOW, "run-1") == leases([on("b", 0, 1.0)], NOW)


# -- who gets memory ----------------------------------------------------------------------------------------------


def test_an_agent_without_gpu_memory_may_always_come() -> None:
    assert register([], agent("a"), cards=()).card is None


def test_it_gets_the_gpu_with_the_most_room_or_the_one_that_it_names() -> None:
    assert register([], agent("a", 10.0)).gpu == 1
    assert register([], agent("a", 10.0, gpu=0)).card == "GPU-0"
    assert register([on("b", 1, 60.0)], agent("a", 10.0)).gpu == 0


@pytest.mark.parametrize(
    ("there", "cards", "others", "new", "says"),
    [
        ([], CARDS, (), agent("a", 90.0), "90 GB are not free: GPU 1, which has the most room, has 83.9 GB left"),
        ([], CARDS, (), agent("a", 50.0, gpu=0), "50 GB are not free: GPU 0 has 41.9 GB left"),
        ([on("b", 1, 50.0)], CARDS, (), agent("a", 45.0), "45 GB are not free"),
        ([], CARDS[1:], (ForeignLease("GPU-1", None, "r"),), agent("a", 1.0), "GPU 1 has 0.0 GB left"),
        ([], CARDS[1:], (ForeignLease("GPU-1", 70_000, "r"),), agent("a", 20.0), "GPU 1 has 10.5 GB left"),
        ([], (Card(0, "GPU-0", "A", 40_000, 30_000),), (), agent("a", 20.0), "GPU 0 has 10.5 GB left"),
        ([], CARDS, (), agent("a", 1.0, gpu=7), "there is no GPU 7; there are: 0, 1"),
        ([], (), (), agent("a", 1.0), "there is no GPU$"),
    ],
)
def test_what_is_not_free_is_refused(
    there: list[Agent], cards: tuple[Card, ...], others: tuple[ForeignLease, ...], new: Agent, says: str
) -> None:
    with pytest.raises(AgentsError, match=says):
        registered(there, new, cards, others, NOW)


def test_memory_in_use_by_strangers_and_memory_that_is_promised_count_both() -> None:
    strangers = Card(0, "GPU-0", "A", 40_000, 10_000)
    there = [on("b", 0, 20.0, base_mib=10_000)]  # has not loaded anything yet
    assert room(strangers, there, (), None) == 40_000 - 10_000 - there[0].mib
    loaded = Card(0, "GPU-0", "A", 40_000, 10_000 + there[0].mib)
    assert room(loaded, there, (), None) == 40_000 - 10_000 - there[0].mib


def test_a_heartbeat_keeps_its_gpu_though_its_memory_is_in_use_by_now() -> None:
    first = register([], agent("a", 70.0))
    loaded = (CARDS[0], Card(1, "GPU-1", "A100", 80_000, 70_000))
    again = register([first._replace(heartbeat=NOW - 60.0)], agent("a", 70.0), loaded)
    assert (again.gpu, again.heartbeat, again.started) == (1, NOW, NOW)
    with pytest.raises(AgentsError):
        register([first], agent("a", 90.0), loaded)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(0, 50), st.booleans()), max_size=30))
def test_what_is_promised_never_exceeds_what_there_is(asked: list[tuple[str, float, bool]]) -> None:
    there: list[Agent] = []
    for name, gb, ends in asked:
        try:
            there = registered(there, agent(name, gb), CARDS, (), NOW)
        except AgentsError:
            continue
        if ends:
            there = [one._replace(status=DONE) if one.id == name else one for one in there]
        for card in CARDS:
            assert sum(lease.mib or 0 for lease in leases(there, NOW) if lease.card == card.uuid) <= card.total_mib
    assert decode(encode(there).encode()) == there


# -- the queue ----------------------------------------------------------------------------------------------------


def test_a_run_keeps_to_what_agents_were_promised() -> None:
    host, manager = world(*[spec(name, gpu_mem_mib=9000) for name in "abc"], host=FakeHost(1))
    host.leases = (ForeignLease("GPU-0", 14_000, "nb", is_agent=True),)
    turns(host, manager, 3)
    assert cards_of(manager.state) == {"a": (0,)}


def test_who_waits_is_told_for_whom() -> None:
    _, manager = world(spec("a"))
    lease = ForeignLease("GPU-0", 9537, "nb-ann", is_agent=True)
    found = views(manager.state, CARDS, [lease], NOW)
    assert not found["GPU-0"].is_free(500)
    assert holder(manager.state, CARDS[0], found["GPU-0"], [lease]) == (
        "promised to agent nb-ann (AGENT_STATUS.json): 9537 MiB"
    )


# -- the file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("{}", "has to be an array of agents"),
        ("[3]", "an agent has to be an object with an id, and not 3"),
        ('[{"id": "a b"}]', "has to be an object with an id"),
        ('[{"id": "a"}]', "agent a: its 'started' cannot be read"),
        ('[{"id": "a", "started": "x", "heartbeat": "y"}]', "agent a: its"),
    ],
)
def test_a_file_that_is_none_says_so(text: str, says: str) -> None:
    with pytest.raises(AgentsError, match=says):
        decode(text.encode())


@pytest.mark.parametrize(
    "fields",
    [{"gpu_gb": -1}, {"gpu_gb": "9"}, {"gpu_gb": True}, {"status": "fine"}, {"gpu_gb": 9, "card": None}, {"card": 3}],
)
def test_an_entry_with_another_value_is_refused(fields: dict[str, Any]) -> None:
    (row,) = json.loads(encode([on("a", 0, 5.0)]))
    assert decode(json.dumps([row]).encode()) == [on("a", 0, 5.0)]
    with pytest.raises(AgentsError):
        decode(json.dumps([{**row, **fields}]).encode())
