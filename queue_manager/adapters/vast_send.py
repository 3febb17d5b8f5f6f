"""Send one request to Vast.ai; with urllib, since a host has nothing else. Apart from `vast`, since a manager that is
on no rented machine never uses it, and would start later for it."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from queue_manager.adapters.vast import Call, Reply
from queue_manager.core.readings import Unreadable

TIMEOUT = 30.0
"""Seconds for one request."""
MOST = 1 << 20
"""Bytes of an answer that are read."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that sends us elsewhere is not followed: the key would go there as well."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def send(base: str, key: str, call: Call, timeout: float = TIMEOUT) -> Reply | Unreadable:
    """Send one request. What could not be had is Unreadable; its reason never holds the key."""
    data = None if call.body is None else json.dumps(call.body).encode()
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "Content-Type": "application/json"}
    try:
        request = urllib.request.Request(base + call.path, data, headers, method=call.method)
        with _OPENER.open(request, timeout=timeout) as answer:
            return _without(key, Reply(answer.status, answer.read(MOST)))
    except urllib.error.HTTPError as error:
        with error:
            try:
                return _without(key, Reply(error.code, error.read(MOST)))
            except (OSError, http.client.HTTPException):
                return _without(key, Reply(error.code, b""))
    except urllib.error.URLError as error:
        return Unreadable(f"{base} cannot be reached: {error.reason}".replace(key, "***"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Unreadable(f"{base} cannot be reached: {type(error).__name__} {error}".replace(key, "***"))


def _without(key: str, reply: Reply) -> Reply:
    return Reply(reply.status, reply.body.replace(key.encode(), b"***"))
