"""How far an instance has come, by cases; when trying ends; what is billed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skill.fleet import startup
from skill.fleet.ledger import Offered, Rental
from skill.fleet.startup import Bounds, Broken, Ready, Wait, exhausted, verdict
from skill.providers.instances import Instance
from skill.providers.outcomes import Gone, Unknown
from skill.providers.provider import NewInstance
from skill.providers.vast.queries import create_body
from skill.providers.vast.start_script import ONSTART

WITHIN = 1800.0
RUNNING = Instance(7, actual_status="running", cur_state="running", intended_status="running", dph=0.4, num_gpus=0)


def live(actual: str | None, cur: str = "running", intended: str = "running", message: str | None = None) -> Instance:
    return RUNNING._replace(actual_status=actual, cur_state=cur, intended_status=intended, status_msg=message)


LOADING = live("loading", message="pulling the image")
OCI = "Error response from daemon: OCI runtime create failed"


@pytest.mark.parametrize(
    ("shown", "doubt", "age", "since", "kind"),
    [
        (live(None), "", 5, 5, Wait),
        (LOADING, "", 1700, 1700, Wait),
        (LOADING, "", 1801, 600, Broken),
        (RUNNING, None, 30, 0, Ready),
        (RUNNING, None, 4000, 4000, Ready),
        (RUNNING, "direct: refused", 30, 20, Wait),
        (RUNNING, "direct: refused", 400, 301, Broken),
        (live("created", "stopped", message=OCI), "", 3, 0, Broken),
        (live("loading", message="toomanyrequests: pull rate limit"), "", 3, 0, Broken),
        (live("exited", "running"), "", 30, 10, Wait),
        (live("exited", "running"), "", 90, 61, Broken),
        (live("exited", "stopped"), "", 40, 29, Wait),
        (live("exited", "stopped"), "", 40, 31, Broken),
        (live("offline"), "", 200, 200, Wait),
        (live("offline"), "", 400, 301, Broken),
        (Unknown("Vast.ai answered 500", "server"), "", 9999, 9999, Wait),
    ],
)
def test_an_instance_is_waited_for_or_given_up_for_what_was_seen(
    shown: Instance | Unknown, doubt: str | None, age: float, since: float, kind: type
) -> None:
    assert type(verdict(shown, doubt, age, since, WITHIN)) is kind


@pytest.mark.parametrize(
    ("shown", "doubt", "says"),
    [
        (
            RUNNING,
            "direct: refused",
            "was not ready after 1801 s; it is running, but the login failed: direct: refused",
        ),
        (LOADING, "", "was not ready after 1801 s; it is loading: pulling the image"),
        (live("created"), "", "was not ready after 1801 s; it is created"),
    ],
)
def test_what_an_instance_did_not_come_to_is_reported_in_one_sentence(shown: Instance, doubt: str, says: str) -> None:
    assert verdict(shown, doubt, 1801, 10, WITHIN) == Broken(says, entry=shown is RUNNING)


TEXTS = st.none() | st.text(max_size=20)


@given(
    st.builds(live, TEXTS, st.sampled_from(["running", "stopped"]), st.sampled_from(["running", "stopped"]), TEXTS),
    st.none() | st.just("no"),
    st.floats(0, 1e5),
    st.floats(0, 1e5),
)
def test_only_what_runs_and_lets_us_in_is_ready_and_all_else_ends(
    shown: Instance, doubt: str | None, age: float, since: float
) -> None:
    found = verdict(shown, doubt, age, since, WITHIN)
    assert isinstance(found, Ready) == (shown.status == "running" and doubt is None)
    assert not isinstance(found, Wait) or age < WITHIN


def failed(*, since: float, dph: float = 1.0) -> Rental:
    offered = Offered(1, 2, "c", dph, 0.0, 10)
    return Rental("wq", "rent", "wq", "v", offered, {}, since, instance_id=3, rates=((since, dph),), broken=True)


def test_trying_ends_with_tries_money_and_time() -> None:
    bounds = Bounds(ready_within=1800, tries=3, max_waste=1.0)
    assert exhausted([], bounds, 0, 100) is None
    assert exhausted([failed(since=0)] * 2, bounds, 0, 100) is None
    assert "tries" in str(exhausted([failed(since=0)] * 3, bounds, 0, 100))
    assert "max_waste" in str(exhausted([failed(since=0, dph=40.0)], bounds, 0, 100))
    assert "ready_within" in str(exhausted([], bounds, 0, 3600))
    refused = failed(since=0)._replace(instance_id=None, rates=())
    assert exhausted([refused] * 9, bounds, 0, 100) is None, "an offer that had gone costs nothing"


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (RUNNING, "is running, and is still billed: $0.4000 an hour"),
        (
            live("exited", "stopped", "stopped")._replace(storage_dph=0.01),
            "its disk is still billed: $0.0100 an hour, $0.24",
        ),
        (live("exited", "stopped", "stopped"), "not known; only destroying it ends this"),
        (Gone(), "is not billed"),
        (Unknown("no answer", "server"), "is unknown (no answer)"),
    ],
)
def test_what_is_billed_is_reported(shown: Any, words: str) -> None:
    assert words in startup.billing(7, shown)


def test_a_create_is_on_demand_rather_refused_than_stopped_and_starts_managers_again() -> None:
    made = create_body(NewInstance("wq-1", "an/image", 40.0))
    assert made["price"] is None
    assert made["cancel_unavail"] is True
    assert made["runtype"] == "ssh_direc ssh_proxy"
    assert made["onstart"] == ONSTART
    assert create_body(NewInstance("wq-1", "an/image", 30.0, guard=True))["onstart"].startswith(ONSTART)
    assert "API_KEY" not in str(made), "the account's key never goes to a machine of somebody else's"
