"""The client of Vast.ai against its double: what it asks, and that whatever cannot be had or understood is unknown."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from skill.common.errors import UseError
from skill.providers.instances import Address, Instance, addresses
from skill.providers.outcomes import Created, Done, Gone, Refused, Unknown
from skill.providers.ownership import Claim, Ours, decide
from skill.providers.vast import client as vast
from skill.providers.vast import credentials
from skill.providers.vast.client import Client
from tests.vast_double import Double, Fault
from tests.vast_world import Box

DEPRECATED = {"success": False, "error": "deprecated_endpoint", "msg": "/api/v0/instances/ is deprecated."}
OFTEN = b"API requests too frequent: endpoint threshold=1.0"
CREATE = {"image": "an/image", "disk": 20.0, "label": "wq-x", "runtype": "ssh_direct", "cancel_unavail": True}


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as made:
        yield made


@pytest.fixture
def waits() -> list[float]:
    """How long the client wanted to wait, each time; it does not."""
    return []


@pytest.fixture
def client(double: Double, waits: list[float]) -> Iterator[Client]:
    made = Client(credentials.Key(double.key, "a test"), double.url, waits.append)
    yield made
    made.close()


def known(outcome: Any) -> Any:
    assert not isinstance(outcome, Unknown), outcome
    return outcome


def ours(box: Box) -> Ours:
    """The proof for an instance that a worker names."""
    verdict = decide(Claim(box.id, None, named=True), Instance(box.id))
    assert isinstance(verdict, Ours)
    return verdict


def test_all_pages_are_read(double: Double, client: Client) -> None:
    boxes = [double.world.box() for _ in range(60)]
    assert [one.id for one in known(client.instances())] == [box.id for box in boxes]
    assert double.count("GET", "/api/v1/instances/") == 3


def test_a_row_with_nothing_but_an_id_is_one(double: Double, client: Client) -> None:
    nothing = dict.fromkeys(double.world.box().row())
    double.world.boxes.clear()
    page = {"success": True, "instances": [{**nothing, "id": 7, "news": {"a": [1]}}], "next_token": None}
    double.fault("GET", "/api/v1/instances/", Fault(200, page))
    (one,) = known(client.instances())
    assert (one.id, one.status, one.burn, addresses(one)) == (7, "provisioning", None, ())


@pytest.mark.parametrize(
    "fault",
    [
        Fault(410, DEPRECATED),
        Fault(401, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        Fault(404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        Fault(403, {"success": False, "error": "forbidden", "msg": "not in the scope of this key"}),
        Fault(500, b"<html>Internal Server Error</html>"),
        Fault(502, b""),
        Fault(429, OFTEN, {"Retry-After": "0"}),
        Fault(200, b"<html>log in to this network first</html>"),
        Fault(200, {"success": False, "error": "down", "msg": "try later"}),
        Fault(200, {"success": True}),
        Fault(200, {"success": True, "instances": None, "next_token": None}),
        Fault(200, {"success": True, "instances": {}, "next_token": None}),
        Fault(200, {"success": True, "instances": [{"label": "no id"}], "next_token": None}),
        Fault(200, {"success": True, "instances": [], "next_token": 5}),
        Fault(200, []),
        Fault(302, b"", {"Location": "https://example.org/"}),
        Fault(cut=True),
    ],
    ids=str,
)
def test_whatever_is_no_list_is_unknown_and_never_no_instances(double: Double, client: Client, fault: Fault) -> None:
    double.world.box()
    double.fault("GET", "/api/v1/instances/", fault, times=10)
    found = client.instances()
    assert isinstance(found, Unknown)
    assert found.reason
    double.heal()
    assert len(known(client.instances())) == 1


def test_a_redirect_is_not_followed_with_the_key(double: Double, client: Client) -> None:
    double.fault("GET", "/api/v1/instances/", Fault(307, b"", {"Location": f"{double.url}/api/v0/users/current/"}))
    assert isinstance(client.instances(), Unknown)
    assert double.count("GET", "/users/") == 0


def test_a_page_that_fails_makes_all_unknown(double: Double, client: Client) -> None:
    for _ in range(30):
        double.world.box()
    first: list[bool] = []
    ask = client._server.ask

    def once(request: Any) -> Any:
        if "after_token" in request.query and not first:
            first.append(True)
            double.fault("GET", "/api/v1/instances/", Fault(500, b"no"))
        return ask(request)

    client._server.ask = once  # type: ignore[method-assign]
    assert isinstance(client.instances(), Unknown)
    assert len(known(client.instances())) == 30


def test_a_list_without_an_end_is_refused(double: Double, client: Client) -> None:
    page = {"success": True, "instances": [{"id": 1}], "next_token": "again"}
    double.fault("GET", "/api/v1/instances/", Fault(200, page), times=10)
    found = client.instances()
    assert isinstance(found, Unknown)
    assert "twice" in found.reason
    assert double.count("GET", "/api/v1/instances/") == 2


def test_a_server_that_is_not_there_is_unknown(waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # nobody listens there, nor can while this one has it
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        found = Client(credentials.Key("0123456789abcdef", "a test"), url, waits.append).instances()
    assert isinstance(found, Unknown)
    assert found.kind == "unreachable"
    assert len(waits) == 1


@pytest.mark.parametrize(
    ("fault", "least"),
    [
        (Fault(429, OFTEN), 2.0),
        (Fault(429, {"detail": "API requests too frequent endpoint threshold=1.0"}, {"Retry-After": "7"}), 7.0),
        (Fault(429, {"success": False, "retry_after": 5}), 5.0),
        (Fault(429, OFTEN, {"Retry-After": "86400"}), 60.0),
        (Fault(503, b"busy"), 1.0),
    ],
)
def test_it_waits_as_told_and_asks_again(
    double: Double, client: Client, waits: list[float], fault: Fault, least: float
) -> None:
    double.fault("GET", "/api/v1/instances/", fault)
    assert known(client.instances()) == ()
    assert len(waits) == 1
    assert least <= waits[0] <= least * 1.2


def test_a_spent_quota_is_not_asked_against(double: Double, client: Client, waits: list[float]) -> None:
    spent = {"success": False, "error": "search_quota_exceeded", "msg": "daily quota"}
    double.fault("POST", "/bundles/", Fault(429, spent, {"X-RateLimit-Reset": "1800000000"}))
    found = client.offers({}, 10)
    assert isinstance(found, Unknown)
    assert waits == []


def test_one_instance(double: Double, client: Client) -> None:
    box = double.world.box(label="wq-a")
    path = f"/instances/{box.id}/"
    assert known(client.instance(box.id)).label == "wq-a"
    double.fault("GET", path, Fault(200, {"instances": [box.row()]}))
    assert known(client.instance(box.id)).id == box.id
    assert client.instance(box.id + 1) == Gone()
    double.fault("GET", path, Fault(404, {"success": False, "error": "no_such_instance", "msg": "not found"}))
    assert client.instance(box.id) == Gone()
    for fault in (
        Fault(404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}),
        Fault(404, b"nothing here"),
        Fault(410, DEPRECATED),
        Fault(200, {}),
        Fault(200, {"instances": {"id": box.id + 1}}),
    ):
        double.fault("GET", path, fault)
        assert isinstance(client.instance(box.id), Unknown), fault


def test_what_is_done(double: Double, client: Client) -> None:
    box = double.world.box()
    assert client.label(ours(box), "wq-b") == Done()
    assert box.label == "wq-b"
    before = addresses(known(client.instances())[0])
    assert client.set_state(ours(box), "stopped") == Done()
    (stopped,) = known(client.instances())
    assert (stopped.status, stopped.burn) == ("stopped", stopped.storage_dph)
    assert client.set_state(ours(box), "running") == Done()
    client.instances()
    (again,) = known(client.instances())
    assert again.status == "running"
    assert not set(before) & set(addresses(again)), "a start moves it"
    assert isinstance(client.attach_key(ours(box), "ssh-ed25519 AAAA me"), Done)
    assert box.keys == ["ssh-ed25519 AAAA me"]
    assert client.destroy(ours(box)) == Done()
    assert not isinstance(known(client.instance(box.id)), Gone), "a row lingers"
    assert client.instance(box.id) == Gone()
    assert isinstance(gone := client.destroy(ours(box)), Refused)
    assert gone.kind == "gone"


def test_a_start_that_waits_for_a_card_is_distinguished_from_others(double: Double, client: Client) -> None:
    box = double.world.box(["stopped"])
    box.is_card_taken = True
    found = client.set_state(ours(box), "running")
    assert isinstance(found, Refused)
    assert found.kind == "queued"
    assert known(client.instances())[0].status == "scheduling"


@pytest.mark.parametrize(
    ("state", "status", "bills"),
    [
        ("provisioning", "provisioning", "disk"),
        ("loading", "loading", "disk"),
        ("running", "running", "all"),
        ("frozen", "frozen", "all"),
        ("exited", "exited", "all"),
        ("unknown", "unknown", "all"),
        ("stopped", "stopped", "disk"),
        ("scheduling", "scheduling", "disk"),
        ("broken", "created", "disk"),
        ("offline", "offline", "nothing"),
    ],
)
def test_states_in_a_word_and_what_each_bills(
    double: Double, client: Client, state: str, status: str, bills: str
) -> None:
    double.world.box([state])
    (one,) = known(client.instances())
    assert one.status == status
    assert one.burn == {"disk": one.storage_dph, "all": one.dph, "nothing": 0.0}[bills]


def test_a_deed_is_done_again_after_a_failure(double: Double, client: Client) -> None:
    box = double.world.box()
    double.fault("DELETE", "/instances/", Fault(502, b"", done=True))
    found = client.destroy(ours(box))
    assert isinstance(found, Refused)
    assert found.kind == "gone", "the first had arrived"


def test_a_create_and_its_three_ends(double: Double, client: Client, waits: list[float]) -> None:
    offer = double.world.offer()["id"]
    made = client.create(offer, CREATE)
    assert isinstance(made, Created)
    assert double.world.boxes[made.instance_id].label == "wq-x"
    for status in (400, 404, 410):
        double.world.no_such_ask = status
        taken = client.create(offer, CREATE)
        assert isinstance(taken, Refused)
        assert (taken.kind, taken.instance_id) == ("no_offer", None)
    other = double.world.offer()["id"]
    double.fault("PUT", "/asks/", Fault(400, {"success": False, "error": "invalid_price", "new_contract": 77}))
    half = client.create(other, CREATE)
    assert isinstance(half, Refused)
    assert half.instance_id == 77, "an instance that has to be destroyed"
    double.fault("PUT", "/asks/", Fault(429, OFTEN), times=4)
    assert isinstance(late := client.create(other, CREATE), Refused)
    assert late.kind == "throttled"
    assert len(waits) == 3, "as every other request is asked again"
    waits.clear()
    asked = double.count("PUT", "/asks/")
    for fault in (
        Fault(502, b"", done=True),
        Fault(200, {"success": True}),
        Fault(200, b"<html>"),
        Fault(404, b"<html>a page</html>"),
        Fault(cut=True),
    ):
        double.fault("PUT", "/asks/", fault)
        assert isinstance(client.create(other, CREATE), Unknown), fault
    assert double.count("PUT", "/asks/") == asked + 5, "sent once each, whatever came of it"
    assert waits == []
    assert len(double.world.boxes) == 2


def test_a_create_that_was_asked_too_often_is_asked_again_as_told(
    double: Double, client: Client, waits: list[float]
) -> None:
    double.fault("PUT", "/asks/", Fault(429, OFTEN, {"Retry-After": "5"}))
    double.fault("PUT", "/asks/", Fault(429, OFTEN))
    assert isinstance(client.create(double.world.offer()["id"], CREATE), Created)
    assert len(double.world.boxes) == 1
    assert 5 <= waits[0] <= 6
    assert waits[1] > 0


@pytest.mark.parametrize("number", [-1, 0, True, 1.5, "7", [7], 10**30, None])
def test_a_number_that_no_instance_has_is_not_believed(double: Double, client: Client, number: Any) -> None:
    offer = double.world.offer()["id"]
    double.fault("PUT", "/asks/", Fault(200, {"success": True, "new_contract": number}))
    assert isinstance(client.create(offer, CREATE), Unknown)
    double.fault("PUT", "/asks/", Fault(400, {"success": False, "error": "invalid_price", "new_contract": number}))
    assert isinstance(refused := client.create(offer, CREATE), Refused)
    assert refused.instance_id is None


@pytest.mark.parametrize("digits", [400, 5000])
def test_a_number_beyond_all_meaning_hides_no_row(double: Double, client: Client, digits: int) -> None:
    rows = [double.world.box().row() for _ in range(2)]
    double.world.boxes.clear()
    page = json.dumps({"success": True, "instances": rows, "next_token": None})
    price = json.dumps(rows[0]["dph_total"])
    body = page.replace(f'"dph_total": {price}', '"dph_total": 1' + "0" * digits, 1)
    assert body != page
    double.fault("GET", "/api/v1/instances/", Fault(200, body.encode()))
    first, second = known(client.instances())
    assert (first.dph, second.dph) == (None, rows[1]["dph_total"])
    assert (first.id, second.id) == (rows[0]["id"], rows[1]["id"])


def test_a_create_that_was_never_sent_was_refused() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        found = Client(credentials.Key("0123456789abcdef", "a test"), url, lambda _: None).create(1, CREATE)
    assert isinstance(found, Refused)
    assert found.kind == "unreachable"


def test_offers_come_in_pages_by_price(double: Double, client: Client) -> None:
    for number in range(150):
        double.world.offer(dph_base=round(0.1 + number // 2 * 0.002, 4))
    found = known(client.offers({"gpu_ram": {"gte": 20000}, "dph_total": {"lte": 9.0}}, 20))
    assert found.complete
    assert len(found.offers) == 150
    assert double.count("POST", "/bundles/") == 3
    for _ in range(64):
        double.world.offer(dph_base=0.05)
    assert not known(client.offers({}, 20)).complete, "64 of one price hide the rest"


def test_offers_that_are_no_list_are_unknown(double: Double, client: Client) -> None:
    for body in ({}, {"offers": None}, {"offers": {"id": 1}}, {"offers": ["x"]}, b"{"):
        double.fault("POST", "/bundles/", Fault(200, body))
        assert isinstance(client.offers({}, 10), Unknown), body


def test_addresses_of_an_instance(double: Double, client: Client) -> None:
    double.world.box(public_ipaddr=" 203.0.113.7 ", ssh_host="ssh5.vast.ai", ssh_port=10600)
    double.world.box(ports=None, image_runtype="jupyter_proxy ssh_proxy", ssh_host="ssh6.vast.ai", ssh_port=10700)
    double.world.box(public_ipaddr="-oProxyCommand=reboot", ssh_host="a b", ports={"22/tcp": [{"HostPort": "99999"}]})
    first, second, third = known(client.instances())
    assert addresses(first)[0][:2] == ("direct", "203.0.113.7")
    assert addresses(first)[1] == Address("proxy", "ssh5.vast.ai", 10600)
    assert addresses(second) == (Address("proxy", "ssh6.vast.ai", 10701),)
    assert addresses(third) == ()
    double.breaches.clear()  # the third was no row that Vast.ai would show


def test_the_key_is_in_no_message_log_or_repr(
    double: Double, client: Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    double.world.box()
    echo = f"you sent Bearer {double.key}"
    double.fault("GET", "/instances/", Fault(500, {"success": False, "msg": echo}), times=9)
    double.fault("PUT", "/asks/", Fault(400, {"success": False, "error": "x", "msg": echo}), times=9)
    double.fault("GET", "/users/", Fault(403, echo.encode()), times=9)
    shown = [client.instances(), client.create(1, CREATE), client.user(), client.__dict__, client._server.ask]
    printed = "".join(capfd.readouterr())
    for text in [*map(repr, shown), caplog.text, printed]:
        assert double.key not in text
    assert "(key)" in repr(shown[0])


def test_a_key_with_something_else_in_it_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(UseError) as caught:
        credentials.find({"VAST_API_KEY": "secret-part\nwith more", "HOME": str(tmp_path)})
    assert "secret" not in str(caught.value)


def test_where_the_key_is_from(tmp_path: Path) -> None:
    def source(**values: str) -> str | None:
        found = credentials.find({"HOME": str(tmp_path), **values})
        return None if found is None else f"{found.secret} {found.source}"

    assert source() is None
    (tmp_path / ".vast_api_key").write_text("legacy-key\n")
    assert source() == f"legacy-key {tmp_path}/.vast_api_key"
    (tmp_path / ".config" / "vastai").mkdir(parents=True)
    (tmp_path / ".config" / "vastai" / "vast_api_key").write_text("command-key\n")
    assert source() == f"command-key {tmp_path}/.config/vastai/vast_api_key"
    assert source(XDG_CONFIG_HOME=str(tmp_path / "none")) == f"legacy-key {tmp_path}/.vast_api_key"
    assert source(VAST_API_KEY=" variable-key ") == "variable-key VAST_API_KEY"


@pytest.mark.parametrize(
    "url", ["http://console.vast.ai", "ftp://x", "console.vast.ai", "https://", "http://10.0.0.1:1"]
)
def test_a_server_that_would_read_the_key_in_clear_is_not_asked(url: str) -> None:
    with pytest.raises(UseError, match="VAST_URL"):
        credentials.server({"VAST_URL": url})


def test_without_a_key_it_says_where_to_put_one(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="VAST_API_KEY"):
        vast.connect({"HOME": str(tmp_path)})


def test_a_slow_server_is_given_up(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """It accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        slow = Client(
            credentials.Key(double.key, "a test"), f"http://127.0.0.1:{silent.getsockname()[1]}", lambda _: None
        )
        monkeypatch.setattr(slow._server, "timeout", 0.2)
        found = slow.create(1, CREATE)
    assert isinstance(found, Unknown)
    assert "did not answer" in found.reason


