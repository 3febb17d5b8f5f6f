"""A webhook receiver on loopback: what it was sent, and how it answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Got(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver(ThreadingHTTPServer):
    """`got`: the requests that were answered with 2xx; `refused`: the others. `status` and `said` are its answers."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.got: list[Got] = []
        self.refused: list[Got] = []
        self.status, self.reply_body, self.headers = 200, b"", dict[str, str]()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        one = Got(self.path, dict(self.headers.items()), body)
        (self.server.got if self.server.status < 300 else self.server.refused).append(one)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.reply_body)

    def do_GET(self) -> None:
        self.server.got.append(Got(self.path, dict(self.headers.items()), b"GET"))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver that answers, on this port or any."""
    server = Receiver(port)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
