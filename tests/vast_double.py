"""A double of Vast.ai: a real HTTP server on loopback, with its paths, its quirks and, where asked, its faults.

What goes in and out is held against tests/data/vast/*.json, which say in short what the official description says;
`close` raises where anything broke it. A client is pointed to it by VAST_URL and VAST_API_KEY (`environment`).
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import jsonschema

from tests.vast_world import PAGE, Box, Hosts, World, keeps

KEY = "account-key-0123456789abcdef"
SHAPES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parent / "data" / "vast").glob("*.json"))
}
_COMPUTED = frozenset({"dph_total", "num_gpus", "ssh_host", "ssh_port", "duration"})
"""Columns of instances that no list can be filtered by."""


class Fault(NamedTuple):
    """What goes wrong with a request: another answer, or none (`cut`). `done`: it is carried out all the same."""

    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = {}
    done: bool = False
    cut: bool = False


class Asked(NamedTuple):
    """One request that came, without its key, and what it was answered with."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    status: int


class _Answer(NamedTuple):
    status: int
    body: Any


class Double:
    """The server; runs from when it is made until `close`. Tests change `world` between requests."""

    def __init__(self, hosts: Hosts | None = None, key: str = KEY) -> None:
        self.world, self.key = World(hosts), key
        self.asked: list[Asked] = []
        self.breaches: list[str] = []
        """Where a request or an answer was not as the description has it."""
        self.wrong_key = _Answer(401, {"success": False, "error": "auth_error", "msg": "Invalid user key"})
        self._faults: list[tuple[str, re.Pattern[str], Fault]] = []
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here."""
        return {"VAST_URL": self.url, "VAST_API_KEY": self.key}

    def fault(self, method: str, path: str, fault: Fault, times: int = 1) -> None:
        """The next requests of this kind go wrong. `path`: a regular expression, found anywhere in it."""
        with self._lock:
            self._faults += [(method, re.compile(path), fault)] * times

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._faults.clear()

    def count(self, method: str, path: str) -> int:
        """How many requests of a kind came."""
        with self._lock:
            return sum(one.method == method and bool(re.search(path, one.path)) for one in self.asked)

    def close(self) -> None:
        """End it. Raises AssertionError where anything was not as the description has it."""
        self._is_closed = True
        socket.create_connection(("127.0.0.1", self._server.server_port)).close()  # it waits for one
        self._thread.join()
        self._server.server_close()
        assert not self.breaches, "\n".join(self.breaches)

    def _serve(self) -> None:
        """What serve_forever does, which would wake up many times a second to see whether it is to end."""
        while not self._is_closed:
            self._server.handle_request()

    def __enter__(self) -> Double:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    # -- one request --------------------------------------------------------------------------------------------------

    def handle(self, method: str, target: str, key: str, raw: bytes) -> tuple[Fault | None, _Answer]:
        """Answer a request, and note it."""
        parts = urlsplit(target)
        path, query = parts.path.rstrip("/") + "/", dict(parse_qsl(parts.query, keep_blank_values=True))
        body = json.loads(raw) if raw else None
        with self._lock:
            fault = next((row for row in self._faults if row[0] == method and row[1].search(path)), None)
            answer = _Answer(0, None)
            if fault is not None:
                self._faults.remove(fault)
            if fault is None or fault[2].done:
                answer = self._answer(method, path, query, key, body)
            wrong = fault[2] if fault is not None else None
            status = answer.status if wrong is None else 0 if wrong.cut else wrong.status
            self.asked.append(Asked(method, path, query, body, status))
        return wrong, answer

    def _answer(self, method: str, path: str, query: dict[str, str], key: str, body: Any) -> _Answer:
        for name, wanted, pattern, act in _ROUTES:
            found = pattern.fullmatch(path) if method == wanted else None
            if found is None:
                continue
            number = int(found["id"]) if "id" in pattern.groupindex else 0
            if name not in _OPEN and not self._lets_in(key, method, number):
                return self.wrong_key
            shape = SHAPES.get(name)
            if shape is not None:
                self._check(f"{method} {path}: query", query, shape["query"])
                if shape["request"] is not None:
                    self._check(f"{method} {path}: request", body, shape["request"])
            answer = act(self, number, query, body if isinstance(body, dict) else {})
            if shape is not None:
                is_well = answer.status == 200
                self._check(f"{method} {path}: answer", answer.body, (shape if is_well else SHAPES["error"])["answer"])
            return answer
        self.breaches.append(f"{method} {path}: there is no such path")
        return _Answer(404, {"success": False, "error": "not_found", "msg": "no such endpoint"})

    def _lets_in(self, key: str, method: str, number: int) -> bool:
        """The account's key may all; an instance's own may look at it, stop, start and destroy it."""
        if key == self.key:
            return True
        box = self.world.boxes.get(number)
        return box is not None and key == box.api_key and method in ("GET", "PUT", "DELETE")

    def _check(self, where: str, found: Any, shape: Any) -> None:
        faults = jsonschema.Draft202012Validator(shape).iter_errors(found)
        self.breaches += [f"{where}: {fault.json_path}: {fault.message[:300]}" for fault in faults]

    # -- what each path does -----------------------------------------------------------------------------------------

    def _list(self, _number: int, query: dict[str, str], _body: dict[str, Any]) -> _Answer:
        filters = json.loads(query.get("select_filters") or "{}")
        bad = next((name for name in filters if name in _COMPUTED), None)
        if bad is not None:
            return _fault(400, "invalid_request", f"Error in query parameters: {bad} is not a valid search key")
        limit = int(query.get("limit") or PAGE)
        limit = 5 if limit <= 0 else min(PAGE, limit)
        after = 0
        if query.get("after_token"):
            try:
                after = int(json.loads(base64.b64decode(query["after_token"]))["id"])
            except (ValueError, KeyError, TypeError):
                return _fault(400, "invalid_token", "the token is none")
        meant = [box for number, box in sorted(self.world.boxes.items()) if keeps({**box.row(), "id": number}, filters)]
        left = [box for box in meant if box.id > after]
        page = left[:limit]
        token = base64.b64encode(json.dumps({"id": page[-1].id}).encode()).decode() if len(left) > limit else None
        rows = [self.world.shown(box) for box in page]
        columns = json.loads(query.get("select_cols") or '["*"]')
        if "*" not in columns:
            rows = [{name: row.get(name) for name in dict.fromkeys(["id", *columns])} for row in rows]
        return _Answer(
            200,
            {
                "success": True, "instances_found": len(rows), "total_instances": len(meant),
                "label_counts": self.world.labels(), "next_token": token, "instances": rows,
            },
        )  # fmt: skip

    def _show(self, number: int, _query: dict[str, str], _body: dict[str, Any]) -> _Answer:
        box = self.world.boxes.get(number)
        return _Answer(200, {"instances": None if box is None else self.world.shown(box)})

    def _filters(self, *_rest: Any) -> _Answer:
        names = ("actual_status", "verification", "gpu_name")
        rows = [box.row() for box in self.world.boxes.values()]
        return _Answer(200, {"filters": [{name: row[name] for name in names} for row in rows]})

    def _search(self, _number: int, _query: dict[str, str], body: dict[str, Any]) -> _Answer:
        return _Answer(200, {"offers": self.world.search(body)})

    def _create(self, number: int, _query: dict[str, str], body: dict[str, Any]) -> _Answer:
        made = self.world.create(number, body)
        if isinstance(made, Box):
            return _Answer(200, {"success": True, "new_contract": made.id, "instance_api_key": made.api_key})
        status, error, words = made
        return _Answer(status, {"success": False, "error": error, "msg": words, "ask_id": number})

    def _manage(self, number: int, _query: dict[str, str], body: dict[str, Any]) -> _Answer:
        box = self._alive(number)
        if box is None:
            return _fault(404, "no_such_instance", f"Instance {number} not found")
        if "label" in body:
            box.label = body["label"]
        if body.get("state") == "stopped":
            self.world.stop(box)
        elif body.get("state") == "running" and not self.world.start(box):
            words = "Required resources are currently unavailable, state change queued."
            return _Answer(200, {"success": False, "error": "resources_unavailable", "msg": words})
        return _Answer(200, {"success": True})

    def _destroy(self, number: int, *_rest: Any) -> _Answer:
        box = self._alive(number)
        if box is None:
            return _fault(404, "no_such_instance", f"Instance {number} not found")
        self.world.destroy(box)
        return _Answer(200, {"success": True})

    def _reboot(self, number: int, *_rest: Any) -> _Answer:
        box = self._alive(number)
        if box is None:
            return _fault(404, "no_such_instance", f"Instance {number} not found")
        self.world.stop(box)
        self.world.start(box)
        return _Answer(200, {"success": True})

    def _attach(self, number: int, _query: dict[str, str], body: dict[str, Any]) -> _Answer:
        box = self._alive(number)
        if box is None:
            return _fault(404, "no_such_instance", f"Instance {number} not found")
        self.world.attach(box, body["ssh_key"])
        return _Answer(200, {"success": True, "msg": "SSH key attached successfully"})

    def _user(self, *_rest: Any) -> _Answer:
        return _Answer(200, {"id": 42, "email": "ana@example.org", "credit": self.world.credit, "balance": 0.0})

    def _names(self, *_rest: Any) -> _Answer:
        return _Answer(200, {"gpu_names": sorted({row["gpu_name"] for row in self.world.offers.values()})})

    def _types(self, *_rest: Any) -> _Answer:
        return _fault(404, "not_found", "no such endpoint")

    def _alive(self, number: int) -> Box | None:
        box = self.world.boxes.get(number)
        return box if box is not None and box.lingers is None else None


def _fault(status: int, error: str, words: str) -> _Answer:
    return _Answer(status, {"success": False, "error": error, "msg": words})


_OPEN = frozenset({"names", "types"})
_NUMBER = r"(?P<id>\d+)"
_ROUTES: tuple[tuple[str, str, re.Pattern[str], Callable[..., _Answer]], ...] = tuple(
    (name, method, re.compile(path), act)
    for name, method, path, act in (
        ("list", "GET", r"/api/v1/instances/", Double._list),
        ("filters", "GET", r"/api/v0/instances/filters/", Double._filters),
        ("show", "GET", rf"/api/v0/instances/{_NUMBER}/", Double._show),
        ("manage", "PUT", rf"/api/v0/instances/{_NUMBER}/", Double._manage),
        ("destroy", "DELETE", rf"/api/v0/instances/{_NUMBER}/", Double._destroy),
        ("reboot", "PUT", rf"/api/v0/instances/reboot/{_NUMBER}/", Double._reboot),
        ("attach", "POST", rf"/api/v0/instances/{_NUMBER}/ssh/", Double._attach),
        ("search", "POST", r"/api/v0/bundles/", Double._search),
        ("create", "PUT", rf"/api/v0/asks/{_NUMBER}/", Double._create),
        ("user", "GET", r"/api/v0/users/current/", Double._user),
        ("names", "GET", r"/api/v0/gpu_names/unique/", Double._names),
        ("types", "GET", r"/api/v0/gpu_types/", Double._types),
    )
)


def _handler(double: Double) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def log_message(self, *_rest: Any) -> None:
            pass

        def _go(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(size)
            if len(raw) < size:  # whoever asked was killed in the middle of it
                self.close_connection = True
                return
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            fault, answer = double.handle(self.command, self.path, key, raw)
            if fault is not None and fault.cut:
                self.close_connection = True
                return
            status, body = (answer.status, answer.body) if fault is None else (fault.status, fault.body)
            # Exactly so: the official command takes no search whose type names a character set as well.
            headers = {"Content-Type": "application/json", **(fault.headers if fault is not None else {})}
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _go  # noqa: N815

    return Handler
