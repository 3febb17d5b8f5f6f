"""Share a host with others by its AGENT_STATUS.json: who is there, and what GPU memory each was promised."""

from __future__ import annotations

from typing import Any, NamedTuple

from skill.common.errors import UseError
from skill.common.project import locate_workers
from skill.hosts import agents, registry
from skill.hosts.registry import Registry


class Registration(NamedTuple):
    """An agent to be registered, or renewed. `gpu` None: the GPU with the most room; `expires_s` None: 15 minutes."""

    id: str
    experiment: str = ""
    gpu_gb: float = 0.0
    gpu: int | None = None
    expires_s: float | None = None


def list_agents(name: str) -> list[dict[str, Any]]:
    """The agents of a host. Raises UseError and FailedError."""
    return _ask(name)


def register_agent(name: str, wanted: Registration) -> list[dict[str, Any]]:
    """Register an agent on a host, or renew one; the agents then. Raises UseError, and FailedError where the host has
    not so much GPU memory left."""
    arguments = ["--register", wanted.id, "--experiment", wanted.experiment, "--gpu-gb", repr(wanted.gpu_gb)]
    arguments += [] if wanted.gpu is None else ["--gpu", str(wanted.gpu)]
    arguments += [] if wanted.expires_s is None else ["--expires", repr(wanted.expires_s)]
    return _ask(name, *arguments)


def end_agent(name: str, agent: str) -> list[dict[str, Any]]:
    """Say of an agent that it is done; the agents then. Raises UseError and FailedError."""
    return _ask(name, "--done", agent)


def _ask(name: str, *arguments: str) -> list[dict[str, Any]]:
    if any(one.startswith("-") for one in arguments[1::2]):
        raise UseError("an id, and what an agent works on, may not begin with -")
    where = locate_workers()
    return agents.ask(registry.connect(Registry.load(where).named(name), where), arguments)
