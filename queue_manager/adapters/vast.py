"""The part of Vast.ai's API that an instance needs to end itself: build requests and parse answers. `vast_send` sends
them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from queue_manager.core.machine import Container, parse_container
from queue_manager.core.readings import Unreadable

SERVER = "https://console.vast.ai"
_GONE = ("no_such_instance", "not_found")


class Call(NamedTuple):
    """One request. `body`: JSON, None for none."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


class Reply(NamedTuple):
    status: int
    body: bytes


def container(environment: Mapping[str, str]) -> Container | Unreadable:
    """Return what process 1 knows of its instance; read again at each use, so that the key is stored nowhere else.

    `environment`: ours; WAVEQUEUE_PROC in it stands for /proc.
    """
    path = Path(environment.get("WAVEQUEUE_PROC") or "/proc") / "1" / "environ"
    try:
        return parse_container(path.read_bytes())
    except OSError as error:
        return Unreadable(f"{path}: {error.strerror}")


def server(environment: Mapping[str, str]) -> str:
    """Return the URL of the API."""
    return (environment.get("VAST_URL") or SERVER).rstrip("/")


def build_end(plan: str, instance: int) -> Call:
    """Build the request that stops or destroys the instance."""
    path = f"/api/v0/instances/{instance}/"
    return Call("PUT", path, {"state": "stopped"}) if plan == "stop" else Call("DELETE", path, {})


def build_query(instance: int) -> Call:
    """Build the request for one instance by its id."""
    return Call("GET", f"/api/v0/instances/{instance}/?owner=me")


def parse_end(reply: Reply) -> str | None:
    """Return why the request failed, in words; None if it succeeded, or the instance no longer exists."""
    data = _object(reply)
    if _gone(reply, data) or (reply.status == 200 and data is not None and data.get("success") is True):
        return None
    return _complaint(reply, data)


def key_refused(reply: Reply) -> bool:
    """Return whether the answer says that the key is invalid."""
    data = _object(reply)
    return reply.status == 401 or (data is not None and data.get("error") == "auth_error")


def parse_query(reply: Reply, plan: str) -> bool | Unreadable:
    """Return whether the instance is in the state that the plan (stop, destroy) wants. One that no longer exists counts
    as stopped."""
    data = _object(reply)
    if _gone(reply, data):
        return True
    if reply.status != 200 or data is None or "instances" not in data:
        return Unreadable(_complaint(reply, data))
    row = data["instances"]
    if row is None or row == []:
        return True
    if isinstance(row, list):
        row = row[0]
    if not isinstance(row, dict):
        return Unreadable(_complaint(reply, data))
    # What is meant counts: a stopped instance whose start is queued would be billed again at any moment.
    return plan == "stop" and (row.get("intended_status") or row.get("cur_state")) == "stopped"


def _object(reply: Reply) -> dict[str, Any] | None:
    try:
        data = json.loads(reply.body)
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def _gone(reply: Reply, data: dict[str, Any] | None) -> bool:
    # A 404 alone does not say so: a wrong key, or a proxy on the way, answers with it as well.
    return reply.status in (404, 410) and data is not None and data.get("error") in _GONE


def _complaint(reply: Reply, data: dict[str, Any] | None) -> str:
    message = reply.body.decode(errors="replace") if data is None else data.get("msg") or data.get("message")
    words = " ".join(str(message or (data or {}).get("error") or "").split())[:160]
    return f"Vast.ai answered {reply.status}" + (f": {words}" if words else "")
