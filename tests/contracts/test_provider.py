"""What a provider of rented machines promises, over Vast.ai's double and over one in memory; and what the fleet makes
of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from skill.common.errors import UseError
from skill.fleet import confirm, provider
from skill.fleet.confirm import Ended
from skill.providers.instances import RUNNING, STOPPED, Instance, addresses
from skill.providers.outcomes import GONE, NO_OFFER, QUEUED, Created, Done, Gone, Refused, Unknown
from skill.providers.ownership import Claim, Ours, decide
from skill.providers.provider import Need, NewInstance, Provider
from skill.providers.vast import credentials
from skill.providers.vast.client import Client
from tests.memory_provider import MemoryProvider
from tests.vast_double import Double, Fault

NEW = NewInstance("wq-x", "an/image", 40.0)
NEED = Need(40.0, gpu_ram_mib=20_000)


class Market(NamedTuple):
    """A provider with what a test can do behind it: put offers with these numbers on the market, cut it off, fill it
    up so that a start waits for a GPU."""

    provider: Provider
    put: Callable[[int], Any]
    cut: Callable[[], None]
    fill: Callable[[], None]


@pytest.fixture(params=["vast", "memory"])
def market(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Market]:
    monkeypatch.setattr(confirm, "_PAUSES", (0.0,) * 4)
    if request.param == "memory":
        made = MemoryProvider()
        yield Market(made, made.put_on_market, lambda: setattr(made, "away", True), lambda: setattr(made, "full", True))
        return
    double = Double()
    client = Client(credentials.Key(double.key, "a test"), double.url, lambda _: None)

    def fill() -> None:
        for box in double.world.boxes.values():
            box.is_card_taken = True

    def cut() -> None:
        for method in ("GET", "PUT", "POST", "DELETE"):
            double.fault(method, "/", Fault(cut=True), times=1000)

    yield Market(client, lambda number: double.world.offer(id=number), cut, fill)
    client.close()
    double.close()


def rented(market: Market, number: int = 7) -> tuple[Instance, Ours]:
    """An instance that runs, and the proof that it is ours."""
    market.put(number)
    made = market.provider.rent(number, NEW)
    assert isinstance(made, Created)
    shown = until(market, made.instance_id, RUNNING)
    verdict = decide(Claim(made.instance_id, NEW.label), shown)
    assert isinstance(verdict, Ours)
    return shown, verdict


def until(market: Market, number: int, status: str) -> Instance:
    """The instance once it shows this status; each look brings it on."""
    shown: Instance | Gone | Unknown = Gone()
    for _ in range(20):
        shown = market.provider.instance(number)
        if isinstance(shown, Instance) and shown.status == status:
            return shown
    raise AssertionError(f"it never was {status}: {shown}")


def test_the_table_names_every_provider_and_says_where_there_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider.DEFAULT in provider.PROVIDERS
    for name in ("VAST_API_KEY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in provider.PROVIDERS:
        with pytest.raises(UseError, match=r"there is no (Vast\.ai )?key"):
            provider.connect(name)


def test_offers_are_searched_and_found_by_their_number(market: Market) -> None:
    assert market.provider.instances() == ()
    market.put(7)
    market.put(8)
    found = market.provider.search(NEED)
    assert not isinstance(found, Unknown)
    assert ({one.id for one in found.offers}, found.complete) == ({7, 8}, True)
    one = found.offers[0]
    assert one.machine_id is not None
    assert one.dph_base is not None
    assert one.dph is not None
    assert one.dph > one.dph_base > 0, "the disk costs, too"
    fewer = market.provider.search(NEED._replace(banned=frozenset({one.machine_id})))
    assert not isinstance(fewer, Unknown)
    assert one.id not in {other.id for other in fewer.offers}
    assert market.provider.offer(one.id, NEED.disk_gb) == one
    assert market.provider.offer(4711, NEED.disk_gb) == Gone()


def test_an_offer_is_rented_once_and_bears_its_label(market: Market) -> None:
    shown, _ = rented(market)
    assert (shown.label, shown.disk_gb) == ("wq-x", 40.0)
    assert addresses(shown) or addresses(listed(market)[0]), "it says where it may be entered"
    assert [one.id for one in listed(market)] == [shown.id]
    again = market.provider.rent(7, NEW._replace(label="wq-y"))
    assert isinstance(again, Refused)
    assert (again.kind, again.instance_id) == (NO_OFFER, None)
    assert len(listed(market)) == 1


def listed(market: Market) -> tuple[Instance, ...]:
    found = market.provider.instances()
    assert not isinstance(found, Unknown), found
    return found


def test_a_stopped_instance_bills_its_disk_and_comes_up_again(market: Market) -> None:
    shown, ours = rented(market)
    assert confirm.stop(market.provider, ours) is None
    stopped = until(market, shown.id, STOPPED)
    assert stopped.burn is not None
    assert shown.burn is not None
    assert 0 < stopped.burn < shown.burn
    assert isinstance(market.provider.start(ours), Done)
    assert until(market, shown.id, RUNNING).burn == shown.burn


def test_a_start_that_waits_is_reported_and_taken_back(market: Market) -> None:
    shown, ours = rented(market)
    assert confirm.stop(market.provider, ours) is None
    market.fill()
    found = market.provider.start(ours)
    assert isinstance(found, Refused)
    assert found.kind == QUEUED
    assert until(market, shown.id, "scheduling").burn == shown.storage_dph
    assert confirm.stop(market.provider, ours) is None


def test_a_key_is_admitted_and_a_destroyed_instance_is_gone(market: Market) -> None:
    shown, ours = rented(market)
    assert isinstance(market.provider.attach_key(ours, "ssh-ed25519 AAAA me"), Done)
    assert confirm.destroy(market.provider, ours) == Ended(by_us=True)
    assert market.provider.instance(shown.id) == Gone()
    assert listed(market) == ()
    for change in (market.provider.start, market.provider.stop, market.provider.destroy):
        gone = change(ours)
        assert isinstance(gone, Refused), change
        assert gone.kind == GONE
    assert confirm.destroy_claimed(market.provider, ours.claim) == Ended(by_us=False)


def test_what_cannot_be_asked_is_unknown_and_never_gone(market: Market) -> None:
    shown, ours = rented(market)
    market.put(8)
    market.cut()
    far = market.provider
    for found in (far.instances(), far.instance(shown.id), far.search(NEED), far.offer(8, 40.0), far.user()):
        assert isinstance(found, Unknown), found
        assert found.reason
    assert isinstance(far.rent(8, NEW), Refused | Unknown)
    for change in (far.start, far.stop, far.destroy):
        assert not isinstance(change(ours), Done)
    assert isinstance(confirm.stop(far, ours), str)
    assert isinstance(confirm.destroy_claimed(far, ours.claim), str)


def test_what_is_not_ours_is_left_alone(market: Market) -> None:
    shown, _ = rented(market)
    assert "it is not ours" in str(confirm.destroy_claimed(market.provider, Claim(shown.id, "wq-another")))
    assert [one.id for one in listed(market)] == [shown.id]


def test_what_is_left_to_spend_is_known(market: Market) -> None:
    found = market.provider.user()
    assert not isinstance(found, Unknown)
    assert found.credit == 25.0
