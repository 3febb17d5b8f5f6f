"""An instance ends itself: the requests, over real HTTP, against the double of Vast.ai and its faults."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from queue_manager.adapters import vast, vast_send
from queue_manager.adapters.vast import Reply
from queue_manager.core.layout import HostPaths, RunPaths
from queue_manager.core.machine import Container, Other
from queue_manager.core.model import QueueState
from queue_manager.core.readings import Unreadable
from queue_manager.teardown import Ending, Teardown
from tests.core.states import manifest, spec
from tests.vast_double import Double, Fault
from tests.vast_world import Box

OFTEN = Fault(429, b"API requests too frequent: endpoint threshold=3.0")


@pytest.fixture
def double() -> Iterator[Double]:
    with Double() as made:
        yield made


@pytest.fixture
def box(double: Double) -> Box:
    return double.world.box()


@pytest.fixture
def inside(double: Double, box: Box, tmp_path: Path) -> dict[str, str]:
    """The environment of a manager on that instance."""
    return inside_of(tmp_path, double.url, box.id, box.api_key)


def inside_of(root: Path, url: str, instance: int, key: str) -> dict[str, str]:
    (root / "1").mkdir(exist_ok=True)
    (root / "1" / "environ").write_bytes(f"CONTAINER_ID={instance}\0CONTAINER_API_KEY={key}\0".encode())
    return {"WAVEQUEUE_PROC": str(root), "VAST_URL": url}


def tries(ending: Ending, most: int = 10) -> list[str]:
    """Try until it is confirmed; the complaints before."""
    complaints: list[str] = []
    for _ in range(most):
        fault = ending.once(threading.Event())
        if fault is None:
            return complaints
        complaints.append(fault)
    raise AssertionError(complaints)


def ending(plan: str, box: Box, inside: Mapping[str, str]) -> Ending:
    return Ending(plan, box.id, inside, pace=0.01)


def changes(double: Double) -> list[tuple[str, object]]:
    return [(one.method, one.body) for one in double.asked if one.method != "GET"]


def test_a_stop_is_asked_for_once_and_confirmed_by_id(double: Double, box: Box, inside: dict[str, str]) -> None:
    assert tries(ending("stop", box, inside)) == []
    assert box.state == "stopped"
    assert changes(double) == [("PUT", {"state": "stopped"})]


def test_a_destroy_is_asked_for_once_and_confirmed_by_id(double: Double, box: Box, inside: dict[str, str]) -> None:
    """The instance is shown once more after it; then its own key has gone with it."""
    assert tries(ending("destroy", box, inside)) == []
    assert double.world.boxes == {}
    assert changes(double) == [("DELETE", {})]


@pytest.mark.parametrize("plan", ["stop", "destroy"])
@pytest.mark.parametrize(
    "fault",
    [
        OFTEN,
        Fault(500),
        Fault(502, b"<html>bad gateway</html>"),
        Fault(200, {"success": False, "msg": "no"}),
        Fault(cut=True),
    ],
    ids=["429", "500", "502", "success_false", "cut"],
)
def test_what_is_not_answered_well_is_tried_again(
    double: Double, box: Box, inside: dict[str, str], plan: str, fault: Fault
) -> None:
    method = "PUT" if plan == "stop" else "DELETE"
    double.fault(method, "/instances/", fault, times=2)
    complaints = tries(ending(plan, box, inside))
    assert len(complaints) == 2
    assert len(changes(double)) == 3
    assert all(box.api_key not in complaint for complaint in complaints)


@pytest.mark.parametrize(("plan", "asked"), [("stop", 1), ("destroy", 2)])
def test_a_deed_whose_answer_was_lost_is_found_done(
    double: Double, box: Box, inside: dict[str, str], plan: str, asked: int
) -> None:
    """What was destroyed is shown once more, and then asked for again, which does no harm."""
    double.fault("PUT" if plan == "stop" else "DELETE", "/instances/", Fault(cut=True, done=True))
    assert len(tries(ending(plan, box, inside))) == asked
    assert len(changes(double)) == asked
    assert box.state == "stopped" if plan == "stop" else double.world.boxes == {}


def test_a_query_that_cannot_be_had_confirms_nothing(double: Double, box: Box, inside: dict[str, str]) -> None:
    double.fault("GET", "/instances/", Fault(500, b"no"), times=4)
    (complaint,) = tries(ending("stop", box, inside))
    assert complaint == "Vast.ai answered 500: no"


def test_what_another_manager_has_done_is_only_confirmed(double: Double, box: Box, inside: dict[str, str]) -> None:
    double.world.stop(box)
    assert tries(ending("stop", box, inside)) == []
    assert changes(double) == []


def test_a_key_that_is_none_confirms_nothing(double: Double, box: Box, tmp_path: Path) -> None:
    inside = inside_of(tmp_path, double.url, box.id, "no-such-key")
    for _ in range(3):
        assert ending("destroy", box, inside).once(threading.Event()) == "Vast.ai answered 401: Invalid user key"
    assert box.id in double.world.boxes


def test_another_instance_is_never_asked_about(double: Double, box: Box, tmp_path: Path) -> None:
    other = double.world.box()
    inside = inside_of(tmp_path, double.url, other.id, other.api_key)
    fault = ending("destroy", box, inside).once(threading.Event())
    assert fault == f"this machine no longer identifies itself as instance {box.id}"
    assert double.asked == []


def test_what_is_wanted_no_longer_is_not_done(double: Double, box: Box, inside: dict[str, str]) -> None:
    stir = threading.Event()
    stir.set()
    assert ending("destroy", box, inside).once(stir) == "it is no longer wanted"
    assert changes(double) == []


def test_process_1_is_asked_and_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTAINER_ID", "1")
    monkeypatch.setenv("CONTAINER_API_KEY", "k")
    assert isinstance(vast.container({"WAVEQUEUE_PROC": str(tmp_path)}), Unreadable)
    inside_of(tmp_path, "", 4711, "secret")
    assert vast.container({"WAVEQUEUE_PROC": str(tmp_path)}) == Container(4711, "secret")
    assert vast.server({}) == "https://console.vast.ai"


@pytest.mark.parametrize(
    ("status", "body", "gone"),
    [
        (200, {"instances": None}, True),
        (200, {"instances": []}, True),
        (404, {"success": False, "error": "no_such_instance", "msg": "no"}, True),
        (404, {"success": False, "error": "auth_error", "msg": "Invalid user key"}, None),
        (404, "not found", None),
        (410, {"success": False, "error": "deprecated_endpoint"}, None),
        (200, {"success": True}, None),
        (200, {"instances": {"id": 1, "intended_status": "running", "cur_state": "running"}}, False),
        (200, {"instances": [{"id": 1, "intended_status": "stopped"}]}, False),
        (200, {"instances": 7}, None),
        (200, [], None),
    ],
)
def test_only_a_plain_answer_says_that_an_instance_has_gone(status: int, body: object, gone: bool | None) -> None:
    found = vast.parse_query(Reply(status, json.dumps(body).encode()), "destroy")
    assert found is gone if gone is not None else isinstance(found, Unreadable)


def test_a_stopped_instance_whose_start_is_queued_is_not_stopped() -> None:
    row = {"intended_status": "running", "cur_state": "stopped", "actual_status": "exited"}
    assert vast.parse_query(Reply(200, json.dumps({"instances": row}).encode()), "stop") is False


def test_the_key_follows_no_redirect_and_is_in_no_complaint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, double: Double, box: Box
) -> None:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", double.url + self.path)
            self.send_header("X", "y")
            self.end_headers()
            self.wfile.write((self.headers["Authorization"] or "").encode())

        do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        inside = inside_of(tmp_path, f"http://127.0.0.1:{server.server_address[1]}", box.id, box.api_key)
        with caplog.at_level(logging.DEBUG):
            fault = ending("destroy", box, inside).once(threading.Event())
        assert fault == "Vast.ai answered 307: Bearer ***"
        assert box.api_key not in caplog.text
        assert double.asked == []
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_is_not_there_is_reported() -> None:
    found = vast_send.send("http://127.0.0.1:1", "key", vast.build_query(1))
    assert isinstance(found, Unreadable)
    assert found.reason.startswith("http://127.0.0.1:1 cannot be reached: ")


def test_a_machine_stays_while_it_cannot_be_determined_who_else_works_on_it(tmp_path: Path) -> None:
    home = HostPaths.of(tmp_path / "home")
    home.root.mkdir(parents=True)
    home.runs.write_text("no directory")
    paths = RunPaths.of(tmp_path / "run")
    paths.root.mkdir()
    state = QueueState(manifest(spec("a"), when_done="destroy"))
    guard = Teardown(paths, state, home, {}, str(tmp_path), 1.0, lambda: None, lambda: ())
    found = guard.look(1.0, rung=True)
    assert found is not None
    assert found.others == (Other(f"unknown ({home.runs}: Not a directory)", busy=True, left=False, safe=True),)
    home.runs.unlink()
    other = RunPaths.of(home.runs / "r")
    other.lock.mkdir(parents=True)  # a lock that cannot be read may be held
    other.journal.write_text("")
    found = guard.look(2.0, rung=True)
    assert found is not None
    assert found.others is not None
    assert [(one.run_id, one.busy) for one in found.others] == [("r", True)]