@pytest.mark.parametrize(
    "begins", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["status", "header", "body"]
)
def test_a_server_that_sends_a_byte_at_a_time_is_given_up(
    double: Double, monkeypatch: pytest.MonkeyPatch, begins: bytes
) -> None:
    over = threading.Event()

    def drip(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 16)
            connection.sendall(begins)
            while not over.wait(0.02):
                connection.sendall(b"1")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=drip, args=(listening,), daemon=True)
        thread.start()
        slow = Client(
            credentials.Key(double.key, "a test"), f"http://127.0.0.1:{listening.getsockname()[1]}", lambda _: None
        )
        monkeypatch.setattr(slow._server, "timeout", 0.5)
        begin = time.monotonic()
        found = slow.create(1, CREATE)
        assert time.monotonic() - begin < 60
        over.set()
        thread.join()
    assert isinstance(found, Unknown)
    assert "did not answer within 0.5 s" in found.reason


def test_the_shapes_see_what_the_description_does_not_have(double: Double, client: Client) -> None:
    """Of the double itself: what it is held against would notice."""
    client.create(1, {"image": "x", "env": "-e A=1", "disk": 4})
    assert any("env" in breach for breach in double.breaches)
    assert any("disk" in breach for breach in double.breaches)
    double.breaches.clear()
    double.world.box(actual_status="fine")
    client.instances()
    assert any("actual_status" in breach for breach in double.breaches), json.dumps(double.breaches)
    double.breaches.clear()
