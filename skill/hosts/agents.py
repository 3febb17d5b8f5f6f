"""Show and change the agents that share a host by its AGENT_STATUS.json, as queue_manager.remote.agents lists them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypedDict

from skill.common import typed_json
from skill.common.errors import FailedError
from skill.common.typed_json import Bounds
from skill.hosts import bootstrap
from skill.hosts.connection import Host, Unreachable
from skill.hosts.health import plain

_MOST = 4 << 20
_PATIENCE = 45.0
_Text = Annotated[str, Bounds(max_length=1000)]
_Number = Annotated[float, Bounds(ge=0, le=1e9)]


class Agent(TypedDict):
    """One agent; `heartbeat_s`: seconds since its last heartbeat, by the clock of the host."""

    id: _Text
    experiment: _Text
    gpu_gb: _Number
    gpu: int | None
    status: Literal["running", "done", "stale"]
    started: _Text
    heartbeat: _Text
    heartbeat_s: _Number
    expires_s: _Number


class _Document(TypedDict):
    agents: list[Agent]


def ask(host: Host, arguments: Sequence[str]) -> list[dict[str, Any]]:
    """Show the agents of a host, or change them by `arguments`. Raises FailedError, with the host's own message if it
    refuses."""
    try:
        facts = bootstrap.facts(host, None)
        if isinstance(facts, Unreachable):
            raise FailedError(f"{host.name} is unreachable: {plain(facts.reason)}")
        if facts.python is None:
            raise FailedError(f"{host.name}: {plain(facts.why_no_python)}")
        result = bootstrap.in_passing(host, facts, bootstrap.bundle_for(facts), "agents", *arguments, timeout=_PATIENCE)
    finally:
        host.close()
    if isinstance(result, Unreachable):
        raise FailedError(f"{host.name} is unreachable: {plain(result.reason)}")
    try:
        found = typed_json.decode(result.out, _MOST)
    except typed_json.DocumentError:
        raise FailedError(f"{host.name}: its agents could not be read: {result.why}") from None
    if isinstance(found, dict) and isinstance(found.get("fault"), str):
        raise FailedError(f"{host.name}: {plain(found['fault'])}")
    words = typed_json.fits(found, _Document)
    if words is not None:
        raise FailedError(f"{host.name}: its agents could not be read: {words}")
    agents: list[dict[str, Any]] = found["agents"]
    return [{key: plain(value) if isinstance(value, str) else value for key, value in one.items()} for one in agents]
