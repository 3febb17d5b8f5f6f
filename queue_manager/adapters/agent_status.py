"""AGENT_STATUS.json of this host: read, and written whole. Whoever changes it holds the lock of the GPUs."""

from __future__ import annotations

from collections.abc import Iterable

from queue_manager.adapters.files import make_directory, write_whole
from queue_manager.adapters.regular import read_regular
from queue_manager.core import agents
from queue_manager.core.agents import MOST_BYTES, Agent, AgentsError
from queue_manager.core.layout import HostPaths
from queue_manager.core.readings import Unreadable


def read(host: HostPaths) -> list[Agent] | Unreadable:
    """The agents; none where there is no file."""
    try:
        return agents.decode(read_regular(host.agents, MOST_BYTES))
    except FileNotFoundError:
        return []
    except OSError as error:
        return Unreadable(f"{host.agents} cannot be read: {error.strerror}")
    except AgentsError as error:
        return Unreadable(f"{host.agents} {error}; repair it or remove it")


def write(host: HostPaths, found: Iterable[Agent]) -> None:
    """Replace the file. Raises OSError."""
    make_directory(host.root)
    write_whole(host.agents, [agents.encode(found).encode()])
