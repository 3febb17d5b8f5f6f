"""Rows of Vast.ai as types: instances, offers, the user. Pure. All but an id may be missing, null or of a wrong type:
it is then None, which means unknown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from skill.common.errors import UseError
from skill.hosts import address
from skill.providers.vast.responses import line

HOURS_PER_MONTH = 720
"""By which Vast.ai divides the monthly price of storage."""
STOPPED, RUNNING, OFFLINE = "stopped", "running", "offline"


class Instance(NamedTuple):
    """What is rented. Prices in $ per hour, `disk_gb` in GB, times in seconds since 1970.

    `dph`: of all of it while it runs; `storage_dph`: of its disk, which is billed in every state but offline.
    `ssh_port_direct`: where its port 22 is on `public_ipaddr`, while it runs.
    """

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    label: str | None = None
    num_gpus: int | None = None
    gpu_name: str | None = None
    gpu_ram_mib: float | None = None
    actual_status: str | None = None
    cur_state: str | None = None
    intended_status: str | None = None
    next_state: str | None = None
    status_msg: str | None = None
    is_bid: bool | None = None
    ssh_host: str | None = None
    ssh_port: int | None = None
    public_ipaddr: str | None = None
    ssh_port_direct: int | None = None
    runtype: str | None = None
    dph: float | None = None
    storage_dph: float | None = None
    disk_gb: float | None = None
    dlperf: float | None = None
    start_date: float | None = None
    end_date: float | None = None
    geolocation: str | None = None

    @property
    def status(self) -> str:
        """Its state in one word: that of Vast.ai, but `scheduling` where it waits for a card, and `stopped` for all
        that bills its disk alone."""
        if self.cur_state == STOPPED:
            if self.intended_status != RUNNING:
                return STOPPED
            return "created" if self.actual_status == "created" else "scheduling"
        if self.actual_status is None:
            return "provisioning"
        return STOPPED if self.actual_status == "exited" and self.intended_status == STOPPED else self.actual_status

    @property
    def burn(self) -> float | None:
        """$ per hour that it costs now, without traffic; None where that is not known."""
        status = self.status
        if status == OFFLINE:
            return 0.0
        return self.storage_dph if status in _DISK_ONLY else self.dph

    @property
    def cards(self) -> str:
        """Its GPUs in words, as 2x RTX 4090."""
        if self.num_gpus == 0:
            return "no GPU"
        return f"{self.num_gpus}x {self.gpu_name}" if self.num_gpus and self.gpu_name else self.gpu_name or "?"


_DISK_ONLY = frozenset({STOPPED, "scheduling", "provisioning", "created", "loading"})


class Offer(NamedTuple):
    """What can be rented. Prices in $ per hour, of storage in $ per GB and month, of traffic in $ per GB; `dph_base`
    is without the disk. `dlperf` is that of all its cards; `duration` seconds for which it can be had."""

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    num_gpus: int | None = None
    gpu_name: str | None = None
    gpu_ram_mib: float | None = None
    cpu_cores: float | None = None
    cpu_ram_mib: float | None = None
    cpu_arch: str | None = None
    disk_gb: float | None = None
    dph: float | None = None
    dph_base: float | None = None
    storage_dph: float | None = None
    storage_cost: float | None = None
    inet_up: float | None = None
    inet_down: float | None = None
    inet_up_cost: float | None = None
    inet_down_cost: float | None = None
    dlperf: float | None = None
    reliability: float | None = None
    verification: str | None = None
    rentable: bool | None = None
    duration: float | None = None
    cuda: float | None = None
    direct_ports: int | None = None
    static_ip: bool | None = None
    geolocation: str | None = None

    @property
    def cards(self) -> str:
        """Its GPUs in words, as 2x RTX 4090."""
        if self.num_gpus == 0:
            return "no GPU"
        return f"{self.num_gpus}x {self.gpu_name}" if self.num_gpus and self.gpu_name else self.gpu_name or "?"


class User(NamedTuple):
    """Whose key it is. `credit` in $."""

    id: int | None = None
    email: str | None = None
    credit: float | None = None


class Address(NamedTuple):
    """Where an instance listens for ssh. `way`: direct, or proxy by a server of Vast.ai."""

    way: str
    host: str
    port: int


def instance(row: Mapping[str, Any]) -> Instance | None:
    """An instance; None where the row has no id."""
    number = _id(row.get("id"))
    if number is None:
        return None
    disk, monthly, hourly = amount(row, "disk_space"), amount(row, "storage_cost"), amount(row, "storage_total_cost")
    if hourly is None and disk is not None and monthly is not None:
        hourly = disk * monthly / HOURS_PER_MONTH
    return Instance(
        number,
        machine_id=whole(row.get("machine_id")),
        host_id=whole(row.get("host_id")),
        label=text(row, "label"),
        num_gpus=whole(row.get("num_gpus")),
        gpu_name=text(row, "gpu_name"),
        gpu_ram_mib=amount(row, "gpu_ram"),
        actual_status=text(row, "actual_status"),
        cur_state=text(row, "cur_state"),
        intended_status=text(row, "intended_status"),
        next_state=text(row, "next_state"),
        status_msg=text(row, "status_msg"),
        is_bid=flag(row, "is_bid"),
        ssh_host=text(row, "ssh_host"),
        ssh_port=_port(row.get("ssh_port")),
        public_ipaddr=text(row, "public_ipaddr"),
        ssh_port_direct=_direct(row.get("ports")),
        runtype=text(row, "image_runtype"),
        dph=amount(row, "dph_total"),
        storage_dph=hourly,
        disk_gb=disk,
        dlperf=amount(row, "dlperf"),
        start_date=amount(row, "start_date"),
        end_date=amount(row, "end_date"),
        geolocation=text(row, "geolocation"),
    )


def offer(row: Mapping[str, Any]) -> Offer | None:
    """An offer; None where the row has no id."""
    number = _id(row.get("ask_contract_id"))
    number = _id(row.get("id")) if number is None else number
    if number is None:
        return None
    reliability = amount(row, "reliability")
    return Offer(
        number,
        machine_id=whole(row.get("machine_id")),
        host_id=whole(row.get("host_id")),
        num_gpus=whole(row.get("num_gpus")),
        gpu_name=text(row, "gpu_name"),
        gpu_ram_mib=amount(row, "gpu_ram"),
        cpu_cores=amount(row, "cpu_cores_effective"),
        cpu_ram_mib=amount(row, "cpu_ram"),
        cpu_arch=text(row, "cpu_arch"),
        disk_gb=amount(row, "disk_space"),
        dph=amount(row, "dph_total"),
        dph_base=amount(row, "dph_base"),
        storage_dph=amount(row, "storage_total_cost"),
        storage_cost=amount(row, "storage_cost"),
        inet_up=amount(row, "inet_up"),
        inet_down=amount(row, "inet_down"),
        inet_up_cost=amount(row, "inet_up_cost"),
        inet_down_cost=amount(row, "inet_down_cost"),
        dlperf=amount(row, "dlperf"),
        reliability=amount(row, "reliability2") if reliability is None else reliability,
        verification=text(row, "verification"),
        rentable=flag(row, "rentable"),
        duration=amount(row, "duration"),
        cuda=amount(row, "cuda_max_good"),
        direct_ports=whole(row.get("direct_port_count")),
        static_ip=flag(row, "static_ip"),
        geolocation=text(row, "geolocation"),
    )


def user(row: Mapping[str, Any]) -> User:
    """Whose key it is."""
    credit = amount(row, "credit")
    return User(whole(row.get("id")), text(row, "email"), amount(row, "balance") if credit is None else credit)


def addresses(found: Instance) -> tuple[Address, ...]:
    """Where an instance may be entered: direct first. Empty where Vast.ai does not say."""
    ways = []
    if found.public_ipaddr and found.ssh_port_direct:
        ways.append(Address("direct", found.public_ipaddr, found.ssh_port_direct))
    if found.ssh_host and found.ssh_port:
        # The port beside the one that is told is Jupyter's.
        port = found.ssh_port + ("jupyter" in (found.runtype or ""))
        ways.append(Address("proxy", found.ssh_host, port))
    return tuple(way for way in ways if _is_host(way))


def _is_host(way: Address) -> bool:
    host = f"[{way.host}]" if ":" in way.host else way.host
    try:
        return address.parse(f"root@{host}:{way.port}").host == way.host
    except UseError:
        return False


def _direct(ports: Any) -> int | None:
    places = ports.get("22/tcp") if isinstance(ports, dict) else None
    if not isinstance(places, list):
        return None
    found = (_port(place.get("HostPort")) for place in places if isinstance(place, dict))
    return next((port for port in found if port is not None), None)


def _port(value: Any) -> int | None:
    found = whole(value)
    return found if found is not None and 1 <= found <= 65535 else None


def _id(value: Any) -> int | None:
    """A number by which something can be asked for."""
    found = whole(value)
    return found if found is not None and 0 < found < 1 << 63 else None


def whole(value: Any) -> int | None:
    """A whole number, also where it is written as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def amount(row: Mapping[str, Any], key: str) -> float | None:
    """A finite number that is not below 0."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def text(row: Mapping[str, Any], key: str) -> str | None:
    """A text in one line that harms no terminal; None where it says nothing."""
    value = row.get(key)
    return (line(value) or None) if isinstance(value, str) else None


def flag(row: Mapping[str, Any], key: str) -> bool | None:
    value = row.get(key)
    return value if isinstance(value, bool) else None
