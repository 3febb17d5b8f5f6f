"""Update workers.yaml to match Vast.ai: one list, then every running machine is asked to identify itself.

Nothing is changed because of what is unknown, and of a worker only its address, status and price, and `enabled` where
its instance no longer exists.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from skill.common.errors import UseError
from skill.common.project import ProjectPaths
from skill.fleet import drift
from skill.fleet.drift import Identified, Report
from skill.fleet.provider import connect
from skill.hosts import registry
from skill.hosts.connection import Host, Unreachable, known_key, replace_key
from skill.hosts.registry import Registry, Ssh, Worker
from skill.providers.instances import Address, Instance
from skill.providers.outcomes import Gone, Unknown
from skill.providers.provider import Provider

_AT_ONCE = 16
_LOOK = 15.0
_TRIES = 2
# PID 1 of a container has its variables; a session has them only in some images.
_IDENTIFY = """
file=${WAVEQUEUE_PROC:-/proc}/1/environ
{ if [ -r "$file" ]; then tr '\\0' '\\n' < "$file"; else env; fi; } |
    sed -n 's/^CONTAINER_ID=//p; s/^VAST_CONTAINERLABEL=C\\.//p' | head -n 1
"""


class Outcome(NamedTuple):
    """What was found; whether it was written; and workers that look rented but have no instance_id."""

    reports: tuple[Report, ...]
    fixed: bool
    nameless: tuple[str, ...] = ()

    @property
    def consistent(self) -> bool:
        return not self.nameless and not any(report.findings for report in self.reports)

    @property
    def settled(self) -> bool:
        """Whether workers.yaml matches and needs no person."""
        left = [report for report in self.reports if (report.open if self.fixed else report.findings)]
        return not left and not self.nameless


def reconcile(client: Provider, path: Path, *, fix: bool, names: Collection[str] | None = None) -> Outcome | Unknown:
    """Compare workers.yaml with the rented instances, all of them or those of `names`; with `fix`, update it.

    Raises UseError where workers.yaml cannot be read.
    """
    known = Registry.load(path)
    meant = [worker for worker in known.workers.values() if names is None or worker.name in names]
    rented = [worker for worker in meant if worker.instance_id is not None]
    nameless = tuple(worker.name for worker in meant if worker.instance_id is None and _looks_rented(worker))
    if not rented:
        return Outcome((), fix, nameless)
    listed = client.instances()
    if isinstance(listed, Unknown):
        return listed
    live = {one.id: one for one in listed}
    found = {worker.name: _live(client, live, worker.instance_id or 0) for worker in rented}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        identified = list(pool.map(lambda worker: _identified(worker, found[worker.name]), rented))
    keys = ProjectPaths.of(path).known_hosts
    reports = [
        drift.judge(worker, found[worker.name], answers, known_key(keys, worker.name))
        for worker, answers in zip(rented, identified, strict=True)
    ]
    if fix and any(report.patch for report in reports):
        _write(path, reports)
    return Outcome(tuple(reports), fix, nameless)


def reconcile_before(path: Path, names: Collection[str]) -> list[str]:
    """Update the rented workers of workers.yaml before they are used. Returns lines for the user."""
    known = Registry.load(path)
    rented = [name for name in names if name in known.workers and known.workers[name].instance_id is not None]
    if not rented:
        return []
    try:
        client = connect()
    except UseError as error:
        return [f"what workers.yaml says of {', '.join(rented)} could not be compared with Vast.ai: {error}"]
    with contextlib.closing(client):
        found = reconcile(client, path, fix=True, names=rented)
    if isinstance(found, Unknown):
        return [f"unknown whether {', '.join(rented)} are as workers.yaml says: {found.reason}; nothing was changed"]
    lines = [f"{report.worker}: {finding.text}" for report in found.reports for finding in report.findings]
    return [*lines, *(f"{report.worker}: {report.note}" for report in found.reports if report.note)]


def _live(client: Provider, live: dict[int, Instance], number: int) -> Instance | Gone | Unknown:
    """Return an instance. That it no longer exists is believed only if a query for it says so, not only the list."""
    return live[number] if number in live else client.instance(number)


def _identified(worker: Worker, live: Instance | Gone | Unknown) -> list[Identified]:
    """Ask at its addresses, one after the other, until the instance itself answers."""
    found: list[Identified] = []
    for way in drift.to_try(worker, live) if isinstance(live, Instance) else ():
        found.append(identify(worker, way))
        if found[-1].instance_id == worker.instance_id:
            break
    return found


def identify(worker: Worker, way: Address) -> Identified:
    """Ask who answers at an address. No host key is kept, since it may be anybody."""
    folder = Path(tempfile.mkdtemp())
    ssh = worker.ssh
    there = Ssh(way.host, way.port, ssh.user if ssh else "root", ssh.key if ssh else None)
    host = Host(worker._replace(kind="ssh", ssh=there), folder / "known_hosts", _TRIES)
    try:
        result = host.script(_IDENTIFY, timeout=_LOOK, limit=1 << 16)
        key = known_key(folder / "known_hosts", worker.name)
    finally:
        host.close()
        shutil.rmtree(folder, ignore_errors=True)
    if isinstance(result, Unreachable):
        return Identified(way, key=key, fault=result.reason)
    text = result.out.decode("ascii", "replace").strip()
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    return Identified(way, number, key)


def _write(path: Path, reports: Sequence[Report]) -> None:
    """Update workers.yaml. A worker that meanwhile has another instance_id is not changed."""
    keys = ProjectPaths.of(path).known_hosts
    with registry.changed(path) as known:
        for report in reports:
            worker = known.workers.get(report.worker)
            if worker is None or worker.instance_id != report.instance_id or not report.patch:
                continue
            # The key first: killed in between, the old address with the new key is refused, and mended next time.
            if report.key is not None:
                replace_key(keys, report.worker, report.key)
            known.patch(report.worker, report.patch)


def _looks_rented(worker: Worker) -> bool:
    return worker.ssh is not None and worker.ssh.host.endswith(".vast.ai")
