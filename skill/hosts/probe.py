"""Check hosts: whether SSH login works, their health, and the host key that they show."""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from skill.common.errors import FailedError
from skill.hosts import bootstrap, rsync_route
from skill.hosts.connection import Host, Unreachable, each, known_key, remote
from skill.hosts.health import ProbeResult, plain
from skill.hosts.registry import Worker

PATIENCE = 45.0
"""Seconds for one host to be checked; one that is slower is unreachable for this time."""
TRIES = 2
_LOOK = 30.0


def try_login(host: Host, *, by_rsync: bool = False) -> str | None:
    """Log in to a host once; with `by_rsync` also as rsync does. Returns why that was not possible, or None."""
    try:
        result = host.run(["true"], timeout=_LOOK)
        if isinstance(result, Unreachable):
            return plain(result.reason)
        if result.code != 0:
            return f"its shell runs no command (exit code {result.code})"
        fault = rsync_route.fault(host) if by_rsync else None
        return None if fault is None else plain(fault)
    finally:
        host.close()


def shown_key(worker: Worker) -> tuple[str | None, str | None]:
    """Return the key that a host shows, if any; and why the login failed, or None. Keeps nothing."""
    folder = Path(tempfile.mkdtemp())
    try:
        fault = try_login(Host(worker, folder / "known_hosts", TRIES))
        return known_key(folder / "known_hosts", worker.name), fault
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def probe_all(hosts: Sequence[Host]) -> dict[str, ProbeResult]:
    """Probe all hosts at once. One that is down delays no other; nothing is left on them."""
    try:
        found = each(hosts, _probe, PATIENCE)
    finally:
        for host in hosts:
            host.close()
    probed = {name: ProbeResult(one) if isinstance(one, Unreachable) else one for name, one in found.items()}
    return {host.name: probed[host.name]._replace(openssh=host.through(), is_quiet=host.is_quiet) for host in hosts}


def _probe(host: Host) -> ProbeResult:
    facts = bootstrap.facts(host, None)
    if isinstance(facts, Unreachable) or facts.python is None:
        return ProbeResult(facts)
    try:
        bundle = bootstrap.bundle_for(facts)
    except FailedError as error:
        return ProbeResult(facts, why=str(error))
    workspace = posixpath.join(facts.home, remote(host.worker.workspace or "~"))
    asked = time.time()
    result = bootstrap.in_passing(host, facts, bundle, "probe", "--path", workspace, timeout=_LOOK)
    answered = time.time()
    if isinstance(result, Unreachable):
        return ProbeResult(result)
    if result.code != 0:
        return ProbeResult(facts, why=result.why)
    return ProbeResult(facts, result.out, "", asked, answered)
