"""Compare workers.yaml with the rented machines: findings, and the fields that would correct them. Pure.

An address is believed only where the machine that answers there says that it is the instance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from skill.hosts.connection import fingerprint
from skill.hosts.registry import Worker
from skill.providers.instances import Address, Instance, addresses
from skill.providers.outcomes import Gone, Unknown

STATUS, PRICE, DISK = "health.status", "resources.dph", "resources.storage_dph"
"""The fields of a worker that hold its last known status, its price in $ per hour, and that of its disk alone."""
GONE = "gone"
_CENTS, _DISK_CENTS = 4, 6
_SSH_PORT = 22


class Identified(NamedTuple):
    """What answered at an address: which instance it says it is, the host key that it showed, and why it could not be
    asked."""

    address: Address
    instance_id: int | None = None
    key: str | None = None
    fault: str | None = None


class Finding(NamedTuple):
    """One difference from workers.yaml. `kind`: address, status, price, gone, back, host_key, unreachable, foreign or
    unknown."""

    kind: str
    text: str


class Report(NamedTuple):
    """One worker. `patch`: fields of workers.yaml that would correct it. `key`: a host key to keep from now on.

    `note`: a remark although nothing is wrong.
    """

    worker: str
    instance_id: int
    findings: tuple[Finding, ...] = ()
    patch: Mapping[str, Any] = {}
    key: str | None = None
    note: str = ""

    @property
    def open(self) -> tuple[Finding, ...]:
        """Findings that the patch does not correct."""
        refreshed = {"address", "status", "price", GONE, "back"}
        return tuple(finding for finding in self.findings if finding.kind not in refreshed)


def to_try(worker: Worker, live: Instance) -> tuple[Address, ...]:
    """Return the addresses at which a running instance is asked to identify itself, in this order: the registered one,
    if Vast.ai still shows it; then the direct one; then the proxy."""
    if live.status != "running":
        return ()
    ways = addresses(live)
    return tuple(sorted(ways, key=lambda way: not _is_registered(worker, way)))


def judge(
    worker: Worker, live: Instance | Gone | Unknown, identified: Sequence[Identified], kept_key: str | None
) -> Report:
    """Judge a worker. `identified`: the answers at the addresses that were tried."""
    assert worker.instance_id is not None
    report = Report(worker.name, worker.instance_id)
    if isinstance(live, Unknown):
        return report._replace(findings=(Finding("unknown", f"unknown: {live.reason}"),))
    if isinstance(live, Gone):
        return _gone(worker, report)
    findings: list[Finding] = []
    patch: dict[str, Any] = {}
    status = worker.health.get("status")
    if not worker.enabled and status == GONE:
        findings.append(Finding("back", "exists again, but was disabled as gone"))
        patch["enabled"] = True
    if live.status != status:
        findings.append(Finding("status", f"is {live.status}, but workers.yaml says {status or 'nothing'}"))
        patch[STATUS] = live.status
    price = worker.resources.get("dph")
    if live.dph is not None and not _is_price(price, live.dph):
        says = f"${price:.4f}" if _is_number(price) else "nothing"
        findings.append(Finding("price", f"costs ${live.dph:.4f} an hour, but workers.yaml says {says}"))
        patch[PRICE] = round(live.dph, _CENTS)
    disk = worker.resources.get("storage_dph")
    if live.storage_dph is not None and not _is_price(disk, live.storage_dph, 1e-6):
        says = f"${disk:.6f}" if _is_number(disk) else "nothing"
        findings.append(
            Finding("price", f"its disk costs ${live.storage_dph:.6f} an hour, but workers.yaml says {says}")
        )
        patch[DISK] = round(live.storage_dph, _DISK_CENTS)
    report = report._replace(findings=tuple(findings), patch=patch, note=_note(live))
    return _address(worker, report, identified, kept_key) if live.status == "running" else report


def is_known_gone(worker: Worker) -> bool:
    """Return whether workers.yaml says that its instance no longer exists."""
    return not worker.enabled and worker.health.get("status") == GONE


def _gone(worker: Worker, report: Report) -> Report:
    if is_known_gone(worker):
        return report._replace(note=f"no longer exists; remove it: wavequeue hosts remove {worker.name}")
    finding = Finding(GONE, f"instance {worker.instance_id} no longer exists")
    return report._replace(findings=(finding,), patch={"enabled": False, STATUS: GONE})


def _address(worker: Worker, report: Report, identified: Sequence[Identified], kept_key: str | None) -> Report:
    own = next((one for one in identified if one.instance_id == worker.instance_id), None)
    if own is None:
        return report._replace(findings=(*report.findings, _nowhere(worker, identified)))
    is_new_key = kept_key is not None and own.key is not None and own.key != kept_key
    keys = f"{fingerprint(kept_key)}, now {fingerprint(own.key)}" if is_new_key and kept_key and own.key else ""
    if _is_registered(worker, own.address):
        if not is_new_key:
            return report
        words = (
            f"has another host key than the stored one, at the same address (was {keys}); if you know why, "
            f"accept it: wavequeue hosts accept {worker.name}"
        )
        return report._replace(findings=(*report.findings, Finding("host_key", words)))
    old = _place(worker.ssh.host, worker.ssh.port or _SSH_PORT) if worker.ssh is not None else "none"
    text = f"listens at {_place(own.address.host, own.address.port)} ({own.address.way}), but workers.yaml says {old}"
    if is_new_key:
        text += f"; its host key is another one, too (was {keys})"
    return report._replace(
        findings=(*report.findings, Finding("address", text)),
        patch={**report.patch, "ssh.host": own.address.host, "ssh.port": own.address.port},
        key=own.key if is_new_key else None,
    )


def _nowhere(worker: Worker, identified: Sequence[Identified]) -> Finding:
    """Say why no address is trusted."""
    if not identified:
        return Finding("unreachable", "is running, but Vast.ai gives no address of it yet; try again in a minute")
    foreign = [one for one in identified if one.instance_id is not None]
    if foreign:
        one = foreign[0]
        where = _place(one.address.host, one.address.port)
        text = f"{where} leads to instance {one.instance_id}, not {worker.instance_id}: its address is not used"
        return Finding("foreign", text)
    why = "; ".join(f"{one.address.way}: {one.fault or 'it does not identify itself'}" for one in identified)
    return Finding("unreachable", f"is running, but the login failed: {why}")


def _note(live: Instance) -> str:
    if live.status == "running":
        return ""
    storage = "" if live.storage_dph is None else f" (${live.storage_dph:.4f} an hour)"
    if live.status == "stopped":
        return f"is stopped: its disk is still billed{storage} until it is destroyed"
    words = f": {live.status_msg}" if live.status_msg else ""
    return f"is {live.status}{words}"


def _is_registered(worker: Worker, way: Address) -> bool:
    ssh = worker.ssh
    return ssh is not None and (ssh.host, ssh.port or _SSH_PORT) == (way.host, way.port)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_price(written: Any, live: float, apart: float = 1e-4) -> bool:
    return _is_number(written) and abs(written - live) < apart


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
