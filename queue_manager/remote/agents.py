"""`python -m queue_manager.remote.agents [--register ID | --done ID]`: AGENT_STATUS.json of this host, as one JSON
document: {"agents": [...]}, or {"fault": TEXT}."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from queue_manager.adapters import agent_status, gpus, host, host_place
from queue_manager.adapters.arguments import make_parser
from queue_manager.adapters.leases import Leases
from queue_manager.core import agents
from queue_manager.core.agents import DONE, EXPIRES, Agent, AgentsError
from queue_manager.core.events import Proc
from queue_manager.core.layout import HostPaths, id_fault
from queue_manager.core.readings import Card, Cards, Unreadable
from queue_manager.core.times import iso

_PATIENCE = 20.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the document. 0; 1 with a fault; 2 for wrong use."""
    parser = make_parser("queue_manager.remote.agents", "Show and change agents in JSON.")
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--register", metavar="ID", help="register this agent, or renew it")
    change.add_argument("--done", metavar="ID", help="say that this agent is done")
    parser.add_argument("--experiment", default="", help="what it works on")
    parser.add_argument("--gpu-gb", type=float, default=0.0, help="memory of a GPU that it is promised, in GB")
    parser.add_argument("--gpu", type=int, help="index of that GPU (default: the one with the most room)")
    parser.add_argument("--expires", type=float, default=EXPIRES, help="seconds without a heartbeat that end it")
    options = parser.parse_args(arguments)
    try:
        found = _change(host_place.here(), options)
    except (AgentsError, OSError) as error:
        print(json.dumps({"fault": str(error)}))
        return 1
    now = time.time()
    print(json.dumps({"agents": [_row(one, now) for one in found]}, ensure_ascii=False))
    return 0


def _change(paths: HostPaths, options: argparse.Namespace) -> list[Agent]:
    """What the file has, after what was asked for. Raises AgentsError and OSError."""
    name = options.register or options.done
    if name is None:
        return agents.expired(_read(paths), time.time())
    fault = id_fault(name)
    if fault:
        raise AgentsError(f"the id {name!r} {fault}")
    if not 0 <= options.gpu_gb < 1e5 or not 1 <= options.expires < 1e7:
        raise AgentsError("--gpu-gb has to be at least 0, and --expires at least 1 s")
    cards = _cards() if options.register and options.gpu_gb else ()  # NVML may take long: not under the lock
    with _locked(paths) as lock:
        given = lock.foreign()
        if isinstance(given, Unreadable):
            raise AgentsError(given.reason)
        runs = [one for one in given if not one.is_agent]
        now, found = time.time(), _read(paths)
        if options.done:
            if all(one.id != name for one in found):
                raise AgentsError(f"there is no agent {name}")
            changed = [one._replace(status=DONE, heartbeat=now) if one.id == name else one for one in found]
            changed = agents.expired(changed, now)
        else:
            new = Agent(name, options.experiment, options.gpu_gb, expires_s=options.expires, gpu=options.gpu)
            changed = agents.registered(found, new, cards, runs, now)
        agent_status.write(paths, changed)
    return changed


@contextlib.contextmanager
def _locked(paths: HostPaths) -> Iterator[Leases]:
    """Hold the lock of the GPUs, for which many may wait at once."""
    leases, until = Leases(paths, "", "", host.boot_id(), Proc(os.getpid(), 0)), time.monotonic() + _PATIENCE
    while True:
        with leases as lock:
            if lock.locked or time.monotonic() > until:
                yield lock
                return


def _read(paths: HostPaths) -> list[Agent]:
    found = agent_status.read(paths)
    if isinstance(found, Unreadable):
        raise AgentsError(found.reason)
    return found


def _cards() -> tuple[Card, ...]:
    try:
        from queue_manager.adapters import nvml as _is_there  # noqa: F401 - a host may be asked before it has libraries
    except ImportError as error:
        raise AgentsError(f"{sys.executable} has no nvidia-ml-py: {error}") from None
    found = gpus.Nvml(os.environ).read()
    if not isinstance(found, Cards):
        raise AgentsError(f"the GPUs cannot be read: {found.reason}")
    return found.cards


def _row(agent: Agent, now: float) -> dict[str, Any]:
    times = {"started": iso(agent.started), "heartbeat": iso(agent.heartbeat)}
    return {**agent._asdict(), **times, "heartbeat_s": max(0.0, now - agent.heartbeat)}


if __name__ == "__main__":
    sys.exit(main())
