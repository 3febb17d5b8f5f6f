"""What hosts answer when they are asked one by one: whether SSH login works, how they are, and which key they show."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from skill.common.errors import FailedError
from skill.hosts import bootstrap
from skill.hosts.connection import Host, Unreachable, each, known_key, remote
from skill.hosts.health import Heard, plain
from skill.hosts.registry import Worker

PATIENCE = 45.0
"""Seconds for one host to be checked; one that is slower is unreachable for this time."""
TRIES = 2
_LOOK = 30.0


def let_in(host: Host) -> str | None:
    """Enter a host once. Returns why that was not possible, or None."""
    try:
        said = host.run(["true"], timeout=_LOOK)
    finally:
        host.close()
    if isinstance(said, Unreachable):
        return plain(said.reason)
    return None if said.code == 0 else f"its shell runs no command (exit code {said.code})"


def shown_key(worker: Worker) -> tuple[str | None, str | None]:
    """The key that a host shows, None if it shows none; and why it could not be entered, or None. Keeps nothing."""
    folder = Path(tempfile.mkdtemp())
    try:
        fault = let_in(Host(worker, folder / "known_hosts", TRIES))
        return known_key(folder / "known_hosts", worker.name), fault
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hear(hosts: Sequence[Host]) -> dict[str, Heard]:
    """Ask all hosts at once how they are. A dead one delays nobody; nothing is left on them."""
    try:
        found = each(hosts, _hear, PATIENCE)
    finally:
        for host in hosts:
            host.close()
    heard = {name: Heard(one) if isinstance(one, Unreachable) else one for name, one in found.items()}
    return {host.name: heard[host.name]._replace(openssh=host.through(), is_quiet=host.is_quiet) for host in hosts}


def _hear(host: Host) -> Heard:
    facts = bootstrap.facts(host, None)
    if isinstance(facts, Unreachable) or facts.python is None:
        return Heard(facts)
    try:
        bundle = bootstrap.bundle_for(facts)
    except FailedError as error:
        return Heard(facts, why=str(error))
    workspace = posixpath.join(facts.home, remote(host.worker.workspace or "~"))
    asked = time.time()
    said = bootstrap.in_passing(host, facts, bundle, "probe", "--path", workspace, timeout=_LOOK)
    answered = time.time()
    if isinstance(said, Unreachable):
        return Heard(said)
    if said.code != 0:
        return Heard(facts, why=said.why)
    return Heard(facts, said.out, "", asked, answered)
