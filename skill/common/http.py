"""HTTP: send one request; return its reply, or why there is none. Owns httpx.

No message holds a header, since keys travel in them. A redirect is an answer like others: a key follows none.
"""

from __future__ import annotations

import functools
import ipaddress
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from queue_manager.core.terminal_text import one_line
from skill import __version__
from skill.common.errors import UseError

if TYPE_CHECKING:
    import ssl

    import httpx

CONNECT = 10.0
"""Seconds until a server has to take the connection."""
ANSWER = 30.0
"""Seconds until its whole answer has to be here."""
_LIMIT = 64 << 20
_SHORTEST = 8
"""A key of fewer characters is none, and taking it out of texts would leave nothing of them."""


class Request(NamedTuple):
    """A request. `again`: it may be sent twice even if the first may have arrived."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Mapping[str, Any] | None = None
    again: bool = True


class Reply(NamedTuple):
    """A server's reply. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(NamedTuple):
    """Why there is no reply. `sent`: the request may have arrived."""

    reason: str
    sent: bool


class Server:
    """A server and the headers that each request to it carries. Threads may share it."""

    def __init__(self, base: str, headers: Mapping[str, str], timeout: float = ANSWER) -> None:
        self.base, self.timeout = base, timeout
        self._headers = {"User-Agent": f"wavequeue/{__version__}", "Accept": "application/json", **headers}
        self._client: httpx.Client | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The server as messages call it."""
        return urlsplit(self.base).netloc.rpartition("@")[2]

    def ask(self, request: Request) -> Reply | NoReply:
        """Send a request once. The whole answer, its headers too, has to be here within `timeout`."""
        exchange = _Exchange(self, request)
        exchange.start()
        exchange.join(self.timeout)
        if exchange.is_alive():
            # It is left to itself, with its connection: a server may send a byte at a time forever.
            with self._lock:
                self._client = None
            return self._late()
        if exchange.error is not None:
            raise exchange.error
        assert exchange.reply is not None
        return exchange.reply

    def _late(self) -> NoReply:
        return NoReply(f"{self.name} did not answer within {self.timeout:g} s", sent=True)

    def exchange(self, request: Request) -> Reply | NoReply:
        """Send a request, and read until the end of what comes."""
        import httpx  # a tenth of a second that local verbs need not pay

        until = time.monotonic() + self.timeout
        try:
            with self._open().stream(
                request.method, self.base + request.path, params=dict(request.query) or None, json=request.body
            ) as found:
                parts, size = [], 0
                for part in found.iter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > _LIMIT:
                        return NoReply(f"{self.name} answered with more than {_LIMIT >> 20} MiB", sent=True)
                    if time.monotonic() > until:
                        return self._late()
                headers = {name.lower(): value for name, value in found.headers.items()}
                return Reply(found.status_code, headers, b"".join(parts))
        except (httpx.ConnectTimeout, httpx.PoolTimeout):
            return NoReply(f"{self.name} did not accept a connection within {CONNECT:g} s", sent=False)
        except httpx.ConnectError as error:
            return NoReply(f"{self.name} cannot be reached ({_plain(error)})", sent=False)
        except httpx.TimeoutException:
            return self._late()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return NoReply(f"the connection to {self.name} was lost ({_plain(error)})", sent=True)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _open(self) -> httpx.Client:
        import httpx

        with self._lock:
            if self._client is None:
                timeout = httpx.Timeout(self.timeout, connect=CONNECT)
                self._client = httpx.Client(
                    headers=self._headers,
                    timeout=timeout,
                    follow_redirects=False,
                    verify=_trust(urlsplit(self.base).scheme == "https"),
                )
            return self._client


@functools.cache
def _trust(has_tls: bool) -> ssl.SSLContext:
    """Return whose certificates are trusted, read once in a process: that takes longer than most requests. Nobody's
    where there is no TLS."""
    import ssl

    import httpx

    return httpx.create_ssl_context() if has_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class _Exchange(threading.Thread):
    """One request and its reply, which can be waited for no longer than one wants."""

    def __init__(self, server: Server, request: Request) -> None:
        super().__init__(daemon=True)
        self._server, self._request = server, request
        self.reply: Reply | NoReply | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.reply = self._server.exchange(self._request)
        except BaseException as error:  # raised where it was asked
            self.error = error


def base_url(text: str, where: str) -> str:
    """An address of a server as requests begin with it. `where`: where it is from. Raises UseError.

    Without TLS only this machine may be meant: a key would travel for all to read.
    """
    try:
        parts = urlsplit(text.strip())
        host, scheme, _ = parts.hostname or "", parts.scheme.lower(), parts.port
    except ValueError:
        host, scheme, parts = "", "", urlsplit("")
    if scheme not in ("http", "https") or not host or parts.query or parts.fragment or parts.username:
        raise UseError(f"{where} is not the address of a server; write it as https://NAME")
    if scheme == "http" and not _is_here(host):
        raise UseError(f"{where} leads to {host} without encryption, which would show your key; write it as https://")
    return text.strip().rstrip("/")


def key_fault(key: str) -> str | None:
    """Say why a text cannot be a key, without showing it; None if it can."""
    if len(key) < _SHORTEST:
        return f"is shorter than {_SHORTEST} characters"
    if not all("!" <= character <= "~" for character in key):
        return "contains characters that no key has"
    return None


def without(text: str, key: str) -> str:
    """A text with the key taken out of it: a server may say again what it was sent."""
    return text.replace(key, "(key)") if len(key) >= _SHORTEST else text


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _plain(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return one_line(line, 200)
