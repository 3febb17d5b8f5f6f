"""`doctor` against real servers on loopback: which keys are taken, and that none is ever shown."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.laptop import Laptop
from tests.vast_double import Double, Fault

KEYS = {
    "VAST_API_KEY": "vast-key-0123456789",
    "WANDB_API_KEY": "wandb-key-0123456789",
    "HF_TOKEN": "hf_0123456789abcdef",
    "GITHUB_TOKEN": "ghp_0123456789abcdef",
}
BASES = {"WANDB_BASE_URL": "", "HF_ENDPOINT": "/hf", "GITHUB_API_URL": "/gh"}


class Services:
    """W&B, Hugging Face and GitHub in one server, as far as they tell whose key it is. `broken`: all answer 500."""

    def __init__(self) -> None:
        self.is_broken = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        base = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {name: base + path for name, path in BASES.items()}

    def _answer(self, path: str, answer: str) -> tuple[int, Any]:
        basic = "Basic " + base64.b64encode(f"api:{KEYS['WANDB_API_KEY']}".encode()).decode()
        if self.is_broken:
            return 500, {"message": f"you sent {answer}"}
        if path == "/graphql":
            return 200, {"data": {"viewer": {"username": "ana"} if answer == basic else None}}
        if path == "/hf/api/whoami-v2":
            return (200, {"name": "ana"}) if answer == f"Bearer {KEYS['HF_TOKEN']}" else (401, {"error": "Invalid"})
        if path == "/gh/rate_limit":
            return (200, {"rate": {}}) if answer == f"Bearer {KEYS['GITHUB_TOKEN']}" else (401, {"message": "Bad"})
        return 404, {}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        services = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_rest: Any) -> None:
                pass

            def _go(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, body = services._answer(self.path, self.headers.get("Authorization") or "")
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _go  # noqa: N815

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Desk:
    """A laptop, and the servers that its doctor asks."""

    def __init__(self, root: Path) -> None:
        self.laptop, self.services, self.double = Laptop(root), Services(), Double(key=KEYS["VAST_API_KEY"])
        nobody = dict.fromkeys(("HUGGING_FACE_HUB_TOKEN", "GH_TOKEN", "HF_HOME", "HF_TOKEN_PATH", "NETRC"), "")
        self.where = {**nobody, **self.services.environment, "VAST_URL": self.double.url}
        self.set(**KEYS)

    def set(self, **keys: str) -> None:
        """The keys that there are in the environment."""
        self.laptop.environment = {**self.where, **dict.fromkeys(KEYS, ""), **keys}

    def ask(self, code: int) -> dict[str, tuple[str, str | None]]:
        """Status and source by service; no output may show a key."""
        out, err = self.laptop.call("doctor", "--json", code=code)
        document, words = self.laptop.call("doctor", code=code)
        for key in KEYS.values():
            assert key not in out + err + document + words
        return {row["service"]: (row["status"], row["source"]) for row in json.loads(out)["keys"]}

    def close(self) -> None:
        self.services.close()
        self.double.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_keys_that_are_taken_and_keys_that_are_not(desk: Desk) -> None:
    assert desk.ask(0) == {
        "Vast.ai": ("ok", "VAST_API_KEY"),
        "W&B": ("ok", "WANDB_API_KEY"),
        "Hugging Face": ("ok", "HF_TOKEN"),
        "GitHub": ("ok", "GITHUB_TOKEN"),
    }
    desk.set(**{name: "wrong-" + key for name, key in KEYS.items()})
    assert {status for status, _ in desk.ask(1).values()} == {"invalid"}
    desk.set(**{name: key + " x" for name, key in KEYS.items()})
    assert {status for status, _ in desk.ask(1).values()} == {"invalid"}, "no key has a blank in it, and none is sent"


def test_a_server_that_fails_says_nothing_of_a_key(desk: Desk) -> None:
    desk.services.is_broken = True
    desk.double.fault("GET", "/users/", Fault(500, b"no"), times=20)
    assert {status for status, _ in desk.ask(1).values()} == {"unreachable"}


def test_a_key_that_is_not_there_is_no_fault_unless_it_is_needed(desk: Desk) -> None:
    desk.set()
    assert {status for status, _ in desk.ask(0).values()} == {"missing"}
    (desk.laptop.project / "workers.yaml").write_text("workers:\n  v: {ssh: {host: 192.0.2.1}, instance_id: 7}\n")
    assert desk.ask(1)["Vast.ai"] == ("missing", None)


def test_keys_are_found_where_each_service_keeps_them(desk: Desk) -> None:
    desk.set()
    home = desk.laptop.home
    (desk.laptop.project / ".env").write_text(f"export GITHUB_TOKEN='{KEYS['GITHUB_TOKEN']}'\n")
    (home / ".cache" / "huggingface").mkdir(parents=True)
    (home / ".cache" / "huggingface" / "token").write_text(KEYS["HF_TOKEN"])
    (home / ".netrc").write_text(f"machine 127.0.0.1\n  login user\n  password {KEYS['WANDB_API_KEY']}\n")
    (home / ".netrc").chmod(0o600)
    (home / ".config" / "vastai").mkdir(parents=True)
    (home / ".config" / "vastai" / "vast_api_key").write_text(KEYS["VAST_API_KEY"] + "\n")
    found = desk.ask(0)
    assert {status for status, _ in found.values()} == {"ok"}
    assert found["GitHub"][1] == "GITHUB_TOKEN in .env"
    assert found["Hugging Face"][1] == str(home / ".cache" / "huggingface" / "token")
